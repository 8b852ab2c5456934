"""Pixels of the display: a few rows for the observer, or a whole picture.

Eight rows of 720 lie so close that no picture of a participant fits between them.
"""

from collections.abc import Sequence
from typing import Final

from xcffib.xproto import ImageFormat

from recording_farm.browser_bot.stage.display import Display
from recording_farm.browser_bot.stage.x_connection import Connection, connected

ROWS: Final = 8
DARK: Final = bytes(range(9))
"""No channel of what is darker than this is seen as anything but black."""

_COLORS: Final = 0x00FFFFFF
"""The colors alone: what lies in the fourth byte of a pixel is nobody's."""

_REPLY_HEAD: Final = 32
"""Bytes of a reply before its data."""


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
    async with connected(display) as connection:
        return await connection.run(lambda: _read(connection, regions))


def _read(connection: Connection, regions: Sequence[tuple[int, int, int]]) -> bytes:
    xcb = connection.xcb
    # All are sent before the first is waited for.
    asked = [
        xcb.core.GetImage(ImageFormat.ZPixmap, connection.root, 0, y, width, height, _COLORS)
        for y, width, height in regions
    ]
    # Not by `reply()`, which makes a number of each byte: 80 ms for 1280 x 720 (measured; this takes 2.4 ms).
    return b"".join(bytes(xcb.wait_for_reply(each.sequence).buf[_REPLY_HEAD:]) for each in asked)


def is_blank(rows: bytes) -> bool:
    """Whether rows have one color and nothing else, and it is not black."""
    return not is_black(rows) and rows == rows[:4] * (len(rows) // 4)


def is_black(rows: bytes) -> bool:
    """Whether there is nothing but black in rows."""
    return not rows.translate(None, DARK)
