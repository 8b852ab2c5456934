"""Joining: one attempt to open a page, take its steps and see that it is the meeting."""

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
"""How long it takes at most until it is known that a page has gone on to another document."""

SERVER_ERROR = 500
"""From this status on it is the server that failed, which may be over at the next try."""


@dataclass(frozen=True)
class Joined:
    """How a page was joined: by steps from the document `lobby` on.

    `document` is the one in which they ended, at the time `at` (s of the loop's clock). `left_lobby`: what
    the first step acts on was gone then.
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
        """While the page is being opened, what does not load is no loss: it is tried again."""

    async def try_once(self, url: str, seconds: float, *, is_last: bool) -> Joined:
        """Open `url` and come in, as far as that is ours to do. Raises PageError if it does not work.

        Loading has `seconds`; a page whose contract has a signal may take longer until it starts.
        """
        loop = asyncio.get_running_loop()
        turn_ends = loop.time() + seconds
        self.is_trying = True
        self._signals.forget()
        await self._opening.begin(url, seconds)
        coming_in = self._come_in(turn_ends, is_last=is_last)
        await first_of(came_in=coming_in, declined=self._signals.declined())
        self.is_trying = False
        return self._joined

    async def _come_in(self, turn_ends: float, *, is_last: bool) -> None:
        started = self._signals.started
        left = turn_ends - asyncio.get_running_loop().time()
        await first_of(there=self._opening.document(left), started=started.wait())
        # Scripts that load later may be what makes a button work.
        if self._hints.join or self._contract in {PageContract.PLAIN, PageContract.AUTO}:
            await first_of(loaded=self._opening.loaded(), started=started.wait())
        refused = self._opening.refused
        if refused is None or started.is_set():
            await self._follow()
        else:
            logger.warning("%s; waiting whether the page starts", refused)
            await self._start_nevertheless(refused, turn_ends, is_last=is_last)

    async def _start_nevertheless(self, refused: str, turn_ends: float, *, is_last: bool) -> None:
        """See whether what came with an error's status is the meeting: many an application is served so.

        It is if it starts by its signal, or if the hints find there what they look for. Raises PageError,
        which names the status, if it is not.
        """
        if self._hints.join or self._hints.wait_for is not None:
            try:
                await self._follow()
            except PageError as error:
                raise self._opening.error(f"{refused}, and {error}") from None
            return
        if self._contract is PageContract.PLAIN:
            raise self._opening.error(
                f"{refused}; if it is the meeting nevertheless, name in page_hints.wait_for what it shows"
            )
        if not await self._opening.has_script():
            raise self._opening.error(refused)
        seconds = self._patience(turn_ends, is_last=is_last)
        try:
            async with asyncio.timeout(seconds):
                await self._until_it_starts()
        except TimeoutError:
            raise self._opening.error(f"{refused}, and it did not start within {seconds:.0f} s") from None
        await self._follow()

    async def _follow(self) -> None:
        lobby = self._documents.last
        await self._steps.take(self._hints.join)
        self._joined = Joined(lobby, self._documents.last, asyncio.get_running_loop().time())
        try:
            await self._steps.add_css()
        except PageError:
            if not await self._moves_on():
                raise
        await self._steps.wait()
        self._joined = replace(self._joined, left_lobby=not await self._steps.shows_lobby())

    async def _moves_on(self) -> bool:
        """Whether the page has gone on to another document, which is looked at later."""
        try:
            async with asyncio.timeout(MOVE_SECONDS):
                await self._documents.after(self._joined.document.number)
        except TimeoutError:
            return False
        return True

    def _patience(self, turn_ends: float, *, is_last: bool) -> float:
        """How long a page that came with an error's status may take to start, in s."""
        left = max(0.0, turn_ends - asyncio.get_running_loop().time())
        if self._contract is PageContract.AUTO:
            return left
        # Only a server's own failure is worth another try.
        return SIGNAL_TIMEOUT if is_last or self._opening.status < SERVER_ERROR else left

    async def _until_it_starts(self) -> None:
        waiting = {"started": self._signals.started.wait()}
        if self._signals.sdk is not None:
            waiting["connected"] = self._signals.sdk.connected.wait()
        await first_of(**waiting)
