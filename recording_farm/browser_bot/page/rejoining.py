"""Rejoining: joins a page again after it reloads, navigates or shows its lobby again.

The page is a lobby if the elements that the hints click and fill are visible. A page often navigates because
it was joined, as after a login, so for some seconds after that only a certain match counts as a lobby.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from playwright.async_api import Error as PlaywrightError

from recording_farm.browser_bot.errors import PageError
from recording_farm.browser_bot.page.documents import Document, Documents
from recording_farm.browser_bot.page.hints import NO_HINTS, Fill, Step, is_action
from recording_farm.browser_bot.page.joining import Joined
from recording_farm.browser_bot.page.opening import Opening
from recording_farm.browser_bot.page.steps import Steps
from recording_farm.browser_bot.waiting import first_done

logger = logging.getLogger(__name__)

CAUSED_SECONDS: Final = 3.0
"""A document requested within this time after the last step counts as caused by the step."""

LOBBY_SECONDS: Final = 10.0
"""How long a loaded document may take to show its lobby."""

RENDER_SECONDS: Final = 0.3
"""How long a page may take to show the rest of its lobby."""

DOCUMENT_SECONDS: Final = 10.0

POLL_SECONDS: Final = 2.0
"""Interval of the checks for the lobby; there is no event for it. A check takes about 2 ms."""

CHECKS: Final = 2
"""How many checks in a row must find the lobby; a page may show lobby and room for a moment."""

MAX: Final = 30
MAX_AT_ONCE: Final = 10
WITHIN_SECONDS: Final = 300.0
"""A page is rejoined at most MAX times in WITHIN_SECONDS; further attempts wait."""


@dataclass(frozen=True)
class PageEvent:
    """An event of the page that explains what the recording shows.

    `page_changed`: it shows another document. `rejoined`: it was joined again. `warning`: a hint or an
    attempt to rejoin had no effect. The `message` is a sentence without a full stop and without secrets.
    """

    event: Literal["page_changed", "rejoined", "warning"]
    message: str


class RateLimit:
    """Allows an action `most` times in `seconds`."""

    def __init__(self, most: int = MAX, seconds: float = WITHIN_SECONDS) -> None:
        """Start without past actions."""
        self._times: deque[float] = deque(maxlen=most)
        self._most = most
        self._seconds = seconds

    def wait(self, now: float) -> float:
        """Return how many seconds an action at `now` must wait."""
        return max(0.0, self._times[0] + self._seconds - now) if len(self._times) == self._most else 0.0

    def done(self, now: float) -> None:
        """Record an action."""
        self._times.append(now)


class Rejoining:
    """Joins a page again after it has been joined once."""

    def __init__(self, documents: Documents, opening: Opening, steps: Steps) -> None:
        """Keep the page of `documents` joined by the hints of `steps`."""
        self._documents = documents
        self._opening = opening
        self._steps = steps
        self._hints = steps.hints
        self._limit = RateLimit()
        self._joined = Joined()
        self._left_lobby = False

    def begin(self, joined: Joined) -> None:
        """Start watching a page that was joined as in `joined`."""
        self._joined = joined
        self._left_lobby = joined.left_lobby
        self._known = joined.document.number

    async def wait_navigated(self) -> None:
        """Wait until the page shows a document that was not checked yet."""
        await self._documents.wait_after(self._known)

    async def wait_for_lobby(self) -> None:
        """Wait until the page or one of its frames shows its lobby again in the same document.

        An element that never disappeared, because the room shows it too, does not count.
        """
        found = 0
        while found < CHECKS:
            await asyncio.sleep(POLL_SECONDS)
            is_lobby = await self._steps.shows_lobby()
            self._left_lobby = self._left_lobby or not is_lobby
            found = found + 1 if is_lobby and self._left_lobby else 0

    async def join_from_lobby(self) -> PageEvent:
        """Join a page that shows its lobby again, and return the event."""
        shown = "the page showed its lobby again"
        await self._wait_for_limit()
        lobby = self._documents.last
        try:
            await self._steps.run(self._hints.join)
            # The steps may navigate to another document.
            self._joined = Joined(lobby, self._documents.last, asyncio.get_running_loop().time())
            await self._steps.add_css()
            await self._steps.wait()
        except (PageError, PlaywrightError) as error:
            return PageEvent("warning", f"{shown}, and could not be joined again: {error}")
        self._left_lobby = False
        return PageEvent("rejoined", f"{shown}, and was joined again by its hints")

    async def rejoin(self, *, is_limited: bool) -> PageEvent | None:
        """Join the current document, or a later one if the page navigates meanwhile, and return the event.

        Returns None if the hints themselves have led to the document. `is_limited`: respect the rate limit.
        Raises PageError if the server sent only an error.
        """
        for _ in range(MAX_AT_ONCE):
            document = self._documents.last
            joining = asyncio.ensure_future(self._join(document, is_limited=is_limited))
            first = await first_done(self._documents.wait_after(document.number), joining)
            if first is joining:
                # Only now, because an interrupted attempt must be repeated.
                self._known = document.number
                return joining.result()
        self._known = document.number
        return PageEvent("warning", f"the page reloaded itself {MAX_AT_ONCE} times before it could be joined")

    async def _join(self, document: Document, *, is_limited: bool) -> PageEvent | None:
        changed = describe_navigation(self._joined.lobby, document)
        logger.debug("%s", changed)
        await self._opening.document(DOCUMENT_SECONDS)
        if self._opening.refused is not None and not await self._opening.has_script():
            raise PageError(f"{changed}, and {self._opening.refused}")
        if self._hints == NO_HINTS:
            return PageEvent("page_changed", changed)
        try:
            await self._steps.add_css()
            await self._opening.loaded()
            visible = await self._steps.visible_steps(LOBBY_SECONDS, settle=RENDER_SECONDS)
            steps = self._steps_from(document, visible)
            if not steps and self._was_caused(document):
                return None
            if not steps and self._hints.css is None:
                return PageEvent("page_changed", changed)
            if not steps:
                return PageEvent("rejoined", f"{changed}, and the hinted CSS was added again")
            if is_limited:
                await self._wait_for_limit()
            await self._steps.run(steps)
            await self._steps.add_css()
            await self._steps.wait()
        except (PageError, PlaywrightError) as error:
            return PageEvent("warning", f"{changed}, and could not be joined again: {error}")
        return PageEvent("rejoined", f"{changed}, and was joined again by its hints")

    async def _wait_for_limit(self) -> None:
        loop = asyncio.get_running_loop()
        seconds = self._limit.wait(loop.time())
        if seconds:
            logger.warning("the page was rejoined %d times; rejoining it again in %.0f s", MAX, seconds)
            await asyncio.sleep(seconds)
        self._limit.done(loop.time())

    def _steps_from(self, document: Document, visible: Sequence[int]) -> list[Step]:
        """Return the remaining steps: from the first one whose element is visible."""
        if not visible:
            return []
        steps = self._hints.join
        needed = [index for index, step in enumerate(steps) if is_action(step) and not step.optional]
        # An optional step, such as a banner, does not identify the lobby.
        shows_first = bool(needed) and needed[0] in visible
        is_lobby = is_same_path(document.url, self._joined.lobby.url) and shows_first
        if (
            self._was_caused(document)
            and not is_lobby
            and not any(isinstance(steps[index], Fill) for index in visible)
        ):
            return []
        return list(steps[min(visible) :])

    def _was_caused(self, document: Document) -> bool:
        """Whether the last step probably caused the navigation to the document."""
        has_acted = any(is_action(step) for step in self._hints.join)
        return has_acted and document.requested - self._joined.at < CAUSED_SECONDS


def describe_navigation(lobby: Document, document: Document) -> str:
    """Describe the navigation to `document`, without its URL, which may be secret."""
    if is_same_path(document.url, lobby.url):
        return "the page reloaded itself"
    return "the page navigated to another address"


def is_same_path(url: str, other: str) -> bool:
    """Whether two URLs are equal except for query and fragment."""
    return urlsplit(url)[:3] == urlsplit(other)[:3]
