"""Gives the browser a client's passwords, headers and cookies for a page's server.

Passwords and headers go to their own origins alone, from the page, its frames and workers alike. The browser
asks us for them (CDP's Fetch domain, of the browser itself and so for all its targets): for headers at
requests to their origin, for passwords at every request, because a browser that answers some servers'
questions for a password would show a dialog for those of all others. Without passwords and headers nothing is
asked. Neither follows a redirect elsewhere.
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

_MAX_REFUSED: Final = 1000
"""What a request is at, so often a password is refused for it at most."""


async def give_access(browser: Browser, access: SiteAccess, url: str) -> None:
    """Have the browser open the page at `url` with `access`, from now on.

    A user name in the URL is the browser's to use; what other servers ask for is answered here. Raises
    PageError, in words for people, when the browser does not take it, StageError when it is gone.
    """
    has_login = "@" in urlsplit(url).netloc
    if access == NO_ACCESS and not has_login:
        return
    try:
        origin = "" if access == NO_ACCESS else origin_of(url)
    except AddressError as error:
        raise PageError(f"credentials, headers and cookies need a page of the web: {error}") from None
    try:
        async with asyncio.timeout(DRIVER_GRACE * 5):
            assert browser.context.browser is not None
            session = await browser.context.browser.new_browser_cdp_session()
            for cookie in access.cookies:
                await _set_cookie(session, cookie.for_browser(in_url(urlsplit(origin).hostname or "")))
            if access.credentials or access.headers or has_login:
                await _Giver(access, origin, is_asked=has_login or bool(access.credentials)).begin(session)
    except TimeoutError:
        raise StageError("the browser does not answer") from None
    except PlaywrightError as error:
        raise StageError(f"the browser takes no credentials: {error.message.splitlines()[0]}") from None


async def _set_cookie(session: CDPSession, cookie: dict[str, Any]) -> None:
    try:
        await session.send("Storage.setCookies", {"cookies": [cookie]})
    except PlaywrightError:
        # What the driver says holds the value.
        raise PageError(
            f"the browser does not take the cookie {cookie['name']} for {cookie['domain']}"
        ) from None


class _Giver:
    """Answers the browser's questions about requests."""

    def __init__(self, access: SiteAccess, origin: str, *, is_asked: bool) -> None:
        self._is_asked = is_asked
        self._headers = [{"name": name, "value": value} for name, value in access.headers.items()]
        self._page = origin
        self._credentials: dict[str, HttpCredentials] = {}
        for each in access.credentials:
            self._credentials.setdefault(each.origin or origin, each)
        # A request that asks again was given what its server does not take.
        self._given: dict[str, None] = {}
        self._answers: set[asyncio.Task[None]] = set()

    async def begin(self, session: CDPSession) -> None:
        """Answer from now on. Raises PlaywrightError."""
        session.on("Fetch.requestPaused", lambda asked: self._answer(self._request(session, asked)))
        session.on("Fetch.authRequired", lambda asked: self._answer(self._challenge(session, asked)))
        pattern = "*" if self._is_asked else f"{self._page}/*"
        await session.send(
            "Fetch.enable",
            {"handleAuthRequests": self._is_asked, "patterns": [{"urlPattern": pattern}]},
        )

    def _answer(self, answering: Coroutine[Any, Any, None]) -> None:
        answer = asyncio.ensure_future(answering)
        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)

    async def _request(self, session: CDPSession, asked: dict[str, Any]) -> None:
        request = asked["request"]
        answer: dict[str, Any] = {"requestId": asked["requestId"]}
        if self._headers and request["url"].startswith(f"{self._page}/"):
            names = {header["name"] for header in self._headers}
            kept = [
                {"name": name, "value": value}
                for name, value in request["headers"].items()
                if name.lower() not in names
            ]
            answer["headers"] = kept + self._headers
        await _send(session, "Fetch.continueRequest", answer)

    async def _challenge(self, session: CDPSession, asked: dict[str, Any]) -> None:
        challenge, request = asked["authChallenge"], asked["requestId"]
        credentials = self._credentials.get(challenge["origin"])
        if challenge.get("source") != "Server" or credentials is None:
            # The browser's own answer would be a dialog; so the page sees the 401.
            answer = {"response": "CancelAuth"}
        elif request in self._given:
            logger.warning("%s does not take the user name and password", challenge["origin"])
            answer = {"response": "CancelAuth"}
        else:
            if len(self._given) >= _MAX_REFUSED:
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
        # The request, or the browser, is gone. What the driver says holds the parameters.
        logger.debug("a request went away before it was answered")
