"""The documents that a page navigates through; a change within one document does not count."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from playwright.async_api import Page, Request

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Document:
    """A document: its number, counted from 1, its URL, and when it was asked for (s of the loop's clock)."""

    number: int = 0
    url: str = ""
    asked: float = 0.0


NO_DOCUMENT = Document()


class Documents:
    """Counts the documents of a page, from `listen` on."""

    def __init__(self, page: Page) -> None:
        """Count those of `page`."""
        self._page = page
        self._asked = 0.0
        self._came = asyncio.Event()
        self.last = NO_DOCUMENT
        """The one that is shown now."""

    async def listen(self) -> None:
        """Count from now on. Raises PlaywrightError; put a time-out around it."""
        session = await self._page.context.new_cdp_session(self._page)
        session.on("Page.frameNavigated", self._navigated)
        await session.send("Page.enable")
        self._page.on("request", self._requested)

    async def after(self, number: int) -> Document:
        """Wait until there is one behind that of the `number`, and return the last."""
        while self.last.number <= number:
            self._came.clear()
            await self._came.wait()
        return self.last

    def _requested(self, request: Request) -> None:
        if request.is_navigation_request() and request.frame == self._page.main_frame:
            self._asked = asyncio.get_running_loop().time()

    def _navigated(self, event: dict[str, Any]) -> None:
        frame = event["frame"]
        if "parentId" not in frame:
            self.last = Document(self.last.number + 1, str(frame.get("url", "")), self._asked)
            self._came.set()
