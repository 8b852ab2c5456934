"""Site access: the user name and password, headers and cookies that a page's server requires.

Passwords and headers go to their own origins alone, from the page, its frames and workers alike. The browser
asks us for them (CDP's Fetch domain, of the browser itself and so for all its targets): for headers at
requests to their origin, for passwords at every request, because a browser that answers some servers'
questions for a password would show a dialog for those of all others. Without passwords and headers nothing is
asked. Neither follows a redirect elsewhere.
"""

import asyncio
import base64
import logging
import re
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from playwright.async_api import CDPSession
from playwright.async_api import Error as PlaywrightError
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from browser_bot.errors import PageError, StageError
from browser_bot.network.addresses import AddressError, origin_of
from browser_bot.network.host_names import HostError, host_of, in_url
from browser_bot.stage.browser import DRIVER_GRACE, Browser

logger = logging.getLogger(__name__)

MAX_CREDENTIALS: Final = 10
MAX_HEADERS: Final = 30
MAX_COOKIES: Final = 50
_MAX_COOKIE: Final = 4096
"""Chromium takes no larger cookie (RFC 6265bis, 5.6)."""

_MIN_SECRET: Final = 4
"""A shorter text is no secret, and would be cut out of half of the log."""

_MAX_REFUSED: Final = 1000
"""What a request is at, so often a password is refused for it at most."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[!-~]([ \t!-~]*[!-~])?")
_COOKIE_NAME: Final = re.compile(r"[!#-+\--:<>-~]+")
_COOKIE_VALUE: Final = re.compile(r"([!-:<-~]([ !-:<-~]*[!-:<-~])?)?")
_COOKIE_PATH: Final = re.compile(r"/[!-:<-~]*")
# Those that the browser makes itself (Fetch, 2.2.2), and those for which there is another field.
_OTHERWISE: Final = {
    "cookie": "give it in cookies",
    "accept-language": "give it in locale",
    **dict.fromkeys(
        (
            *("accept-encoding", "connection", "content-length", "content-type", "date", "expect", "host"),
            *("keep-alive", "origin", "referer", "te", "trailer", "transfer-encoding", "upgrade", "via"),
        ),
        "the browser sets it itself",
    ),
}
_OWN_PREFIXES: Final = ("sec-", "proxy-", "access-control-request-")


def _refused(problem: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{problem}", {"problem": problem})


def _header_name(name: str) -> str:
    name = name.lower()
    if not _TOKEN.fullmatch(name):
        raise _refused("must be the name of a header")
    own = "the browser sets it itself" if name.startswith(_OWN_PREFIXES) else None
    if problem := _OTHERWISE.get(name, own):
        raise _refused(f"cannot be given here: {problem}")
    return name


def _header_value(value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise _refused("must be printable ASCII, without space at its ends")
    return value


def _each_once(headers: Any) -> Any:
    if isinstance(headers, dict) and len({str(name).lower() for name in headers}) < len(headers):
        raise _refused("names a header twice")
    return headers


def _origin(text: str) -> str:
    try:
        origin = origin_of(text)
    except AddressError:
        origin = ""
    if not origin or text.lower().rstrip("/").count("/") != 2:
        raise _refused("must be an origin, such as https://example.com")
    return origin


Headers = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=100), AfterValidator(_header_name)],
        Annotated[str, StringConstraints(max_length=8192), AfterValidator(_header_value)],
    ],
    Field(max_length=MAX_HEADERS, json_schema_extra={"format": "headers"}),
    BeforeValidator(_each_once),
]
"""Headers by their names, which are written small; each request to the page's origin has them."""


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class HttpCredentials(_Given):
    """User name and password (HTTP Basic, Digest, NTLM) for an origin; without one, for the page's."""

    username: Annotated[str, StringConstraints(max_length=256)]
    password: Annotated[str, StringConstraints(max_length=1024)]
    origin: (
        Annotated[
            str,
            StringConstraints(max_length=300),
            AfterValidator(_origin),
            Field(json_schema_extra={"format": "origin"}),
        ]
        | None
    ) = None


class Cookie(_Given):
    """A cookie, for the page's host alone, or for a `domain` and the hosts below it."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=_MAX_COOKIE)]
    value: Annotated[str, StringConstraints(max_length=_MAX_COOKIE)]
    domain: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    path: Annotated[str, StringConstraints(max_length=1024)] = "/"
    secure: bool = False
    http_only: bool = False
    same_site: Literal["Strict", "Lax", "None"] | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        # The name is known to who sent it; the value may be secret.
        if not _COOKIE_NAME.fullmatch(self.name) or not _COOKIE_VALUE.fullmatch(self.value):
            raise _refused("name and value must be printable ASCII without ; and the name without =")
        if len(self.name) + len(self.value) > _MAX_COOKIE:
            raise _refused(f"name and value may have {_MAX_COOKIE} characters together")
        if not _COOKIE_PATH.fullmatch(self.path):
            raise _refused("path must begin with / and hold no ;")
        if self.same_site == "None" and not self.secure:
            raise _refused("same_site None needs secure")
        if self.name.startswith("__Secure-") and not self.secure:
            raise _refused("a name with __Secure- needs secure")
        if self.name.startswith("__Host-") and (not self.secure or self.domain or self.path != "/"):
            raise _refused("a name with __Host- needs secure, the path / and no domain")
        if self.domain is not None and _host(self.domain) is None:
            raise _refused("domain must be the name of a host, such as example.com")
        return self

    def for_browser(self, page_host: str) -> dict[str, Any]:
        """The same as CDP has it (Network.CookieParam)."""
        return {
            "name": self.name,
            "value": self.value,
            # With a dot the hosts below have it too.
            "domain": page_host if self.domain is None else f".{_host(self.domain)}",
            "path": self.path,
            "secure": self.secure,
            "httpOnly": self.http_only,
        } | ({"sameSite": self.same_site} if self.same_site else {})


def _host(domain: str) -> str | None:
    """The host that a cookie's domain names, as browsers write it; None if none can have hosts below it.

    A domain of one label, such as com, would be that of strangers; an address has no hosts below it.
    """
    try:
        host = host_of(domain.removeprefix("."))
    except HostError:
        return None
    return host if "." in host and not host.replace(".", "").isdigit() else None


Credentials = Annotated[list[HttpCredentials], Field(max_length=MAX_CREDENTIALS)]
Cookies = Annotated[list[Cookie], Field(max_length=MAX_COOKIES)]


@dataclass(frozen=True)
class SiteAccess:
    """What is given to open a page with. Of several credentials for an origin the first counts."""

    credentials: tuple[HttpCredentials, ...] = field(default=(), repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    cookies: tuple[Cookie, ...] = field(default=(), repr=False)

    @property
    def secrets(self) -> list[str]:
        """What of it must not be seen, however a page prints it."""
        found = []
        for each in self.credentials:
            found += [each.password or each.username, _basic(each)]
        texts = [*self.headers.values(), *(cookie.value for cookie in self.cookies)]
        # A header's scheme is no secret: `Bearer`.
        parts = [text.partition(" ")[2] for text in texts]
        return [each for each in found if each] + [
            each for each in (*texts, *parts) if len(each) >= _MIN_SECRET
        ]


NO_ACCESS: Final = SiteAccess()


def _basic(credentials: HttpCredentials) -> str:
    return base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()


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
