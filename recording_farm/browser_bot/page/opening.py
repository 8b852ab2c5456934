"""Opens a page: waits until there is something to see, or raises an error for users.

A page counts as loaded when its document is parsed (DOMContentLoaded). Its images, frames and scripts may
wait for responses that never come, and people would not notice.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from itertools import count
from urllib.parse import urlsplit

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Page, Request, Response
from playwright.async_api import TimeoutError as PlaywrightTimeout

from recording_farm.browser_bot.errors import NoAnswerError, PageError, PagePermanentError
from recording_farm.browser_bot.network.addresses import lookup_addresses
from recording_farm.browser_bot.network.gateway import DEFAULT_PORTS, PROBLEM_HEADER, Gateway
from recording_farm.browser_bot.network.host_names import normalize_host
from recording_farm.browser_bot.page.isolated_world import IsolatedWorld
from recording_farm.browser_bot.redaction import printable
from recording_farm.browser_bot.stage.browser import DRIVER_GRACE

logger = logging.getLogger(__name__)

STOP_TIMEOUT = 1.0
LOAD_TIMEOUT = 5.0
"""Time for the document's images, fonts and frames to load; then the contract decides without them."""

ANSWER_TIMEOUT = 3.0
"""A script that does not answer within this time hangs."""

INTERRUPTED = "interrupted by another navigation"
"""Playwright's message when the page navigates elsewhere before the new one is there."""

MAX_INTERRUPTED = 5
MAX_REASON = 100
"""Characters of a server's reason phrase that go into an error."""

ERROR_PAGE = "chrome-error://"
"""Chromium's own page in place of one that it cannot load."""

BAD_CERTIFICATE = "the server's certificate is not valid"
# Chromium's network errors (net_error_list.h), and Playwright's own messages, as explanations for users.
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
    "ERR_UNSAFE_REDIRECT": "it redirects to an address that is not a web page",
    "ERR_UNSAFE_PORT": "browsers block this port",
    "ERR_INVALID_AUTH_CREDENTIALS": "it asks for a user name and a password",
    "ERR_ABORTED": "the server sent no page",
    "Download is starting": "it is a file to download",
    "Cannot navigate to invalid URL": "it is not a valid URL",
    "ERR_CERT_AUTHORITY_INVALID": f"{BAD_CERTIFICATE}: it is signed by an authority that is not trusted here",
    "ERR_CERT_COMMON_NAME_INVALID": f"{BAD_CERTIFICATE}: it is for another name",
    "ERR_CERT_DATE_INVALID": f"{BAD_CERTIFICATE}: it has expired, or is not valid yet",
    "ERR_CERT": BAD_CERTIFICATE,
    "ERR_SSL": "the server does not speak TLS properly",
}

PERMANENT = ("ERR_FILE_NOT_FOUND", "ERR_UNSAFE_PORT", "ERR_UNSAFE_REDIRECT", "Cannot navigate to invalid URL")
"""Errors that a retry cannot fix."""

PERMANENT_STATUS = frozenset(
    {
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.GONE,
        HTTPStatus.REQUEST_URI_TOO_LONG,
        HTTPStatus.NOT_IMPLEMENTED,
        HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
    }
)
"""HTTP statuses that a retry cannot fix. A 404 is not one: a room may be created a moment later."""

_HAS_PAINTED = "performance.getEntriesByName('first-contentful-paint').length > 0"
"""Paint Timing (W3C): there is an entry once the page has painted text, an image or a canvas."""

HAS_SCRIPT = """
document.scripts.length > 0 || [...document.querySelectorAll('*')].some(
  (element) => element.getAttributeNames().some((name) => name.startsWith('on')))
"""
"""True if a document has scripts: an application has them, a server's own error page does not."""


class Opening:
    """Opens pages in the one page of a browser, `url` after `url`."""

    def __init__(
        self, page: Page, world: IsolatedWorld, gateway: Gateway | None, clean: Callable[[str], str]
    ) -> None:
        """Open pages in `page`, which has the isolated world `world` and uses `gateway` if there is one.

        `clean` removes secrets from errors.
        """
        self._page = page
        self._world = world
        self._gateway = gateway
        self._clean = clean
        self._url = ""
        self._seconds = 0.0
        self._failed_at = ""
        self._answer: Response | None = None
        page.on("response", self._answered)
        page.on("requestfailed", self._request_failed)

    async def begin(self, url: str, seconds: float) -> None:
        """Go to `url` and wait until a page comes from there. Raises PageError if none does in `seconds`."""
        self._url, self._seconds, self._failed_at, self._answer = url, seconds, url, None
        try:
            async with asyncio.timeout(seconds + DRIVER_GRACE):
                answer = await self._go(url, seconds)
        except TimeoutError:
            raise self.error("the browser does not answer") from None
        except PlaywrightError as error:
            await self._stop_loading()
            if any(name in error.message for name in PERMANENT):
                raise PagePermanentError(str(self.error(self._explain(error)))) from error
            raise self.error(self._explain(error)) from error
        self._answer = self._answer or answer
        self._raise_gateway_problem()

    async def _go(self, url: str, seconds: float) -> Response | None:
        for attempt in count(1):
            try:
                return await self._page.goto(url, wait_until="commit", timeout=seconds * 1000)
            except PlaywrightError as error:
                if INTERRUPTED not in error.message or attempt == MAX_INTERRUPTED:
                    raise
                # By a navigation in progress: of an earlier attempt, or the page's own.
                if self._page.url == url:
                    logger.info("an earlier attempt has opened the page")
                    return None
                logger.info("the page navigated elsewhere while it was opened; opening it again")
        raise AssertionError

    async def document(self, seconds: float) -> None:
        """Wait until the document is parsed; one that takes longer than `seconds` must show something.

        Raises PageError if it does not. A redirect by the page's script is followed.
        """
        try:
            await self._page.wait_for_load_state("domcontentloaded", timeout=max(1.0, seconds * 1000))
        except PlaywrightTimeout:
            has_painted = await self._says(_HAS_PAINTED)
            if not has_painted:
                await self._stop_loading()
                hangs = ", its script hangs" if has_painted is None else ""
                raise self.error(f"it was not there after {self._seconds:.2g} s{hangs}") from None
            logger.warning("the page's document is incomplete; continuing with what it shows")
        except PlaywrightError as error:
            raise self.error(self._explain(error)) from error
        if self._page.url.startswith(ERROR_PAGE):
            raise self.error("it navigates to an address that does not load")
        self._raise_gateway_problem()

    async def loaded(self) -> None:
        """Wait for images, fonts, frames and scripts, up to LOAD_TIMEOUT."""
        try:
            await self._page.wait_for_load_state("load", timeout=LOAD_TIMEOUT * 1000)
        except PlaywrightTimeout:
            logger.warning("parts of the page did not load in %.0f s; continuing without them", LOAD_TIMEOUT)
        except PlaywrightError as error:
            raise self.error(self._explain(error)) from error

    async def is_reachable(self, url: str) -> bool:
        """Whether the server of `url` accepts connections now."""
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS:
            return True
        if self._gateway is not None:
            return await self._gateway.can_reach(url)
        try:
            host, port = normalize_host(parts.hostname or ""), parts.port or DEFAULT_PORTS[parts.scheme]
        except ValueError:
            return False
        for ip in await lookup_addresses(host, ANSWER_TIMEOUT):
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    _, writer = await asyncio.open_connection(str(ip), port)
                writer.close()
                return True
        return False

    @property
    def refused(self) -> str | None:
        """The server's error status and reason phrase; None if it sent none."""
        if self._answer is None or self.status < HTTPStatus.BAD_REQUEST:
            return None
        reason = printable(self._clean(self._answer.status_text))[:MAX_REASON]
        answered = f"it answered {self.status} {reason}".rstrip()
        if self.status == HTTPStatus.UNAUTHORIZED:
            return f"{answered}: it asks for a user name and a password"
        return answered

    @property
    def status(self) -> int:
        """The HTTP status of the document; 0 if it did not come by HTTP."""
        return 0 if self._answer is None else self._answer.status

    async def has_script(self) -> bool:
        """Whether the document has a script, which could still start a meeting."""
        return await self._says(HAS_SCRIPT) is True

    def error(self, words: str) -> PageError:
        """The error of a page that did not load, with a reason for users."""
        return PageError(f"the page {self._clean(self._url)} did not load: {words}")

    def refusal(self, words: str) -> PageError:
        """The error for a page with an error status; a PagePermanentError if a retry cannot help."""
        error = self.error(words)
        return PagePermanentError(str(error)) if self.status in PERMANENT_STATUS else error

    def gateway_problem(self, url: str) -> str:
        """Return why the gateway refused a request for `url`."""
        problem = self._gateway.problem_with(url) if self._gateway else None
        return problem or "the gateway refuses it"

    def _raise_gateway_problem(self) -> None:
        if self._answer is not None and PROBLEM_HEADER in self._answer.headers:
            raise self.error(self.gateway_problem(self._answer.url))

    def _answered(self, response: Response) -> None:
        if self._is_navigation(response.request):
            self._answer = response

    def _request_failed(self, request: Request) -> None:
        if self._is_navigation(request):
            # The last URL of its redirects.
            self._failed_at = request.url

    def _is_navigation(self, request: Request) -> bool:
        return request.is_navigation_request() and request.frame == self._page.main_frame

    async def _says(self, question: str) -> bool | None:
        """Whether the page answers yes; None if its script does not answer."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await self._world.ask(question) is True
        except NoAnswerError:  # it navigates away
            return False
        except TimeoutError:
            return None

    async def _stop_loading(self) -> None:
        """Abort a load in progress; it would disturb the next attempt and the screenshot."""
        with suppress(PlaywrightError, TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                session = await self._page.context.new_cdp_session(self._page)
                await session.send("Page.stopLoading")
                await session.detach()

    def _explain(self, error: PlaywrightError) -> str:
        if "Timeout" in error.message:
            return f"it was not there after {self._seconds:.2g} s"
        if "ERR_TUNNEL_CONNECTION_FAILED" in error.message:
            return self.gateway_problem(self._failed_at)
        if "ERR_HTTP_RESPONSE_CODE_FAILURE" in error.message and self.refused is not None:
            # Chromium's name for an error status without a body.
            return self.refused
        for name, words in NETWORK_ERRORS.items():
            if name in error.message:
                return words
        return self._clean(error.message.splitlines()[0].removeprefix("Page.goto: "))
