"""The bot: opens the meeting's page, tells when recording may start and when the page is over or lost."""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playwright.async_api import ConsoleMessage, Frame, Page, Request, Response
from playwright.async_api import Error as PlaywrightError

from browser_bot.browser import DRIVER_GRACE, Browser
from browser_bot.contracts import (
    END_SIGNAL,
    PLAIN_READY,
    REFUSAL_SIGNAL,
    SETTLE_TIMEOUT,
    SIGNAL_TIMEOUT,
    START_SIGNAL,
    PageContract,
)
from browser_bot.errors import PageError, PageLostError
from browser_bot.gateway import PROBLEM_HEADER, Gateway
from browser_bot.heartbeat import silence
from browser_bot.hints import PageHints, follow
from browser_bot.page_voice import PageVoice
from browser_bot.probe import PageState, Probe
from browser_bot.recording_sdk import START, RecordingSdk, timed_text
from browser_bot.redaction import forms_of, without

logger = logging.getLogger(__name__)

SCREENSHOT_TIMEOUT = 4.0
STOP_TIMEOUT = 1.0
# A question costs the driver, the browser and us 1.3 ms of processor time together (measured).
ASK_PERIOD = 2.0
ASKS_MISSED = 5
# A page is a stranger and may print megabytes: so much of a line is logged, and so many lines.
MAX_LINE = 500
MAX_LINES = 5_000
DIARY_LINES = 2_000

# What Chromium shows instead of a page that it cannot load.
ERROR_PAGE = "chrome-error://"

LED_AWAY = "the page has gone to an address that does not load"

# Chromium's network errors (net_error_list.h), and what Playwright says itself, in words for people.
NETWORK_ERRORS = {
    "ERR_NAME_NOT_RESOLVED": "its host name does not resolve",
    "ERR_CONNECTION_REFUSED": "the server refused the connection",
    "ERR_CONNECTION_TIMED_OUT": "the server does not answer",
    "ERR_CONNECTION_RESET": "the server closed the connection",
    "ERR_CONNECTION_CLOSED": "the server closed the connection",
    "ERR_EMPTY_RESPONSE": "the server closed the connection without an answer",
    "ERR_ADDRESS_UNREACHABLE": "the server's address cannot be reached",
    "ERR_INTERNET_DISCONNECTED": "this machine has no network",
    "ERR_TOO_MANY_REDIRECTS": "it redirects in a circle",
    "ERR_FILE_NOT_FOUND": "there is no such file",
    "ERR_UNSAFE_REDIRECT": "it redirects to what is no page of the web",
    "ERR_UNSAFE_PORT": "browsers open no page at this port",
    "ERR_INVALID_AUTH_CREDENTIALS": "it asks for a user name and a password",
    "ERR_ABORTED": "the server sent no page",
    "Download is starting": "it is a file to download",
    "Cannot navigate to invalid URL": "it is no address of a page",
    "ERR_CERT": "the server's certificate is not valid",
    "ERR_SSL": "the server does not speak TLS properly",
}


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
    ) -> None:
        """Listen to the page of `browser`, which goes out through `gateway` if there is one.

        `secrets` are texts that come up in its URL and must not in logs and errors. `on_text` gets what the
        page's SDK sends to be put into the recording, see `recording_sdk`.
        """
        self._on_text = on_text
        self._hints = hints or PageHints()
        self._secrets = forms_of(secrets)
        self._sdk: RecordingSdk | None = None
        if contract in {PageContract.AUTO, PageContract.SDK}:
            self._sdk = RecordingSdk(browser.page, self._told)
        has_signals = contract in {PageContract.AUTO, PageContract.CONSOLE}
        signals = (START_SIGNAL, END_SIGNAL, REFUSAL_SIGNAL) if has_signals else ()
        self._voice: PageVoice | None = None
        if contract is not PageContract.PLAIN:
            self._voice = PageVoice(browser.page, signals, self._sdk is not None, self._said)
        self._page = browser.page
        self._browser = browser
        self._gateway = gateway
        self._contract = contract
        self._asked_for = ""
        self._started = asyncio.Event()
        self._ended = asyncio.Event()
        self._refused = asyncio.Event()
        self._refusal = ""
        self._navigation: Request | None = None
        self._navigating = asyncio.Event()
        # While it is being opened, what does not load is tried again.
        self._opened = False
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._page.on("console", self._heard)
        self._page.on("request", self._requested)
        self._page.on("requestfailed", self._request_failed)
        self._page.on("requestfinished", self._request_over)
        self._page.on("framenavigated", self._navigated)
        self._page.on("crash", lambda _: self._lose("the page has crashed"))
        self._page.on("close", lambda _: self._lose("the page was closed"))
        browser.context.on("close", lambda _: self._lose("the browser has died"))
        self._lines_left = MAX_LINES
        self._diary: deque[str] = deque(maxlen=DIARY_LINES)
        self._probe = Probe(browser.page)
        # What Chromium's own blocker lets through would stand over the page in the recording.
        browser.context.on("page", self._close_popup)

    async def join(self, url: str, *, seconds: float, tries: int) -> None:
        """Open the page and wait until it says that recording may start.

        Each of the `tries` gets its share of `seconds`; a try that fails early waits for the next one's turn.
        Raises PageError, in words for people, when none succeeds, PageLostError when the page dies or the
        browser hangs.
        """
        hanging = asyncio.ensure_future(self._until_browser_hangs())
        try:
            await self._join(url, seconds, tries)
        except BaseException:
            self._close_voice()
            raise
        finally:
            hanging.cancel()
            await asyncio.gather(hanging, return_exceptions=True)

    async def _join(self, url: str, seconds: float, tries: int) -> None:
        await self._install_probe()
        await self._install_voice()
        share = seconds / tries
        loop = asyncio.get_running_loop()
        for attempt in range(1, tries + 1):
            turn_ends = loop.time() + share
            try:
                await self._unless_lost(self._open(url, share))
                await self._unless_lost(follow(self._page, self._hints))
                break
            except PageLostError:
                raise
            except PageError as error:
                logger.warning("try %d of %d: %s", attempt, tries, error)
                if await self._browser.hangs():
                    # No page would load in it.
                    raise PageLostError("the browser does not answer") from error
                if attempt == tries:
                    raise PageError(f"{error} (tried {tries} times in {seconds:.0f} s)") from error
            await self._unless_lost(asyncio.sleep(turn_ends - loop.time()))
        self._opened = True
        await self._unless_lost(self._ready_unless_refused())

    async def over(self) -> None:
        """Wait until the page says that it is over. Raises PageLostError when it dies, or hangs for 10 s."""
        beside = [asyncio.ensure_future(self._until_hung()), asyncio.ensure_future(self._until_sdk_is_over())]
        try:
            await self._unless_lost(self._ended.wait())
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            self._close_voice()
            await self._probe.close()

    @property
    def speaks_sdk(self) -> bool:
        """Whether the page has turned out to have the recording SDK."""
        return self._sdk is not None and self._sdk.connected.is_set()

    @property
    def page_state(self) -> PageState | None:
        """What the page said of itself just now, None if nothing; it is asked while `over` waits."""
        return self._probe.state

    @property
    def diary(self) -> list[str]:
        """The last 2000 lines of what the page printed and could not load, each with its time."""
        return list(self._diary)

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
        await silence(self._ask_browser, ASK_PERIOD, ASKS_MISSED)
        self._lose(f"the browser has hung for {ASK_PERIOD * ASKS_MISSED:.0f} s")

    async def _ask_browser(self) -> None:
        with suppress(PlaywrightError):  # what is gone is noticed elsewhere
            await self._browser.ask()

    async def _until_hung(self) -> None:
        await silence(self._ask, ASK_PERIOD, ASKS_MISSED)
        self._lose(f"the page's script has hung for {ASK_PERIOD * ASKS_MISSED:.0f} s")

    async def _ask(self) -> None:
        """Ask the page's script for a sign of life.

        While the page navigates it is not asked: Chromium keeps back what is sent to it until the next one is
        there. Only the network can then tell how long that takes, and it does.
        """
        question = asyncio.ensure_future(self._question())
        navigating = asyncio.ensure_future(self._navigating.wait())
        try:
            await asyncio.wait((navigating, question), return_when=asyncio.FIRST_COMPLETED)
            if question.done():
                question.result()
        finally:
            for waiting in (question, navigating):
                waiting.cancel()
            await asyncio.gather(question, navigating, return_exceptions=True)

    async def _question(self) -> None:
        try:
            await self._probe.look()
        except PlaywrightError as error:
            # An answer too: of a page that goes away, which others notice.
            logger.debug("the page could not be asked: %s", error.message)

    async def _install_probe(self) -> None:
        try:
            async with asyncio.timeout(DRIVER_GRACE):
                await self._probe.install()
        except (PlaywrightError, TimeoutError) as error:
            # The page is recorded without it. A browser that is dead or hangs shows at the next step.
            logger.warning("the page cannot be watched: %r", error)

    async def _install_voice(self) -> None:
        if self._voice is None:
            return
        try:
            async with asyncio.timeout(DRIVER_GRACE):
                await self._voice.listen()
        except (PlaywrightError, TimeoutError) as error:
            logger.warning("the page cannot be heard: %r", error)

    async def _open(self, url: str, seconds: float) -> None:
        self._started.clear()
        self._ended.clear()
        self._refused.clear()
        self._asked_for = url
        failed = f"the page {self._clean(url)} did not load"
        try:
            async with asyncio.timeout(seconds + DRIVER_GRACE):
                answer = await self._page.goto(url, wait_until="load", timeout=seconds * 1000)
        except TimeoutError:
            raise PageError(f"{failed}: the browser does not answer") from None
        except PlaywrightError as error:
            await self._stop_loading()
            raise PageError(f"{failed}: {self._in_words(error, seconds)}") from error
        if answer is not None and PROBLEM_HEADER in answer.headers:
            raise PageError(f"{failed}: {self._gateway_problem(answer.url)}")
        if answer is not None and answer.status >= 400:
            raise PageError(f"{failed}: it answered {answer.status} {answer.status_text}")

    async def _stop_loading(self) -> None:
        """End a try that may still be on its way: it would disturb the next one and the screenshot."""
        with suppress(PlaywrightError, TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                session = await self._page.context.new_cdp_session(self._page)
                await session.send("Page.stopLoading")
                await session.detach()

    async def _ready_unless_refused(self) -> None:
        ready, refused = asyncio.ensure_future(self._ready()), asyncio.ensure_future(self._refused.wait())
        try:
            await asyncio.wait((ready, refused), return_when=asyncio.FIRST_COMPLETED)
            if refused.done():
                raise PageError(f"the page refuses to be recorded: {self._refusal}")
            ready.result()
        finally:
            ready.cancel()
            refused.cancel()
            await asyncio.gather(ready, refused, return_exceptions=True)

    async def _ready(self) -> None:
        if self._contract is PageContract.PLAIN:
            await self._plain_ready()
        elif self._contract is PageContract.CONSOLE:
            await self._signalled(f"print {START_SIGNAL}")
        elif self._contract is PageContract.SDK:
            await self._sdk_started()
        else:
            plain = asyncio.ensure_future(self._plain_ready())
            signal = asyncio.ensure_future(self._started.wait())
            try:
                await asyncio.wait((plain, signal), return_when=asyncio.FIRST_COMPLETED)
                if plain.done():
                    plain.result()
            finally:
                for waiting in (plain, signal):
                    waiting.cancel()
                await asyncio.wait((plain, signal))
            if not self._started.is_set() and await self._has_sdk():
                await self._sdk_started()

    async def _has_sdk(self) -> bool:
        return self.speaks_sdk or (self._sdk is not None and await self._sdk.is_announced())

    async def _sdk_started(self) -> None:
        """Wait for the SDK's word, which has two minutes from when its socket has connected."""
        assert self._sdk is not None
        connected = asyncio.ensure_future(self._sdk.connected.wait())
        started = asyncio.ensure_future(self._started.wait())
        try:
            async with asyncio.timeout(SIGNAL_TIMEOUT):
                # Where both contracts count, the console's word does as well.
                await asyncio.wait((connected, started), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise PageError(
                f"the page loaded, but its recording SDK did not connect within {SIGNAL_TIMEOUT:.0f} s"
            ) from None
        finally:
            connected.cancel()
            started.cancel()
        await self._signalled(f"send {START}")

    async def _until_sdk_is_over(self) -> None:
        """Look at the SDK's flags until they say that the recording is over."""
        if self._sdk is None:
            return
        if self._contract is PageContract.AUTO:
            await self._sdk.connected.wait()
        await self._sdk.until_over()
        self._ended.set()

    def _told(self, message: dict[str, Any]) -> None:
        if message.get("type") == START:
            self._started.set()
        text = timed_text(message)
        if text is not None and self._on_text is not None:
            self._on_text(text)
        self._log(f"page SDK: {self._start_of(json.dumps(message))}")

    async def _plain_ready(self) -> None:
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT + 3):
                await self._page.evaluate(PLAIN_READY, SETTLE_TIMEOUT * 1000)
        except TimeoutError:
            logger.warning("the page's script hangs; recording it as it is")
        except PlaywrightError as error:
            # It navigated away under our question: whatever it shows now is the page.
            logger.info("the page changed while it was looked at: %s", error.message)

    async def _signalled(self, signal: str) -> None:
        try:
            async with asyncio.timeout(SIGNAL_TIMEOUT):
                await self._started.wait()
        except TimeoutError:
            raise PageError(f"the page loaded, but did not {signal} within {SIGNAL_TIMEOUT:.0f} s") from None

    async def _unless_lost(self, waiting: Awaitable[object]) -> None:
        """Wait for something of the page's, but not longer than the page lives."""
        event, gone = asyncio.ensure_future(waiting), asyncio.ensure_future(self._browser.gone.wait())
        try:
            await asyncio.wait((event, gone, self._lost), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                self._lose("the browser has died")
            if self._lost.done():
                raise PageLostError(self._lost.result())
            event.result()
        finally:
            event.cancel()
            gone.cancel()
            await asyncio.wait((event, gone))

    def _close_voice(self) -> None:
        if self._voice is not None:
            self._voice.close()

    def _said(self, kind: str, text: str) -> None:
        if kind == "console" and text.startswith(REFUSAL_SIGNAL):
            self._refusal = self._start_of(text.removeprefix(REFUSAL_SIGNAL).strip())
            self._refused.set()
        elif kind == "console":
            (self._started if text == START_SIGNAL else self._ended).set()
        elif kind == "connected" and self._sdk is not None:
            logger.info("the page's recording SDK has connected")
            self._sdk.connected.set()
        elif kind == "message" and self._sdk is not None:
            self._sdk.hear(text)

    def _heard(self, message: ConsoleMessage) -> None:
        text = message.text.strip()
        self._log(f"page {message.type}: {self._start_of(text)!r}")

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
        if self._opened and answer is not None and PROBLEM_HEADER in answer.headers:
            self._lose(f"{LED_AWAY}: {self._gateway_problem(answer.url)}")

    def _navigated(self, frame: Frame) -> None:
        if frame == self._page.main_frame:
            self._navigating.clear()
            if self._opened and frame.url.startswith(ERROR_PAGE):
                self._lose(LED_AWAY)

    def _is_navigation(self, request: Request) -> bool:
        return request.is_navigation_request() and request.frame == self._page.main_frame

    def _request_failed(self, request: Request) -> None:
        self._request_over(request)
        if self._is_navigation(request):
            # Where the page's redirects have led.
            self._asked_for = request.url
        self._log(f"page could not load {self._start_of(request.url)!r}: {request.failure}")

    def _log(self, line: str) -> None:
        """Note what the page does; in the log as long as it does not do too much."""
        line = self._clean(line)
        self._diary.append(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {line}")
        self._lines_left -= 1
        if self._lines_left >= 0:
            logger.info("%s", line)
        elif self._lines_left == -1:
            logger.warning("the page has printed %d lines; no more of them are kept", MAX_LINES)

    def _clean(self, text: str) -> str:
        return without(text, self._secrets, "…")

    def _start_of(self, text: str) -> str:
        """So much of it as is logged; the secrets go first, as half of one would not be known for one."""
        return self._clean(text)[:MAX_LINE]

    def _lose(self, reason: str) -> None:
        self._close_voice()
        if not self._lost.done():
            self._lost.set_result(reason)

    async def _close_popup(self, page: Page) -> None:
        logger.info("a window that the page opened is closed")
        with suppress(PlaywrightError):
            await page.close()

    def _gateway_problem(self, url: str) -> str:
        problem = self._gateway.problem_with(url) if self._gateway else None
        return problem or "the gateway does not let it through"

    def _in_words(self, error: PlaywrightError, seconds: float) -> str:
        if "Timeout" in error.message:
            return f"it was not there after {seconds:.0f} s"
        if "ERR_TUNNEL_CONNECTION_FAILED" in error.message:
            return self._gateway_problem(self._asked_for)
        for name, words in NETWORK_ERRORS.items():
            if name in error.message:
                return words
        return self._clean(error.message.splitlines()[0].removeprefix("Page.goto: "))
