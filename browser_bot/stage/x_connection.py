"""A connection to the display by X11's protocol, by hand (X Window System Protocol, "Connection Setup")."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from browser_bot.stage.display import COOKIE_BYTES, SOCKETS, Display, connection_setup

_REPLY: Final = 1
_ERROR: Final = 0


class Connection(NamedTuple):
    """An open connection, the root window of the first screen, and where the client's identifiers begin."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    root: int
    base: int

    async def reply(self) -> tuple[bytes, bytes]:
        """The next reply: its head of 32 bytes, and what follows. Raises OSError when it is an error."""
        while True:
            head = await self.reader.readexactly(32)
            if head[0] == _ERROR:
                raise ConnectionError(f"the display answered with the error {head[1]}")
            if head[0] == _REPLY:
                return head, await self.reader.readexactly(4 * struct.unpack_from("<I", head, 4)[0])
            # Else it is an event, which has no more than its head.


@asynccontextmanager
async def connected(display: Display) -> AsyncIterator[Connection]:
    """Connect to the display.

    Raises OSError when it is gone or refuses; put a time-out around it.
    """
    cookie = display.authority.read_bytes()[-COOKIE_BYTES:]
    reader, writer = await asyncio.open_unix_connection(SOCKETS / f"X{display.name.removeprefix(':')}")
    try:
        writer.write(connection_setup(cookie))
        setup = await _setup(reader)
        (base,) = struct.unpack_from("<I", setup, 4)
        yield Connection(reader, writer, _root(setup), base)
    except asyncio.IncompleteReadError as error:
        raise ConnectionError("the display was closed") from error
    finally:
        writer.close()


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
