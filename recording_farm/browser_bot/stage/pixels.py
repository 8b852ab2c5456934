"""Grabs pixels of the display: a few rows for the observer, or a whole frame.

Eight rows of 720 are so close together that no participant's video fits between them.
"""

from collections.abc import Sequence
from typing import Final

from xcffib.xproto import ImageFormat

from recording_farm.browser_bot.stage.display import Display
from recording_farm.browser_bot.stage.x_connection import Connection, connected

ROWS: Final = 8
DARK: Final = bytes(range(9))
"""Channel values that look black."""

_COLORS: Final = 0x00FFFFFF
"""Plane mask of the colors; the fourth byte of a pixel is undefined."""

_REPLY_HEAD: Final = 32
"""Length of the header of a reply."""


async def grab_rows(display: Display, width: int, height: int) -> bytes:
    """Return ROWS evenly spaced rows of the recorded region, top to bottom, with four bytes per pixel.

    Raises OSError if the display is gone or refuses. Needs a time-out from the caller.
    """
    rows = ((2 * row + 1) * height // (2 * ROWS) for row in range(ROWS))
    return await _regions(display, [(y, width, 1) for y in rows])


async def grab_picture(display: Display, width: int, height: int) -> bytes:
    """Return the recorded region with four bytes per pixel: blue, green, red, unused.

    Raises OSError if the display is gone or refuses. Needs a time-out from the caller.
    """
    return await _regions(display, [(0, width, height)])


async def _regions(display: Display, regions: Sequence[tuple[int, int, int]]) -> bytes:
    """Return the pixels of regions at the left edge, given as first row, width and height."""
    async with connected(display) as connection:
        return await connection.run(lambda: _read(connection, regions))


def _read(connection: Connection, regions: Sequence[tuple[int, int, int]]) -> bytes:
    xcb = connection.xcb
    # Send all requests before waiting for the first reply.
    requests = [
        xcb.core.GetImage(ImageFormat.ZPixmap, connection.root, 0, y, width, height, _COLORS)
        for y, width, height in regions
    ]
    # `reply()` converts each byte to a number: 80 ms for 1280 x 720, against 2.4 ms here (measured).
    return b"".join(bytes(xcb.wait_for_reply(each.sequence).buf[_REPLY_HEAD:]) for each in requests)


def is_blank(rows: bytes) -> bool:
    """Whether all pixels have the same color, and it is not black."""
    return not is_black(rows) and rows == rows[:4] * (len(rows) // 4)


def is_black(rows: bytes) -> bool:
    """Whether all pixels are black."""
    return not rows.translate(None, DARK)
