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
"""A page may make as many as it likes."""


@dataclass(frozen=True)
class ForeignWindow:
    """A window besides the page's own that was shown: when (CLOCK_MONOTONIC, s), and its size in pixels."""

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
        """What is shown now besides the page's own window: what was not taken off yet, or cannot be."""
        return list(self._shown.values())

    def found(self) -> list[ForeignWindow]:
        """What was shown since this was asked last, for however short a time."""
        found = list(self._found)
        self._found.clear()
        return found

    def take_over(self) -> None:
        """Become the display's window manager. Waits for the display; raises AccessError when it has one."""
        mask = EventMask.SubstructureNotify | EventMask.SubstructureRedirect
        self._core.ChangeWindowAttributes(
            self._connection.root, CW.EventMask, [mask], is_checked=True
        ).check()

    def read(self) -> bool:
        """Take the events that have come; False when the display is gone, which others notice."""
        xcb = self._connection.xcb
        try:
            while True:
                try:
                    event = xcb.poll_for_event()
                except xcffib.Error as error:
                    # The answer to what was meant for a window that is gone.
                    logger.debug("a window could not be changed: %s", type(error).__name__)
                    continue
                if event is None:
                    break
                self._take(event)
            xcb.flush()
        except xcffib.ConnectionException:
            return False
        return True

    def _take(self, event: xcffib.Event) -> None:
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
            logger.info("the browser's window of %d x %d is not shown", *self._size(window))

    def _configure_requested(self, request: ConfigureRequestEvent) -> None:
        """Let it be as it asks to be: without a window manager it would be so as well."""
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
        logger.warning("a window of %d x %d was shown over the page; it is taken off", *self._size(window))
        self._shown[window] = foreign
        self._found.append(foreign)
        self._core.UnmapWindow(window)

    def _size(self, window: int) -> tuple[int, int]:
        return self._sizes.get(window, (0, 0))


@asynccontextmanager
async def manage_windows(display: Display) -> AsyncIterator[Windows]:
    """Manage the windows of a display from now on.

    Raises OSError when the display is gone or has a window manager; put a time-out around its beginning.
    """
    async with connected(display) as connection:
        windows = Windows(connection)
        await connection.run(windows.take_over)
        loop = asyncio.get_running_loop()

        def read() -> None:
            if not windows.read():
                loop.remove_reader(connection.descriptor)

        loop.add_reader(connection.descriptor, read)
        read()  # what has come while it took over is in memory already, and wakes nobody
        try:
            yield windows
        finally:
            loop.remove_reader(connection.descriptor)
