"""Parks the display's pointer outside of the recorded region.

An X server starts with the pointer in the middle of the screen. Chromium would sooner or later draw the
element below it as hovered, with its tooltip.
"""

from xcffib import NONE

from recording_farm.browser_bot.stage.display import Display
from recording_farm.browser_bot.stage.x_connection import connected


async def park_pointer(display: Display) -> None:
    """Move the pointer to the lower right corner of the screen, which is larger than the recorded region.

    Raises OSError if the display is gone or refuses. Needs a time-out from the caller.
    """
    right, bottom = display.mode.width - 1, display.mode.height - 1
    async with connected(display) as connection:
        core, root = connection.xcb.core, connection.root
        await connection.run(
            lambda: core.WarpPointer(NONE, root, 0, 0, 0, 0, right, bottom, is_checked=True).check()
        )
