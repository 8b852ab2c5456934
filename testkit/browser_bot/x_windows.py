"""Windows of programs other than the browser, on a stage's display."""

import struct

from browser_bot.stage.x_connection import Connection


def window(connection: Connection, number: int, *, is_override_redirect: bool) -> bytes:
    """Requests to make a red window of 200 x 100 and to show it (X protocol, "CreateWindow", "MapWindow")."""
    parent, identity = connection.root, connection.base | number
    back_pixel, override_redirect = 1 << 1, 1 << 9
    head = struct.pack("<BBHIIhhHHHHI", 1, 0, 10, identity, parent, 50, 50, 200, 100, 0, 1, 0)
    values = struct.pack("<III", back_pixel | override_redirect, 0xFF0000, is_override_redirect)
    return head + values + struct.pack("<BxHI", 8, 2, identity)
