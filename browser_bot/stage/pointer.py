"""Moves the display's pointer to where it touches nothing.

An X server puts it into the middle of the screen. There Chromium takes it, sooner or later, for somebody who
points at the page: what lies under it is drawn as it is for that, with its tooltip.
"""

import struct
from typing import Final

from browser_bot.stage.display import Display
from browser_bot.stage.x_connection import connected

_WARP_POINTER: Final = 41
_QUERY_POINTER: Final = 38


async def put_pointer_aside(display: Display) -> None:
    """Put the pointer into the lower right corner of the screen, which is larger than what is recorded.

    Raises OSError when the display is gone or refuses; put a time-out around it.
    """
    right, bottom = display.mode.width - 1, display.mode.height - 1
    async with connected(display) as connection:
        to_root = struct.pack("<BxHIIhhHHhh", _WARP_POINTER, 6, 0, connection.root, 0, 0, 0, 0, right, bottom)
        # An answer to the second tells that the first is done.
        connection.writer.write(to_root + struct.pack("<BxHI", _QUERY_POINTER, 2, connection.root))
        await connection.reply()
