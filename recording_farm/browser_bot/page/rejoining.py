"""Rejoining: a page that reloads itself, navigates or shows its lobby again is joined again.

Whether it must be joined again shows by what it shows: a lobby has what the hints fill and click, a room has
not. A page that was joined just now may well go elsewhere because of that, as after a login; so for a moment
only what is surely the lobby counts as one.
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
from recording_farm.browser_bot.page.hints import NO_HINTS, Fill, Step, acts
from recording_farm.browser_bot.page.joining import Joined
from recording_farm.browser_bot.page.opening import Opening
from recording_farm.browser_bot.page.steps import Steps
from recording_farm.browser_bot.waiting import first_done

logger = logging.getLogger(__name__)

OWN_SECONDS: Final = 3.0
"""A document that was asked for so soon after the last step may be what the step has led to."""

LOBBY_SECONDS: Final = 10.0
"""How long a document may take, once it has loaded, to show its lobby."""

RENDER_SECONDS: Final = 0.3
"""What a page gets to show the rest of its lobby, once it shows something of it."""

DOCUMENT_SECONDS: Final = 10.0

LOOK_SECONDS: Final = 2.0
"""Between two looks whether the page shows its lobby again; no event tells of it. One takes some 2 ms."""

LOOKS: Final = 2
"""So many in a row must find it: a page that is being drawn may show both for a moment."""

MAX: Final = 30
MAX_AT_ONCE: Final = 10
WITHIN_SECONDS: Final = 300.0
"""A page is joined again at most so often in so many seconds; then it waits for its turn."""


@dataclass(frozen=True)
class PageEvent:
    """What the page did, or what was done with it, that explains what is seen in the recording.

    `page_changed`: it shows another document. `rejoined`: it was joined again. `warning`: what was to be done
    had no effect. The `message` is a sentence without its full stop, and holds nothing secret.
    """

    event: Literal["page_changed", "rejoined", "warning"]
    message: str


class Pace:
    """How often something may be done: `most` times in `seconds`."""

    def __init__(self, most: int = MAX, seconds: float = WITHIN_SECONDS) -> None:
        """Begin with nothing done."""
        self._times: deque[float] = deque(maxlen=most)
        self._most = most
        self._seconds = seconds

    def wait(self, now: float) -> float:
        """For how many seconds what is to be done at `now` must wait."""
        return max(0.0, self._times[0] + self._seconds - now) if len(self._times) == self._most else 0.0

    def done(self, now: float) -> None:
        """It was done."""
        self._times.append(now)


class Rejoining:
    """Joins a page again that has been joined once."""

    def __init__(self, documents: Documents, opening: Opening, steps: Steps) -> None:
        """Keep the page of `documents` joined by the hints of `steps`."""
        self._documents = documents
        self._opening = opening
        self._steps = steps
        self._hints = steps.hints
        self._pace = Pace()
        self._joined = Joined()
        self._left_lobby = False

    def begin(self, joined: Joined) -> None:
        """The page has been joined so; what it shows from then on is looked at."""
        self._joined = joined
        self._left_lobby = joined.left_lobby
        self._known = joined.document.number

    async def moved(self) -> None:
        """Wait until the page shows a document that was not looked at yet."""
        await self._documents.after(self._known)

    async def lobby_is_back(self) -> None:
        """Wait until the page, or a frame of it, shows its lobby again without another document of the page.

        A button that never went away, because it stands in the room too, is no lobby.
        """
        looks = 0
        while looks < LOOKS:
            await asyncio.sleep(LOOK_SECONDS)
            is_lobby = await self._steps.shows_lobby()
            self._left_lobby = self._left_lobby or not is_lobby
            looks = looks + 1 if is_lobby and self._left_lobby else 0

    async def join_from_lobby(self) -> PageEvent:
        """Join the page that shows its lobby again; what came of it."""
        shown = "the page has shown its lobby again"
        await self._wait_for_its_turn()
        lobby = self._documents.last
        try:
            await self._steps.take(self._hints.join)
            # The steps may lead to another document, as they may when the page is joined first.
            self._joined = Joined(lobby, self._documents.last, asyncio.get_running_loop().time())
            await self._steps.add_css()
            await self._steps.wait()
        except (PageError, PlaywrightError) as error:
            return PageEvent("warning", f"{shown}, and could not be joined again: {error}")
        self._left_lobby = False
        return PageEvent("rejoined", f"{shown}, and was joined again by its hints")

    async def join_again(self, *, paced: bool) -> PageEvent | None:
        """Join the document that is shown now, or the one after it if the page goes on.

        What came of it; None if the hints themselves have led there. `paced`: not more often than a page may
        be joined again. Raises PageError when the server has sent nothing but an error.
        """
        for _ in range(MAX_AT_ONCE):
            document = self._documents.last
            joining = asyncio.ensure_future(self._join(document, paced=paced))
            first = await first_done(self._documents.after(document.number), joining)
            if first is joining:
                # Not before: whoever is interrupted begins anew.
                self._known = document.number
                return joining.result()
        self._known = document.number
        return PageEvent(
            "warning", f"the page has loaded itself anew {MAX_AT_ONCE} times before it could be joined"
        )

    async def _join(self, document: Document, *, paced: bool) -> PageEvent | None:
        changed = describe(self._joined.lobby, document)
        logger.debug("%s", changed)
        await self._opening.document(DOCUMENT_SECONDS)
        if self._opening.refused is not None and not await self._opening.has_script():
            raise PageError(f"{changed}, and {self._opening.refused}")
        if self._hints == NO_HINTS:
            return PageEvent("page_changed", changed)
        try:
            await self._steps.add_css()
            await self._opening.loaded()
            visible = await self._steps.visible(LOBBY_SECONDS, settle=RENDER_SECONDS)
            steps = self._steps_from(document, visible)
            if not steps and self._is_own(document):
                return None
            if not steps and self._hints.css is None:
                return PageEvent("page_changed", changed)
            if not steps:
                return PageEvent("rejoined", f"{changed}, and the hinted CSS was added again")
            if paced:
                await self._wait_for_its_turn()
            await self._steps.take(steps)
            await self._steps.add_css()
            await self._steps.wait()
        except (PageError, PlaywrightError) as error:
            return PageEvent("warning", f"{changed}, and could not be joined again: {error}")
        return PageEvent("rejoined", f"{changed}, and was joined again by its hints")

    async def _wait_for_its_turn(self) -> None:
        loop = asyncio.get_running_loop()
        seconds = self._pace.wait(loop.time())
        if seconds:
            logger.warning("the page was joined again %d times; the next time in %.0f s", MAX, seconds)
            await asyncio.sleep(seconds)
        self._pace.done(loop.time())

    def _steps_from(self, document: Document, visible: Sequence[int]) -> list[Step]:
        """The steps that are left to be followed: from the first on that finds what it acts on."""
        if not visible:
            return []
        steps = self._hints.join
        needed = [place for place, step in enumerate(steps) if acts(step) and not step.optional]
        # A banner that may be missing says nothing.
        shows_first = bool(needed) and needed[0] in visible
        is_lobby = is_same_place(document.url, self._joined.lobby.url) and shows_first
        if (
            self._is_own(document)
            and not is_lobby
            and not any(isinstance(steps[place], Fill) for place in visible)
        ):
            return []
        return list(steps[min(visible) :])

    def _is_own(self, document: Document) -> bool:
        """Whether the last step has led to the document, as far as can be told."""
        has_acted = any(acts(step) for step in self._hints.join)
        return has_acted and document.asked - self._joined.at < OWN_SECONDS


def describe(lobby: Document, document: Document) -> str:
    """What the page did when it went to `document`, without its URL: that may be secret."""
    if is_same_place(document.url, lobby.url):
        return "the page has loaded itself anew"
    return "the page has gone to another address"


def is_same_place(url: str, other: str) -> bool:
    """Whether two URLs differ by their queries and fragments at most."""
    return urlsplit(url)[:3] == urlsplit(other)[:3]
