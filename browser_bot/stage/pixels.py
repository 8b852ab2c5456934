"""Pixels of the display: a few rows for the observer, or a whole picture.

Eight rows of 720 lie so close that no picture of a participant fits between them. A request for each row (X
Window System Protocol, "GetImage").
"""

import struct
from collections.abc import Sequence
from typing import Final

from browser_bot.stage.display import Display
from browser_bot.stage.x_connection import connected

ROWS: Final = 8
# No channel of what is darker than this is seen as anything but black.
DARK: Final = bytes(range(9))
_GET_IMAGE: Final = 73
_Z_PIXMAP: Final = 2
# The colours alone: what lies in the fourth byte of a pixel is nobody's.
_COLOURS: Final = 0x00FFFFFF


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
        for y, width, height in regions:
            connection.writer.write(
                struct.pack(
                    "<BBHIhhHHI", _GET_IMAGE, _Z_PIXMAP, 5, connection.root, 0, y, width, height, _COLOURS
                )
            )
        return b"".join([(await connection.reply())[1] for _ in regions])


def is_blank(rows: bytes) -> bool:
    """Whether rows have one colour and nothing else, and it is not black."""
    return not is_black(rows) and rows == rows[:4] * (len(rows) // 4)


def is_black(rows: bytes) -> bool:
    """Whether there is nothing but black in rows."""
    return not rows.translate(None, DARK)
