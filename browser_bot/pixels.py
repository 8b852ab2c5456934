"""What the display shows: a few rows of its pixels, asked of the X server itself.

Eight rows of 720 lie so close that no picture of a participant fits between them. The protocol is X11's, by
hand: a connection, and a request for each row (X Window System Protocol, "Connection Setup" and "GetImage").
"""

import asyncio
import struct
from collections.abc import Sequence
from typing import Final

from browser_bot.display import COOKIE_BYTES, SOCKETS, Display, connection_setup

ROWS: Final = 8
# No channel of what is darker than this is seen as anything but black.
DARK: Final = bytes(range(9))
_GET_IMAGE: Final = 73
_Z_PIXMAP: Final = 2
# The colours alone: what lies in the fourth byte of a pixel is nobody's.
_COLOURS: Final = 0x00FFFFFF
_REPLY: Final = 1
_ERROR: Final = 0


async def rows_of(display: Display, width: int, height: int) -> bytes:
    """Some rows of the region that is recorded, from top to bottom, four bytes for each pixel.

    Raises OSError when the display is gone or refuses; put a time-out around it.
    """
    rows = ((2 * row + 1) * height // (2 * ROWS) for row in range(ROWS))
    return await _regions(display, [(y, width, 1) for y in rows])


async def picture_of(display: Display, width: int, height: int) -> bytes:
    """All of the region that is recorded: four bytes for each pixel, blue, green, red and none.

    Raises OSError when the display is gone or refuses; put a time-out around it.
    """
    return await _regions(display, [(0, width, height)])


async def _regions(display: Display, regions: Sequence[tuple[int, int, int]]) -> bytes:
    """Regions at the left edge: from which row, how wide, how high."""
    cookie = display.authority.read_bytes()[-COOKIE_BYTES:]
    reader, writer = await asyncio.open_unix_connection(SOCKETS / f"X{display.name.removeprefix(':')}")
    try:
        writer.write(connection_setup(cookie))
        root = _root(await _setup(reader))
        for y, width, height in regions:
            writer.write(
                struct.pack("<BBHIhhHHI", _GET_IMAGE, _Z_PIXMAP, 5, root, 0, y, width, height, _COLOURS)
            )
        return b"".join([await _image(reader) for _ in regions])
    except asyncio.IncompleteReadError as error:
        raise ConnectionError("the display was closed") from error
    finally:
        writer.close()


def is_black(rows: bytes) -> bool:
    """Whether there is nothing but black in rows."""
    return not rows.translate(None, DARK)


async def _setup(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(8)
    success, length = head[0], struct.unpack_from("<H", head, 6)[0]
    setup = await reader.readexactly(4 * length)
    if success != 1:
        raise ConnectionError("the display refused the connection")
    return setup


def _root(setup: bytes) -> int:
    """The root window of the first screen: it stands behind the vendor's name and the pixmap formats."""
    vendor, _, _, formats = struct.unpack_from("<HHBB", setup, 16)
    root: int = struct.unpack_from("<I", setup, 32 + vendor + -vendor % 4 + 8 * formats)[0]
    return root


async def _image(reader: asyncio.StreamReader) -> bytes:
    while True:
        head = await reader.readexactly(32)
        if head[0] == _ERROR:
            raise ConnectionError(f"the display answered with the error {head[1]}")
        if head[0] == _REPLY:
            return await reader.readexactly(4 * struct.unpack_from("<I", head, 4)[0])
        # Else it is an event, which has no more than its head.
