"""The window manager of a stage's display: shows the page's window and hides every other.

Chromium asks the X server to show a window for many things that are no part of a page: file choosers,
popups, pictures in pictures, lists and calendars of form fields, menus, tooltips. Which they are changes
from version to version. So the stage is its display's window manager (X Window System Protocol, "MapWindow"
and SubstructureRedirect): a window that is to be shown waits for it, and only the first one is shown.
Windows that pass by window managers (override-redirect) are made to wait like the others as soon as they are
made; one that was quicker is taken off again, and told to whoever asks, because it may be in the picture.
"""

import asyncio
import logging
import struct
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from browser_bot.stage.display import Display
from browser_bot.stage.x_connection import Connection, connected

logger = logging.getLogger(__name__)

# Requests, events and masks of the X Window System Protocol.
_CHANGE_WINDOW_ATTRIBUTES: Final = 2
_MAP_WINDOW: Final = 8
_UNMAP_WINDOW: Final = 10
_CONFIGURE_WINDOW: Final = 12
_QUERY_POINTER: Final = 38
_EVENT_MASK: Final = 1 << 11
_OVERRIDE_REDIRECT: Final = 1 << 9
_SUBSTRUCTURE_NOTIFY: Final = 1 << 19
_SUBSTRUCTURE_REDIRECT: Final = 1 << 20
_ERROR: Final = 0
_REPLY: Final = 1
_CREATED: Final = 16
_DESTROYED: Final = 17
_UNMAPPED: Final = 18
_MAPPED: Final = 19
_MAP_REQUEST: Final = 20
_CONFIGURE_REQUEST: Final = 23
# Stacking order, sibling, x, y, width, height, border and which of them count ("ConfigureRequest").
_CONFIGURE: Final = struct.Struct("<xBxxxxxxxxxxIhhHHHHxxxx")
# A page may make as many as it likes.
_MAX_KEPT: Final = 100


@dataclass(frozen=True)
class Shown:
    """A window besides the page's own that was shown: when (CLOCK_MONOTONIC, s), and its size in pixels."""

    at: float
    window: int
    width: int
    height: int


class Windows:
    """The windows of one display; see `manage_windows`."""

    def __init__(self, connection: Connection) -> None:
        """Manage the windows of the display at the other end of `connection`."""
        self._connection = connection
        self._page: int | None = None
        self._sizes: dict[int, tuple[int, int]] = {}
        self._shown: dict[int, Shown] = {}
        self._found: deque[Shown] = deque(maxlen=_MAX_KEPT)

    @property
    def shown(self) -> list[Shown]:
        """What is shown now besides the page's own window: what was not taken off yet, or cannot be."""
        return list(self._shown.values())

    def found(self) -> list[Shown]:
        """What was shown since this was asked last, for however short a time."""
        found = list(self._found)
        self._found.clear()
        return found

    async def take_over(self) -> None:
        """Become the display's window manager. Raises OSError when it has one."""
        root = self._connection.root
        mask = _SUBSTRUCTURE_NOTIFY | _SUBSTRUCTURE_REDIRECT
        self._send(struct.pack("<BxHIII", _CHANGE_WINDOW_ATTRIBUTES, 4, root, _EVENT_MASK, mask))
        # An answer to the second tells that the first is done.
        self._send(struct.pack("<BxHI", _QUERY_POINTER, 2, root))
        await self._connection.reply()

    async def run(self) -> None:
        """Manage the windows until the display is gone, which others notice."""
        while True:
            try:
                event = await self._connection.reader.readexactly(32)
                if event[0] == _REPLY:
                    await self._connection.reader.readexactly(4 * struct.unpack_from("<I", event, 4)[0])
                elif event[0] != _ERROR:  # an error is the answer to what was meant for a window that is gone
                    self._take(event[0] & 0x7F, event)
            except (OSError, asyncio.IncompleteReadError):
                return

    def _take(self, code: int, event: bytes) -> None:
        _, window = struct.unpack_from("<II", event, 4)
        if code == _CREATED:
            self._made(window, event)
        elif code == _MAP_REQUEST:
            self._to_be_mapped(window)
        elif code == _CONFIGURE_REQUEST:
            self._to_be_configured(window, event)
        elif code == _MAPPED:
            self._mapped(window)
        elif code in {_UNMAPPED, _DESTROYED}:
            self._shown.pop(window, None)
            if code == _DESTROYED:
                self._sizes.pop(window, None)

    def _made(self, window: int, event: bytes) -> None:
        while len(self._sizes) >= _MAX_KEPT:
            del self._sizes[next(iter(self._sizes))]
        self._sizes[window] = struct.unpack_from("<HH", event, 16)
        if event[22]:
            attributes = struct.pack("<BxHIII", _CHANGE_WINDOW_ATTRIBUTES, 4, window, _OVERRIDE_REDIRECT, 0)
            self._send(attributes)

    def _to_be_mapped(self, window: int) -> None:
        self._page = self._page or window
        if window == self._page:
            self._send(struct.pack("<BxHI", _MAP_WINDOW, 2, window))
        else:
            logger.info("the browser's window of %d x %d is not shown", *self._size(window))

    def _to_be_configured(self, window: int, event: bytes) -> None:
        """Let it be as it asks to be: without a window manager it would be so as well."""
        above, sibling, x, y, width, height, border, mask = _CONFIGURE.unpack(event)
        self._sizes[window] = width, height
        values = [x & 0xFFFFFFFF, y & 0xFFFFFFFF, width, height, border, sibling, above]
        wanted = [value for bit, value in enumerate(values) if mask & 1 << bit]
        head = struct.pack("<BxHIHxx", _CONFIGURE_WINDOW, 3 + len(wanted), window, mask)
        self._send(head + struct.pack(f"<{len(wanted)}I", *wanted))

    def _mapped(self, window: int) -> None:
        if window == self._page:
            return
        shown = Shown(time.monotonic(), window, *self._size(window))
        logger.warning("a window of %d x %d was shown over the page; it is taken off", *self._size(window))
        self._shown[window] = shown
        self._found.append(shown)
        self._send(struct.pack("<BxHI", _UNMAP_WINDOW, 2, window))

    def _size(self, window: int) -> tuple[int, int]:
        return self._sizes.get(window, (0, 0))

    def _send(self, request: bytes) -> None:
        self._connection.writer.write(request)


@asynccontextmanager
async def manage_windows(display: Display) -> AsyncIterator[Windows]:
    """Manage the windows of a display from now on.

    Raises OSError when the display is gone or has a window manager; put a time-out around its beginning.
    """
    async with connected(display) as connection:
        windows = Windows(connection)
        await windows.take_over()
        running = asyncio.ensure_future(windows.run())
        try:
            yield windows
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
