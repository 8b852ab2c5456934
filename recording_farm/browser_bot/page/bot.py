"""The bot: opens and joins a meeting's page, and tells when recording may start and when the page is over."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TypeVar

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Frame, Request, Response

from recording_farm.browser_bot.errors import (
    NoAnswerError,
    PageDeclinedError,
    PageError,
    PageLostError,
    PagePermanentError,
)
from recording_farm.browser_bot.network.gateway import PROBLEM_HEADER, Gateway
from recording_farm.browser_bot.page.console import ConsoleMessage
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.page.documents import Documents
from recording_farm.browser_bot.page.hints import NO_HINTS, PageHints
from recording_farm.browser_bot.page.isolated_world import IsolatedWorld
from recording_farm.browser_bot.page.joining import Joining
from recording_farm.browser_bot.page.opening import ERROR_PAGE, Opening
from recording_farm.browser_bot.page.page_log import PageLog
from recording_farm.browser_bot.page.probe import PageState, Probe
from recording_farm.browser_bot.page.readiness import ready
from recording_farm.browser_bot.page.rejoining import PageEvent, Rejoining
from recording_farm.browser_bot.page.signals import PageSignals
from recording_farm.browser_bot.page.steps import Steps
from recording_farm.browser_bot.stage.browser import Browser
from recording_farm.browser_bot.stage.hang_check import wait_until_hung
from recording_farm.browser_bot.waiting import first_done, first_of

logger = logging.getLogger(__name__)

SCREENSHOT_TIMEOUT = 4.0
ASK_PERIOD = 2.0
"""A question costs the driver, the browser and us 1.3 ms of processor time together (measured)."""

ASKS_MISSED = 5
WATCH_TIMEOUT = 5.0
CLOSE_TIMEOUT = 1.0
MAX_MOVES = 5
"""How often a page may go elsewhere before it is recorded."""

FIRST_PAUSE = 5.0
"""Between tries to load a page anew, doubled each time."""

MAX_PAUSE = 60.0

T = TypeVar("T")
Tell = Callable[[PageEvent], Awaitable[None]]

LED_AWAY = "the page has gone to an address that does not load"


def _tries_in_words(tries: int, seconds: float) -> str:
    return f" (tried {tries} times in {seconds:.0f} s)" if tries > 1 else ""


class Bot:
    """Drives the one page of a stage's browser: `join` once, then wait for `over`."""

    def __init__(
        self,
        browser: Browser,
        contract: PageContract,
        gateway: Gateway | None = None,
        hints: PageHints | None = None,
        secrets: Collection[str] = (),
        on_text: Callable[[str], None] | None = None,
        tell: Tell | None = None,
    ) -> None:
        """Listen to the page of `browser`, which goes out through `gateway` if there is one.

        `secrets` are texts that come up in its URL and must not in logs and errors. `on_text` gets what the
        page's SDK sends to be put into the recording, see `recording_sdk`. `tell` gets what explains the
        picture, as that the page was joined again.
        """
        self._page_log = PageLog(secrets)
        self._page = browser.page
        self._browser = browser
        self._contract = contract
        self._world = IsolatedWorld(browser.page, printed=self._heard, thrown=self._thrown)
        self._probe = Probe(self._world)
        self._documents = Documents(self._page)
        self._signals = PageSignals(self._world, self._documents, contract, self._page_log, on_text)
        self._opening = Opening(self._page, self._world, gateway, self._page_log.clean)
        self._steps = steps = Steps(self._page, self._world, hints or NO_HINTS)
        self._joining = Joining(contract, steps, self._documents, self._opening, self._signals)
        self._rejoining = Rejoining(self._documents, self._opening, steps)
        self._tell = tell
        self._css_told = False
        self._url, self._seconds, self._tries = "", 0.0, 1
        self._why = ""
        self._wanted_anew = asyncio.Event()
        self._navigation: Request | None = None
        self._navigating = asyncio.Event()
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._page.on("request", self._requested)
        self._page.on("requestfailed", self._request_failed)
        self._page.on("requestfinished", self._request_over)
        self._page.on("framenavigated", self._navigated)
        self._page.on("crash", lambda _: self._lose("the page has crashed"))
        self._page.on("close", lambda _: self._lose("the page was closed"))
        browser.context.on("close", lambda _: self._lose("the browser has died"))

    async def join(self, url: str, *, seconds: float, tries: int) -> None:
        """Open the page and wait until it says that recording may start.

        Each of the `tries` gets its share of `seconds`; a try that fails early waits for the next one's turn.
        Raises PageError, in words for people, when none succeeds, PagePermanentError as soon as no other try
        can succeed, PageLostError when the page dies or the browser hangs.
        """
        self._url, self._seconds, self._tries = url, seconds, tries
        hanging = asyncio.ensure_future(self._until_browser_hangs())
        try:
            await self._join(url, seconds, tries)
        finally:
            hanging.cancel()
            await asyncio.gather(hanging, return_exceptions=True)

    async def _join(self, url: str, seconds: float, tries: int) -> None:
        await self._watch_page()
        share = seconds / tries
        loop = asyncio.get_running_loop()
        began = loop.time()
        for attempt in range(1, tries + 1):
            turn_ends = loop.time() + share
            try:
                joining = self._joining.try_once(url, share, is_last=attempt == tries)
                self._rejoining.begin(await self._unless_lost(joining))
                break
            except (PageLostError, PageDeclinedError, PagePermanentError):
                raise
            except PageError as error:
                logger.warning("try %d of %d: %s", attempt, tries, error)
                if await self._browser.is_hung():
                    # No page would load in it.
                    raise PageLostError("the browser does not answer") from error
                if attempt == tries:
                    raise PageError(f"{error}{_tries_in_words(tries, loop.time() - began)}") from error
            await self._unless_lost(asyncio.sleep(turn_ends - loop.time()))
        await self._unless_lost(self._until_ready())

    async def _tell_of_css(self) -> None:
        """A rule that is written wrong looks like one for what comes later; whoever wrote it can tell."""
        if self._css_told:
            return
        idle = await self._steps.without_effect()
        self._css_told = True
        if idle:
            logger.warning("%s", self._page_log.clean(idle))
            await self._say(PageEvent("warning", self._page_log.clean(idle)))

    async def _until_ready(self) -> None:
        """Wait until the contract says that the page may be recorded.

        A page that moves meanwhile is joined again; one that does so on and on is recorded as it is.
        """
        signals = self._signals
        for _ in range(MAX_MOVES):
            happened = await first_of(
                ready=ready(self._page, self._world, self._contract, signals),
                declined=signals.declined(),
                moved=self._rejoining.moved(),
            )
            if happened == "ready":
                return
            await first_of(again=self._join_again(paced=False), declined=signals.declined())
        await first_of(
            ready=ready(self._page, self._world, self._contract, signals), declined=signals.declined()
        )

    async def _join_again(self, *, paced: bool) -> None:
        event = await self._rejoining.join_again(paced=paced)
        if event is not None:
            await self._say(event)

    async def _join_from_lobby(self) -> None:
        await self._say(await self._rejoining.join_from_lobby())

    async def _stay_joined(self) -> None:
        """Join the page again when it moves, and load it anew when that is wanted."""
        while True:
            happened = await first_of(
                anew=self._wanted_anew.wait(),
                moved=self._rejoining.moved(),
                lobby=self._rejoining.lobby_is_back(),
            )
            if happened == "anew":
                await self._reload()
                continue
            joining = self._join_from_lobby() if happened == "lobby" else self._join_again(paced=True)
            try:
                await first_of(anew=self._wanted_anew.wait(), again=joining)
            except PageLostError:
                raise
            except PageError as error:
                # Its server is away for a moment, say.
                self.reload(str(error))

    async def _reload(self) -> None:
        """Open the page once more, for as long as it takes: no other stage would do it better.

        Whoever interrupts it has it done anew: it is wanted until it is done.
        """
        why, share = self._why, self._seconds / self._tries
        pause = FIRST_PAUSE
        for attempt in count(1):
            try:
                self._rejoining.begin(await self._joining.try_once(self._url, share, is_last=False))
                self._wanted_anew.clear()
                await self._say(PageEvent("rejoined", f"{why}; the page was loaded anew and joined"))
                return
            except PageDeclinedError as error:
                self._wanted_anew.clear()
                await self._say(PageEvent("warning", f"{why}; the page was loaded anew, and {error}"))
                return
            except PageError as error:
                if await self._browser.is_hung():
                    raise PageLostError("the browser does not answer") from error
                logger.warning("try %d to load the page anew: %s", attempt, error)
                if attempt == 1:
                    failed = f"{why}; it could not be loaded anew, and is tried again: {error}"
                    await self._say(PageEvent("warning", failed))
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE)

    async def _say(self, event: PageEvent) -> None:
        if self._tell is not None:
            await self._tell(event)

    async def over(self) -> None:
        """Wait until the page says that it is over. Raises PageLostError when it dies, or hangs for 10 s."""
        beside = [
            asyncio.ensure_future(self._until_hung()),
            asyncio.ensure_future(self._signals.until_sdk_is_over()),
            asyncio.ensure_future(self._tell_of_css()),
        ]
        try:
            await self._unless_lost(first_of(ended=self._signals.ended.wait(), stays=self._stay_joined()))
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self._probe.close()

    async def close(self) -> None:
        """Ask and hear the page no more: another one may drive it."""
        await self._probe.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._world.close()

    def reload(self, why: str) -> None:
        """Have the page loaded anew and joined, while `over` waits. `why` is told, in words."""
        self._why = why
        self._wanted_anew.set()

    async def is_reachable(self) -> bool:
        """Whether the page's server takes connections just now."""
        return await self._opening.is_reachable(self._url)

    @property
    def uses_sdk(self) -> bool:
        """Whether the page has turned out to have the recording SDK."""
        return self._signals.has_sdk

    @property
    def page_state(self) -> PageState | None:
        """What the page said of itself just now, None if nothing; it is asked while `over` waits."""
        return self._probe.state

    @property
    def page_log(self) -> list[str]:
        """The last 2000 lines of what the page printed and could not load, each with its time."""
        return self._page_log.lines

    async def screenshot(self, file: Path) -> bool:
        """Keep what the page shows in a PNG; False if it cannot show anything any more."""
        if self._lost.done():
            return False
        try:
            async with asyncio.timeout(SCREENSHOT_TIMEOUT):
                await self._page.screenshot(path=file, timeout=SCREENSHOT_TIMEOUT * 1000)
        except PlaywrightError as error:
            logger.warning("no screenshot: %s", error.message)
            return False
        except TimeoutError:
            logger.warning("no screenshot: the browser does not answer")
            return False
        return True

    async def _until_browser_hangs(self) -> None:
        await wait_until_hung(self._ask_browser, ASK_PERIOD, ASKS_MISSED)
        self._lose(f"the browser has hung for {ASK_PERIOD * ASKS_MISSED:.0f} s")

    async def _ask_browser(self) -> None:
        with suppress(PlaywrightError):  # what is gone is noticed elsewhere
            await self._browser.ping()

    async def _until_hung(self) -> None:
        await wait_until_hung(self._ask, ASK_PERIOD, ASKS_MISSED)
        self._lose(f"the page's script has hung for {ASK_PERIOD * ASKS_MISSED:.0f} s")

    async def _ask(self) -> None:
        """Ask the page's script for a sign of life.

        While the page navigates it is not asked: Chromium keeps back what is sent to it until the next one is
        there. Only the network can then tell how long that takes, and it does.
        """
        await first_of(answer=self._question(), navigating=self._navigating.wait())

    async def _question(self) -> None:
        try:
            await self._probe.look()
        except NoAnswerError as error:
            # An answer too: of a page that goes away, which others notice.
            logger.debug("the page could not be asked: %s", error)

    async def _watch_page(self) -> None:
        """Be there before the page is; without that it could neither be heard nor asked."""
        if self._world.is_open:
            return
        try:
            async with asyncio.timeout(WATCH_TIMEOUT):
                await self._documents.listen()
                await self._world.open()
        except TimeoutError:
            raise PageLostError("the browser does not answer") from None
        except (PlaywrightError, NoAnswerError) as error:
            raise PageLostError(f"the page cannot be asked: {error}") from error

    async def _unless_lost(self, waiting: Awaitable[T]) -> T:
        """Wait for something of the page's, but not longer than the page lives."""
        event = asyncio.ensure_future(waiting)
        await first_done(self._browser.gone.wait(), asyncio.shield(self._lost), event)
        if self._browser.gone.is_set():
            self._lose("the browser has died")
        if self._lost.done():
            raise PageLostError(self._lost.result())
        return event.result()

    def _heard(self, printed: ConsoleMessage) -> None:
        self._page_log.write(f"page {printed.kind}: {self._page_log.start_of(printed.text.strip())!r}")
        self._signals.hear(printed)

    def _thrown(self, exception: str) -> None:
        self._page_log.write(f"pageerror: {self._page_log.start_of(exception)!r}")

    def _requested(self, request: Request) -> None:
        if self._is_navigation(request):
            self._navigation = request
            self._navigating.set()

    def _request_over(self, request: Request) -> None:
        # Not so the end of a navigation that a newer one has taken the place of.
        if request == self._navigation:
            self._navigating.clear()
            self._look_at_answer(request.existing_response)

    def _look_at_answer(self, answer: Response | None) -> None:
        """See whether the page is now what the gateway says where there is none."""
        if not self._joining.is_trying and answer is not None and PROBLEM_HEADER in answer.headers:
            self._lose(f"{LED_AWAY}: {self._opening.gateway_problem(answer.url)}")

    def _navigated(self, frame: Frame) -> None:
        if frame == self._page.main_frame:
            self._navigating.clear()
            if not self._joining.is_trying and frame.url.startswith(ERROR_PAGE):
                self._lose(LED_AWAY)

    def _is_navigation(self, request: Request) -> bool:
        return request.is_navigation_request() and request.frame == self._page.main_frame

    def _request_failed(self, request: Request) -> None:
        self._request_over(request)
        self._page_log.write(
            f"page could not load {self._page_log.start_of(request.url)!r}: {request.failure}"
        )

    def _lose(self, reason: str) -> None:
        if not self._lost.done():
            self._lost.set_result(reason)
