"""Gives the browser a client's passwords, headers and cookies for a page's server.

Passwords and headers are only sent to their own origins, by the page, its frames and its workers. They are
added through CDP's Fetch domain of the browser, which covers all targets. For headers it intercepts requests
to their origin. For passwords it intercepts all requests, because otherwise Chromium would show a dialog for
other servers that require a password. Without passwords and headers nothing is intercepted. Redirects to
other origins get neither.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.async_api import CDPSession
from playwright.async_api import Error as PlaywrightError

from recording_farm.browser_bot.errors import PageError, StageError
from recording_farm.browser_bot.network.addresses import AddressError, origin_of
from recording_farm.browser_bot.network.host_names import in_url
from recording_farm.browser_bot.page.site_access import NO_ACCESS, HttpCredentials, SiteAccess
from recording_farm.browser_bot.stage.browser import DRIVER_GRACE, Browser

logger = logging.getLogger(__name__)

_MAX_TRACKED: Final = 1000
"""How many requests are remembered as having been given a password."""


async def apply_access(browser: Browser, access: SiteAccess, url: str) -> None:
    """Make the browser use `access` for the page at `url`.

    The browser itself uses a user name in the URL; requests of other servers are answered here. Raises
    PageError with a message for users if the browser rejects something, StageError if it is gone.
    """
    has_login = "@" in urlsplit(url).netloc
    if access == NO_ACCESS and not has_login:
        return
    try:
        origin = "" if access == NO_ACCESS else origin_of(url)
    except AddressError as error:
        raise PageError(f"credentials, headers and cookies need an http or https page: {error}") from None
    try:
        async with asyncio.timeout(DRIVER_GRACE * 5):
            assert browser.context.browser is not None
            session = await browser.context.browser.new_browser_cdp_session()
            for cookie in access.cookies:
                await _set_cookie(session, cookie.for_browser(in_url(urlsplit(origin).hostname or "")))
            if access.credentials or access.headers or has_login:
                handles_auth = has_login or bool(access.credentials)
                await _AuthHandler(access, origin, handles_auth=handles_auth).begin(session)
    except TimeoutError:
        raise StageError("the browser does not answer") from None
    except PlaywrightError as error:
        raise StageError(
            f"cannot set up credentials in the browser: {error.message.splitlines()[0]}"
        ) from None


async def _set_cookie(session: CDPSession, cookie: dict[str, Any]) -> None:
    try:
        await session.send("Storage.setCookies", {"cookies": [cookie]})
    except PlaywrightError:
        # The driver's message contains the value.
        raise PageError(f"the browser rejects the cookie {cookie['name']} for {cookie['domain']}") from None


class _AuthHandler:
    """Answers intercepted requests and authentication challenges of the browser."""

    def __init__(self, access: SiteAccess, origin: str, *, handles_auth: bool) -> None:
        self._handles_auth = handles_auth
        self._headers = [{"name": name, "value": value} for name, value in access.headers.items()]
        self._page = origin
        self._credentials: dict[str, HttpCredentials] = {}
        for each in access.credentials:
            self._credentials.setdefault(each.origin or origin, each)
        # If a request is challenged again, its server has rejected the password.
        self._given: dict[str, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, session: CDPSession) -> None:
        """Start answering. Raises PlaywrightError."""
        session.on("Fetch.requestPaused", lambda event: self._start(self._continue_request(session, event)))
        session.on("Fetch.authRequired", lambda event: self._start(self._continue_auth(session, event)))
        pattern = "*" if self._handles_auth else f"{self._page}/*"
        await session.send(
            "Fetch.enable",
            {"handleAuthRequests": self._handles_auth, "patterns": [{"urlPattern": pattern}]},
        )

    def _start(self, answering: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(answering)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _continue_request(self, session: CDPSession, event: dict[str, Any]) -> None:
        request = event["request"]
        answer: dict[str, Any] = {"requestId": event["requestId"]}
        if self._headers and request["url"].startswith(f"{self._page}/"):
            names = {header["name"] for header in self._headers}
            kept = [
                {"name": name, "value": value}
                for name, value in request["headers"].items()
                if name.lower() not in names
            ]
            answer["headers"] = kept + self._headers
        await _send(session, "Fetch.continueRequest", answer)

    async def _continue_auth(self, session: CDPSession, event: dict[str, Any]) -> None:
        challenge, request = event["authChallenge"], event["requestId"]
        credentials = self._credentials.get(challenge["origin"])
        if challenge.get("source") != "Server" or credentials is None:
            # The page sees the 401; the default answer would be a dialog.
            answer = {"response": "CancelAuth"}
        elif request in self._given:
            logger.warning("%s rejected the user name and password", challenge["origin"])
            answer = {"response": "CancelAuth"}
        else:
            if len(self._given) >= _MAX_TRACKED:
                self._given.clear()
            self._given[request] = None
            answer = {
                "response": "ProvideCredentials",
                "username": credentials.username,
                "password": credentials.password,
            }
        await _send(
            session, "Fetch.continueWithAuth", {"requestId": request, "authChallengeResponse": answer}
        )


async def _send(session: CDPSession, method: str, parameters: dict[str, Any]) -> None:
    try:
        await session.send(method, parameters)
    except PlaywrightError:
        # The request or the browser is gone. The driver's message contains the parameters.
        logger.debug("a request ended before it was answered")
