"""Moves the display's pointer to where it touches nothing.

An X server puts it into the middle of the screen. There Chromium takes it, sooner or later, for somebody who
points at the page: what lies under it is drawn as it is for that, with its tooltip.
"""

from xcffib import NONE

from recording_farm.browser_bot.stage.display import Display
from recording_farm.browser_bot.stage.x_connection import connected


async def put_pointer_aside(display: Display) -> None:
    """Put the pointer into the lower right corner of the screen, which is larger than what is recorded.

    Raises OSError when the display is gone or refuses; put a time-out around it.
    """
    right, bottom = display.mode.width - 1, display.mode.height - 1
    async with connected(display) as connection:
        core, root = connection.xcb.core, connection.root
        await connection.run(
            lambda: core.WarpPointer(NONE, root, 0, 0, 0, 0, right, bottom, is_checked=True).check()
        )
