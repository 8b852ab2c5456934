"""Windows of programs other than the browser, on a stage's display."""

import xcffib
from xcffib.xproto import CW, WindowClass

from recording_farm.browser_bot.stage.x_connection import Connection

RED = 0xFF0000
TEAL = 0x008080


def show_window(
    connection: Connection,
    *,
    is_override_redirect: bool,
    parent: int | None = None,
    left_top: tuple[int, int] = (50, 50),
    size: tuple[int, int] = (200, 100),
    color: int = RED,
) -> None:
    """Make a window and show it at once; one with override-redirect passes by window managers."""
    core, window = connection.xcb.core, connection.xcb.generate_id()
    core.CreateWindow(
        xcffib.CopyFromParent,
        window,
        parent or connection.root,
        *left_top,
        *size,
        0,
        WindowClass.InputOutput,
        xcffib.CopyFromParent,
        CW.BackPixel | CW.OverrideRedirect,
        [color, is_override_redirect],
    )
    core.MapWindow(window)
    connection.xcb.flush()
