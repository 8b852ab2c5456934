"""The other end of the recording SDK's socket (Dyte, RealtimeKit), inside the page's own browser.

The SDK connects to `ws://localhost:8080/ws`. The browser's driver answers there in the page itself, so many
recordings share a machine without a port.
"""

import asyncio
import json
import logging
import re
from collections.abc import Callable
from typing import Any, Final

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Page, WebSocketRoute

logger = logging.getLogger(__name__)

URL: Final = re.compile(r"^ws://localhost:8080/ws/?(\?.*)?$")

KEEP_ALIVE_SECONDS: Final = 10.0
"""Between two signs of life; the SDK closes after 30 s without one."""

PING: Final = "2"
PONG: Final = "3"
START: Final = "StartRecording"

_LONGEST_MESSAGE: Final = 64 * 1024


class RecorderSocket:
    """Hears what a page's recording SDK says: `{"type": …}` objects."""

    def __init__(self, heard: Callable[[dict[str, Any]], None]) -> None:
        """Call `heard` with each message."""
        self._heard = heard
        self._keeping_alive: set[asyncio.Task[None]] = set()
        self.connected = asyncio.Event()
        """Set once the page has connected: it speaks the SDK's contract."""

    async def serve(self, page: Page) -> None:
        """Answer the page's connections from now on; before it is opened, that is."""
        await page.route_web_socket(URL, self._accept)

    def close(self) -> None:
        """Keep no connection alive any more."""
        for task in self._keeping_alive:
            task.cancel()

    def _accept(self, route: WebSocketRoute) -> None:
        logger.info("the page's recording SDK has connected")
        self.connected.set()
        route.on_message(self._message)
        task = asyncio.create_task(_keep_alive(route))
        self._keeping_alive.add(task)
        task.add_done_callback(self._keeping_alive.discard)
        route.on_close(lambda *_: task.cancel())

    def _message(self, message: str | bytes) -> None:
        if message == PONG or len(message) > _LONGEST_MESSAGE:
            return
        try:
            content = json.loads(message)
        except (ValueError, RecursionError):
            # The SDK's other frames are for servers that do more than recording.
            return
        if isinstance(content, dict):
            self._heard(content)


async def _keep_alive(route: WebSocketRoute) -> None:
    try:
        while True:
            route.send(PING)
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
    except PlaywrightError as error:
        # The page has gone; others notice.
        logger.debug("the recording SDK's socket: %s", error.message)
