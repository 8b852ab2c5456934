"""Joining: one attempt to open a page, take the steps of its hints and check that it is the meeting."""

import asyncio
import logging
from dataclasses import dataclass, replace

from recording_farm.browser_bot.errors import PageError
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.page.documents import NO_DOCUMENT, Document, Documents
from recording_farm.browser_bot.page.opening import Opening
from recording_farm.browser_bot.page.readiness import SIGNAL_TIMEOUT
from recording_farm.browser_bot.page.signals import PageSignals
from recording_farm.browser_bot.page.steps import Steps
from recording_farm.browser_bot.waiting import first_of

logger = logging.getLogger(__name__)

MOVE_SECONDS = 1.0
"""Within this time it is known whether a page has navigated to another document."""

SERVER_ERROR = 500
"""From this status on the server has failed; the next attempt may succeed."""


@dataclass(frozen=True)
class Joined:
    """How a page was joined: the steps started in the document `lobby` and ended in `document`.

    `at` is when they ended (s of the loop's clock). `left_lobby`: the element of the first step was gone.
    """

    lobby: Document = NO_DOCUMENT
    document: Document = NO_DOCUMENT
    at: float = 0.0
    left_lobby: bool = False


class Joining:
    """Joins the meeting of a page, by its contract and the hints."""

    def __init__(
        self,
        contract: PageContract,
        steps: Steps,
        documents: Documents,
        opening: Opening,
        signals: PageSignals,
    ) -> None:
        """Join by the hints of `steps` on the page whose `documents` are counted.

        `opening` opens the page, `signals` are its own.
        """
        self._contract = contract
        self._steps = steps
        self._hints = steps.hints
        self._documents = documents
        self._opening = opening
        self._signals = signals
        self._joined = Joined()
        self.is_trying = True
        """While the page is being opened, a failed load is not a lost page: it is retried."""

    async def try_once(self, url: str, seconds: float, *, is_last: bool) -> Joined:
        """Open `url` and take the steps to join. Raises PageError if it fails.

        Loading may take `seconds`; a page whose contract has a signal may take longer until it starts.
        """
        loop = asyncio.get_running_loop()
        turn_ends = loop.time() + seconds
        self.is_trying = True
        self._signals.reset()
        await self._opening.begin(url, seconds)
        entering = self._enter(turn_ends, is_last=is_last)
        await first_of(entered=entering, declined=self._signals.declined())
        self.is_trying = False
        return self._joined

    async def _enter(self, turn_ends: float, *, is_last: bool) -> None:
        started = self._signals.started
        left = turn_ends - asyncio.get_running_loop().time()
        await first_of(there=self._opening.document(left), started=started.wait())
        # A button may need a script that loads later.
        if self._hints.join or self._contract in {PageContract.PLAIN, PageContract.AUTO}:
            await first_of(loaded=self._opening.loaded(), started=started.wait())
        refused = self._opening.refused
        if refused is None or started.is_set():
            await self._follow()
        else:
            logger.warning("%s; waiting to see if the page starts", refused)
            await self._join_despite_status(refused, turn_ends, is_last=is_last)

    async def _join_despite_status(self, refused: str, turn_ends: float, *, is_last: bool) -> None:
        """Check whether a page with an error status is the meeting, as with some applications.

        It is if it sends its start signal or the hints find their elements; otherwise this raises PageError
        with the status.
        """
        if self._hints.join or self._hints.wait_for is not None:
            try:
                await self._follow()
            except PageError as error:
                raise self._opening.refusal(f"{refused}, and {error}") from None
            return
        if self._contract is PageContract.PLAIN:
            raise self._opening.refusal(
                f"{refused}; if it is the meeting anyway, name an element of it in page_hints.wait_for"
            )
        if not await self._opening.has_script():
            raise self._opening.refusal(refused)
        seconds = self._time_to_start(turn_ends, is_last=is_last)
        try:
            async with asyncio.timeout(seconds):
                await self._until_it_starts()
        except TimeoutError:
            raise self._opening.refusal(f"{refused}, and it did not start within {seconds:.0f} s") from None
        await self._follow()

    async def _follow(self) -> None:
        lobby = self._documents.last
        await self._steps.run(self._hints.join)
        self._joined = Joined(lobby, self._documents.last, asyncio.get_running_loop().time())
        try:
            await self._steps.add_css()
        except PageError:
            if not await self._navigates():
                raise
        await self._steps.wait()
        self._joined = replace(self._joined, left_lobby=not await self._steps.shows_lobby())

    async def _navigates(self) -> bool:
        """Whether the page has navigated to another document, which is checked later."""
        try:
            async with asyncio.timeout(MOVE_SECONDS):
                await self._documents.wait_after(self._joined.document.number)
        except TimeoutError:
            return False
        return True

    def _time_to_start(self, turn_ends: float, *, is_last: bool) -> float:
        """How long a page with an error status may take to start, in s."""
        left = max(0.0, turn_ends - asyncio.get_running_loop().time())
        if self._contract is PageContract.AUTO:
            return left
        # Only a failure of the server itself is worth another try.
        return SIGNAL_TIMEOUT if is_last or self._opening.status < SERVER_ERROR else left

    async def _until_it_starts(self) -> None:
        waiting = {"started": self._signals.started.wait()}
        if self._signals.sdk is not None:
            waiting["connected"] = self._signals.sdk.connected.wait()
        await first_of(**waiting)
