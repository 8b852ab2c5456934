"""The bot: opens and joins a meeting's page, and detects when it is ready, over or lost."""

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
from recording_farm.browser_bot.page.readiness import wait_until_ready
from recording_farm.browser_bot.page.rejoining import PageEvent, Rejoining
from recording_farm.browser_bot.page.signals import PageSignals
from recording_farm.browser_bot.page.steps import Steps
from recording_farm.browser_bot.stage.browser import Browser
from recording_farm.browser_bot.stage.hang_check import wait_until_hung
from recording_farm.browser_bot.waiting import first_done, first_of

logger = logging.getLogger(__name__)

SCREENSHOT_TIMEOUT = 4.0
PROBE_PERIOD = 2.0
"""A probe costs 1.3 ms of CPU in the driver, the browser and this process together (measured)."""

PROBES_MISSED = 5
WATCH_TIMEOUT = 5.0
CLOSE_TIMEOUT = 1.0
MAX_NAVIGATIONS = 5
"""How often a page may navigate before the recording starts; after that it is not rejoined."""

FIRST_PAUSE = 5.0
"""Pause (s) after the first failed attempt to reload a page; it doubles with each attempt."""

MAX_PAUSE = 60.0

T = TypeVar("T")
OnEvent = Callable[[PageEvent], Awaitable[None]]

NAVIGATION_FAILED = "the page navigated to an address that does not load"


def _describe_tries(tries: int, seconds: float) -> str:
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
        on_event: OnEvent | None = None,
    ) -> None:
        """Drive the page of `browser`, which uses `gateway` if there is one.

        `secrets` are redacted in logs and errors. `on_text` is called with texts of the page's SDK for the
        recording, see `recording_sdk`. `on_event` is called with events that explain the recording, such as a
        rejoin.
        """
        self._page_log = PageLog(secrets)
        self._page = browser.page
        self._browser = browser
        self._contract = contract
        self._world = IsolatedWorld(
            browser.page, on_console=self._on_console, on_exception=self._on_exception
        )
        self._probe = Probe(self._world)
        self._documents = Documents(self._page)
        self._signals = PageSignals(self._world, self._documents, contract, self._page_log, on_text)
        self._opening = Opening(self._page, self._world, gateway, self._page_log.clean)
        self._steps = steps = Steps(self._page, self._world, hints or NO_HINTS)
        self._joining = Joining(contract, steps, self._documents, self._opening, self._signals)
        self._rejoining = Rejoining(self._documents, self._opening, steps)
        self._on_event = on_event
        self._css_checked = False
        self._url, self._seconds, self._tries = "", 0.0, 1
        self._reload_reason = ""
        self._reload_wanted = asyncio.Event()
        self._navigation: Request | None = None
        self._navigating = asyncio.Event()
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._page.on("request", self._on_request)
        self._page.on("requestfailed", self._on_request_failed)
        self._page.on("requestfinished", self._on_request_over)
        self._page.on("framenavigated", self._on_navigated)
        self._page.on("crash", lambda _: self._lose("the page has crashed"))
        self._page.on("close", lambda _: self._lose("the page was closed"))
        browser.context.on("close", lambda _: self._lose("the browser has died"))

    async def join(self, url: str, *, seconds: float, tries: int) -> None:
        """Open the page and wait until recording may start.

        Each attempt gets an equal share of `seconds`; after an early failure the rest of the share is waited
        for. Raises PageError, with a message for users, if all `tries` fail; PagePermanentError as soon as a
        retry cannot help; PageLostError if the page dies or the browser hangs.
        """
        self._url, self._seconds, self._tries = url, seconds, tries
        hanging = asyncio.ensure_future(self._until_browser_hangs())
        try:
            await self._join(url, seconds, tries)
        finally:
            hanging.cancel()
            await asyncio.gather(hanging, return_exceptions=True)

    async def _join(self, url: str, seconds: float, tries: int) -> None:
        await self._attach()
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
                logger.warning("attempt %d of %d: %s", attempt, tries, error)
                if await self._browser.is_hung():
                    # A retry in this browser cannot succeed.
                    raise PageLostError("the browser does not answer") from error
                if attempt == tries:
                    raise PageError(f"{error}{_describe_tries(tries, loop.time() - began)}") from error
            await self._unless_lost(asyncio.sleep(turn_ends - loop.time()))
        await self._unless_lost(self._until_ready())

    async def _check_css(self) -> None:
        """Warn once about CSS that matches nothing; it may also be meant for elements that appear later."""
        if self._css_checked:
            return
        warning = await self._steps.css_warning()
        self._css_checked = True
        if warning:
            logger.warning("%s", self._page_log.clean(warning))
            await self._emit(PageEvent("warning", self._page_log.clean(warning)))

    async def _until_ready(self) -> None:
        """Wait until the page may be recorded according to its contract.

        A page that navigates meanwhile is rejoined, but at most MAX_NAVIGATIONS times.
        """
        signals = self._signals
        for _ in range(MAX_NAVIGATIONS):
            happened = await first_of(
                ready=wait_until_ready(self._page, self._world, self._contract, signals),
                declined=signals.declined(),
                navigated=self._rejoining.wait_navigated(),
            )
            if happened == "ready":
                return
            await first_of(rejoined=self._rejoin(is_limited=False), declined=signals.declined())
        await first_of(
            ready=wait_until_ready(self._page, self._world, self._contract, signals),
            declined=signals.declined(),
        )

    async def _rejoin(self, *, is_limited: bool) -> None:
        event = await self._rejoining.rejoin(is_limited=is_limited)
        if event is not None:
            await self._emit(event)

    async def _join_from_lobby(self) -> None:
        await self._emit(await self._rejoining.join_from_lobby())

    async def _stay_joined(self) -> None:
        """Rejoin the page when it navigates, and reload it on request."""
        while True:
            happened = await first_of(
                reload=self._reload_wanted.wait(),
                navigated=self._rejoining.wait_navigated(),
                lobby=self._rejoining.wait_for_lobby(),
            )
            if happened == "reload":
                await self._reload()
                continue
            joining = self._join_from_lobby() if happened == "lobby" else self._rejoin(is_limited=True)
            try:
                await first_of(reload=self._reload_wanted.wait(), rejoined=joining)
            except PageLostError:
                raise
            except PageError as error:
                # For example its server is down for a moment.
                self.reload(str(error))

    async def _reload(self) -> None:
        """Reload the page, retrying without limit, because another stage would not help.

        `_reload_wanted` stays set until it is done, so an interrupted reload is repeated.
        """
        reason, share = self._reload_reason, self._seconds / self._tries
        pause = FIRST_PAUSE
        for attempt in count(1):
            try:
                self._rejoining.begin(await self._joining.try_once(self._url, share, is_last=False))
                self._reload_wanted.clear()
                await self._emit(PageEvent("rejoined", f"{reason}; the page was reloaded and joined"))
                return
            except PageDeclinedError as error:
                self._reload_wanted.clear()
                await self._emit(PageEvent("warning", f"{reason}; the page was reloaded, and {error}"))
                return
            except PageError as error:
                if await self._browser.is_hung():
                    raise PageLostError("the browser does not answer") from error
                logger.warning("attempt %d to reload the page: %s", attempt, error)
                if attempt == 1:
                    failed = f"{reason}; reloading the page failed and is retried: {error}"
                    await self._emit(PageEvent("warning", failed))
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE)

    async def _emit(self, event: PageEvent) -> None:
        if self._on_event is not None:
            await self._on_event(event)

    async def over(self) -> None:
        """Wait until the page signals its end. Raises PageLostError if it dies or hangs for 10 s."""
        background = [
            asyncio.ensure_future(self._until_hung()),
            asyncio.ensure_future(self._signals.wait_until_sdk_over()),
            asyncio.ensure_future(self._check_css()),
        ]
        try:
            await self._unless_lost(first_of(ended=self._signals.ended.wait(), stays=self._stay_joined()))
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await self._probe.close()

    async def close(self) -> None:
        """Detach from the page, so that another bot can drive it."""
        await self._probe.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._world.close()

    def reload(self, reason: str) -> None:
        """Reload and join the page while `over` waits. `reason` is part of the event's message."""
        self._reload_reason = reason
        self._reload_wanted.set()

    async def is_reachable(self) -> bool:
        """Whether the page's server accepts connections now."""
        return await self._opening.is_reachable(self._url)

    @property
    def uses_sdk(self) -> bool:
        """Whether the page's recording SDK has connected."""
        return self._signals.has_sdk

    @property
    def page_state(self) -> PageState | None:
        """The last state that the page reported, None if none; it is sampled while `over` waits."""
        return self._probe.state

    @property
    def page_log(self) -> list[str]:
        """The last 2000 console messages, exceptions and failed requests, each with its time."""
        return self._page_log.lines

    async def screenshot(self, file: Path) -> bool:
        """Save a screenshot of the page as PNG; False if that is not possible."""
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
        await wait_until_hung(self._ping_browser, PROBE_PERIOD, PROBES_MISSED)
        self._lose(f"the browser has hung for {PROBE_PERIOD * PROBES_MISSED:.0f} s")

    async def _ping_browser(self) -> None:
        with suppress(PlaywrightError):  # the death of the browser is handled elsewhere
            await self._browser.ping()

    async def _until_hung(self) -> None:
        await wait_until_hung(self._ping_page, PROBE_PERIOD, PROBES_MISSED)
        self._lose(f"the page's script has hung for {PROBE_PERIOD * PROBES_MISSED:.0f} s")

    async def _ping_page(self) -> None:
        """Wait for an answer of the page's script.

        Navigating counts as an answer, because Chromium delays commands until the next document is there; the
        network has its own time-outs.
        """
        await first_of(answer=self._sample_page(), navigating=self._navigating.wait())

    async def _sample_page(self) -> None:
        try:
            await self._probe.sample()
        except NoAnswerError as error:
            # The page is navigating or closing, which is handled elsewhere.
            logger.debug("cannot sample the page: %s", error)

    async def _attach(self) -> None:
        """Attach to the page before it is opened; the scripts must run before its own."""
        if self._world.is_open:
            return
        try:
            async with asyncio.timeout(WATCH_TIMEOUT):
                await self._documents.listen()
                await self._world.open()
        except TimeoutError:
            raise PageLostError("the browser does not answer") from None
        except (PlaywrightError, NoAnswerError) as error:
            raise PageLostError(f"cannot attach to the page: {error}") from error

    async def _unless_lost(self, waiting: Awaitable[T]) -> T:
        """Wait for something; raise PageLostError if the page is lost meanwhile."""
        event = asyncio.ensure_future(waiting)
        await first_done(self._browser.gone.wait(), asyncio.shield(self._lost), event)
        if self._browser.gone.is_set():
            self._lose("the browser has died")
        if self._lost.done():
            raise PageLostError(self._lost.result())
        return event.result()

    def _on_console(self, printed: ConsoleMessage) -> None:
        self._page_log.write(f"page {printed.kind}: {self._page_log.start_of(printed.text.strip())!r}")
        self._signals.on_console(printed)

    def _on_exception(self, exception: str) -> None:
        self._page_log.write(f"pageerror: {self._page_log.start_of(exception)!r}")

    def _on_request(self, request: Request) -> None:
        if self._is_navigation(request):
            self._navigation = request
            self._navigating.set()

    def _on_request_over(self, request: Request) -> None:
        # Ignore the end of a navigation that a newer one has replaced.
        if request == self._navigation:
            self._navigating.clear()
            self._check_response(request.existing_response)

    def _check_response(self, answer: Response | None) -> None:
        """Check whether the page navigated to an error of the gateway."""
        if not self._joining.is_trying and answer is not None and PROBLEM_HEADER in answer.headers:
            self._lose(f"{NAVIGATION_FAILED}: {self._opening.gateway_problem(answer.url)}")

    def _on_navigated(self, frame: Frame) -> None:
        if frame == self._page.main_frame:
            self._navigating.clear()
            if not self._joining.is_trying and frame.url.startswith(ERROR_PAGE):
                self._lose(NAVIGATION_FAILED)

    def _is_navigation(self, request: Request) -> bool:
        return request.is_navigation_request() and request.frame == self._page.main_frame

    def _on_request_failed(self, request: Request) -> None:
        self._on_request_over(request)
        self._page_log.write(
            f"page could not load {self._page_log.start_of(request.url)!r}: {request.failure}"
        )

    def _lose(self, reason: str) -> None:
        if not self._lost.done():
            self._lost.set_result(reason)
