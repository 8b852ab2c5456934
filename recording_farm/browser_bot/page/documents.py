"""Counts the documents that a page navigates through; same-document navigations do not count."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from playwright.async_api import Page, Request

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Document:
    """A document: its number, counted from 1, its URL, and when it was requested (s of the loop's clock)."""

    number: int = 0
    url: str = ""
    requested: float = 0.0


NO_DOCUMENT = Document()


class Documents:
    """Counts the documents of a page after `listen`."""

    def __init__(self, page: Page) -> None:
        """Prepare to count the documents of `page`."""
        self._page = page
        self._last_request = 0.0
        self._changed = asyncio.Event()
        self.last = NO_DOCUMENT
        """The current document."""

    async def listen(self) -> None:
        """Start counting. Raises PlaywrightError. Needs a time-out from the caller."""
        session = await self._page.context.new_cdp_session(self._page)
        session.on("Page.frameNavigated", self._on_navigated)
        await session.send("Page.enable")
        self._page.on("request", self._on_request)

    async def wait_after(self, number: int) -> Document:
        """Wait until there is a document after `number`, and return the current one."""
        while self.last.number <= number:
            self._changed.clear()
            await self._changed.wait()
        return self.last

    def _on_request(self, request: Request) -> None:
        if request.is_navigation_request() and request.frame == self._page.main_frame:
            self._last_request = asyncio.get_running_loop().time()

    def _on_navigated(self, event: dict[str, Any]) -> None:
        frame = event["frame"]
        if "parentId" not in frame:
            self.last = Document(self.last.number + 1, str(frame.get("url", "")), self._last_request)
            self._changed.set()
