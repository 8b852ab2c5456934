"""Connections to a display, by xcffib (libxcb), whose calls block.

Calls that wait for the display run in threads. When the caller is cancelled the socket is shut down: libxcb
then finds the display gone, and the thread ends.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TypeVar

import xcffib
import xcffib.xproto

from recording_farm.browser_bot.stage.display import COOKIE_SCHEME, Display

T = TypeVar("T")


class Connection:
    """An open connection to a display; `xcb` has its requests and events.

    Only calls that do not wait for the display may be made outside of `run`.
    """

    def __init__(self, channel: socket.socket, xcb: xcffib.Connection) -> None:
        """Use `xcb`, which has a copy of the socket `channel`."""
        self._channel = channel
        self.xcb = xcb
        self.root: int = xcb.setup.roots[0].root
        """The root window of the first screen."""
        self.descriptor: int = xcb.get_file_descriptor()
        """Readable when events come."""

    async def run(self, work: Callable[[], T]) -> T:
        """Do `work` with this connection in a thread.

        Raises OSError when the display is gone or answers with an error; put a time-out around it.
        """
        return await _in_thread(self._channel, work)


@asynccontextmanager
async def connected(display: Display) -> AsyncIterator[Connection]:
    """Connect to the display.

    Raises OSError when it is gone or refuses; put a time-out around it.
    """
    with socket.socket(socket.AF_UNIX) as channel, ExitStack() as opened:
        channel.setblocking(False)
        await asyncio.get_running_loop().sock_connect(channel, str(display.socket))

        def connect() -> Connection:
            xcb = _connect(channel.dup().detach(), display.cookie)
            opened.callback(xcb.disconnect)
            return Connection(channel, xcb)

        yield await _in_thread(channel, connect)


def _connect(descriptor: int, cookie: bytes) -> xcffib.Connection:
    """Connect by a socket, which is libxcb's from now on.

    xcffib's own `auth` frees name and cookie before libxcb reads them (1.13), and allows no colon in them.
    """
    new = xcffib.ffi.new
    name, data = new("char[]", COOKIE_SCHEME), new("char[]", cookie)
    auth = new("xcb_auth_info_t *", [len(COOKIE_SCHEME), name, len(cookie), data])
    return xcffib.wrap(xcffib.lib.xcb_connect_to_fd(descriptor, auth))


async def _in_thread(channel: socket.socket, work: Callable[[], T]) -> T:
    running = asyncio.get_running_loop().run_in_executor(None, _with_os_errors, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with suppress(OSError):  # the display is gone already
            channel.shutdown(socket.SHUT_RDWR)
        # Also when cancelled once more: nobody may close the connection under the thread.
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        raise


def _with_os_errors(work: Callable[[], T]) -> T:
    try:
        return work()
    except xcffib.XcffibException as error:
        raise ConnectionError(f"the display is gone or refuses: {type(error).__name__}") from error
