"""Connections to a display through xcffib (libxcb), whose calls block.

Calls that wait for the display run in threads. When the caller is cancelled, the socket is shut down, so
libxcb fails and the thread ends.
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
    """An open connection to a display; `xcb` sends requests and receives events.

    Calls that wait for the display are only allowed inside `run`.
    """

    def __init__(self, channel: socket.socket, xcb: xcffib.Connection) -> None:
        """Wrap `xcb`, which owns a duplicate of the socket `channel`."""
        self._channel = channel
        self.xcb = xcb
        self.root: int = xcb.setup.roots[0].root
        """The root window of the first screen."""
        self.descriptor: int = xcb.get_file_descriptor()
        """The file descriptor that becomes readable when events arrive."""

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread.

        Raises OSError if the display is gone or returns an error. Needs a time-out from the caller.
        """
        return await _in_thread(self._channel, work)


@asynccontextmanager
async def connected(display: Display) -> AsyncIterator[Connection]:
    """Connect to the display.

    Raises OSError if it is gone or refuses. Needs a time-out from the caller.
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
    """Connect through a socket, of which libxcb takes ownership.

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
        # Also after a second cancellation: the connection must stay open until the thread ends.
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        raise


def _with_os_errors(work: Callable[[], T]) -> T:
    try:
        return work()
    except xcffib.XcffibException as error:
        raise ConnectionError(f"the display is gone or refused: {type(error).__name__}") from error
