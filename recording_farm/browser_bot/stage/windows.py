"""The window manager of a stage's display: shows the page's window and hides all others.

Chromium opens X windows for many things outside of a page: file choosers, popups, picture-in-picture, lists
and calendars of form fields, menus, tooltips. They differ between versions. So the stage is its display's
window manager (X Window System Protocol, "MapWindow" and SubstructureRedirect): the X server redirects each
request to map a window to it, and it maps only the first one. Override-redirect windows bypass window
managers, so their flag is cleared when they are created. A window that was mapped before that is unmapped and
reported, because it may be visible in the recording.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import xcffib
from xcffib.xproto import (
    CW,
    ConfigureRequestEvent,
    ConfigWindow,
    CreateNotifyEvent,
    DestroyNotifyEvent,
    EventMask,
    MapNotifyEvent,
    MapRequestEvent,
    UnmapNotifyEvent,
)

from recording_farm.browser_bot.stage.display import Display
from recording_farm.browser_bot.stage.x_connection import Connection, connected

logger = logging.getLogger(__name__)

_MAX_KEPT: Final = 100
"""How many windows are tracked; a page may create any number."""


@dataclass(frozen=True)
class ForeignWindow:
    """A visible window other than the page's: since when (CLOCK_MONOTONIC, s), its id and size in pixels."""

    at: float
    window: int
    width: int
    height: int


class Windows:
    """The windows of one display; see `manage_windows`."""

    def __init__(self, connection: Connection) -> None:
        """Manage the windows of the display of `connection`."""
        self._connection = connection
        self._core = connection.xcb.core
        self._page: int | None = None
        self._sizes: dict[int, tuple[int, int]] = {}
        self._shown: dict[int, ForeignWindow] = {}
        self._found: deque[ForeignWindow] = deque(maxlen=_MAX_KEPT)

    @property
    def shown(self) -> list[ForeignWindow]:
        """The foreign windows that are visible now, because they are not unmapped yet or cannot be."""
        return list(self._shown.values())

    def pop_found(self) -> list[ForeignWindow]:
        """Return the foreign windows that were visible, however briefly, since the last call."""
        found = list(self._found)
        self._found.clear()
        return found

    def take_over(self) -> None:
        """Become the display's window manager. Blocks; raises AccessError if the display already has one."""
        mask = EventMask.SubstructureNotify | EventMask.SubstructureRedirect
        self._core.ChangeWindowAttributes(
            self._connection.root, CW.EventMask, [mask], is_checked=True
        ).check()

    def read(self) -> bool:
        """Handle pending events; return False if the display is gone, which is reported elsewhere."""
        xcb = self._connection.xcb
        try:
            while True:
                try:
                    event = xcb.poll_for_event()
                except xcffib.Error as error:
                    # The answer to a request about a window that no longer exists.
                    logger.debug("cannot change a window: %s", type(error).__name__)
                    continue
                if event is None:
                    break
                self._handle(event)
            xcb.flush()
        except xcffib.ConnectionException:
            return False
        return True

    def _handle(self, event: xcffib.Event) -> None:
        match event:
            case CreateNotifyEvent():
                self._created(event)
            case MapRequestEvent():
                self._map_requested(event.window)
            case ConfigureRequestEvent():
                self._configure_requested(event)
            case MapNotifyEvent():
                self._mapped(event.window)
            case UnmapNotifyEvent():
                self._shown.pop(event.window, None)
            case DestroyNotifyEvent():
                self._shown.pop(event.window, None)
                self._sizes.pop(event.window, None)

    def _created(self, created: CreateNotifyEvent) -> None:
        while len(self._sizes) >= _MAX_KEPT:
            del self._sizes[next(iter(self._sizes))]
        self._sizes[created.window] = created.width, created.height
        if created.override_redirect:
            self._core.ChangeWindowAttributes(created.window, CW.OverrideRedirect, [False])

    def _map_requested(self, window: int) -> None:
        self._page = self._page or window
        if window == self._page:
            self._core.MapWindow(window)
        else:
            logger.info("keeping a window of the browser hidden (%d x %d)", *self._size(window))

    def _configure_requested(self, request: ConfigureRequestEvent) -> None:
        """Grant the request, as happens without a window manager."""
        self._sizes[request.window] = request.width, request.height
        values = {
            ConfigWindow.X: request.x,
            ConfigWindow.Y: request.y,
            ConfigWindow.Width: request.width,
            ConfigWindow.Height: request.height,
            ConfigWindow.BorderWidth: request.border_width,
            ConfigWindow.Sibling: request.sibling,
            ConfigWindow.StackMode: request.stack_mode,
        }
        wanted = [value for bit, value in values.items() if request.value_mask & bit]
        self._core.ConfigureWindow(request.window, request.value_mask, wanted)

    def _mapped(self, window: int) -> None:
        if window == self._page:
            return
        foreign = ForeignWindow(time.monotonic(), window, *self._size(window))
        logger.warning("a window of %d x %d covered the page; hiding it", *self._size(window))
        self._shown[window] = foreign
        self._found.append(foreign)
        self._core.UnmapWindow(window)

    def _size(self, window: int) -> tuple[int, int]:
        return self._sizes.get(window, (0, 0))


@asynccontextmanager
async def manage_windows(display: Display) -> AsyncIterator[Windows]:
    """Manage the windows of a display.

    Raises OSError if the display is gone or already has a window manager. Entering it needs a time-out.
    """
    async with connected(display) as connection:
        windows = Windows(connection)
        await connection.run(windows.take_over)
        loop = asyncio.get_running_loop()

        def read() -> None:
            if not windows.read():
                loop.remove_reader(connection.descriptor)

        loop.add_reader(connection.descriptor, read)
        read()  # events received while it took over are buffered already and do not wake the loop
        try:
            yield windows
        finally:
            loop.remove_reader(connection.descriptor)
