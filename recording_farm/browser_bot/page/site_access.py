"""Site access: the user name and password, headers and cookies that a client gives for a page's server."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, Self

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

from recording_farm.browser_bot.network.addresses import AddressError, origin_of
from recording_farm.browser_bot.network.host_names import HostError, normalize_host

MAX_CREDENTIALS: Final = 10
MAX_HEADERS: Final = 30
MAX_COOKIES: Final = 50
_MAX_COOKIE: Final = 4096
"""Chromium's maximum size of a cookie (RFC 6265bis, 5.6)."""

_MIN_SECRET: Final = 4
"""Shorter values are not redacted; they would match half of the log."""


_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[!-~]([ \t!-~]*[!-~])?")
_COOKIE_NAME: Final = re.compile(r"[!#-+\--:<>-~]+")
_COOKIE_VALUE: Final = re.compile(r"([!-:<-~]([ !-:<-~]*[!-:<-~])?)?")
_COOKIE_PATH: Final = re.compile(r"/[!-:<-~]*")
# Headers that the browser sets itself (Fetch, 2.2.2) and headers that have a field of their own.
_FORBIDDEN: Final = {
    "cookie": "use the field cookies",
    "accept-language": "use the field locale",
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
    if problem := _FORBIDDEN.get(name, own):
        raise _refused(f"is not allowed here: {problem}")
    return name


def _header_value(value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise _refused("must be printable ASCII, without spaces at the start or the end")
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
"""Headers by lower-case name, for each request to the page's origin."""


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class HttpCredentials(_Given):
    """User name and password (HTTP Basic, Digest, NTLM) for an origin, by default the page's."""

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

    @property
    def basic(self) -> str:
        """The value that HTTP Basic sends (RFC 7617)."""
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class Cookie(_Given):
    """A cookie for the page's host, or for a `domain` and its subdomains."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=_MAX_COOKIE)]
    value: Annotated[str, StringConstraints(max_length=_MAX_COOKIE)]
    domain: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    path: Annotated[str, StringConstraints(max_length=1024)] = "/"
    secure: bool = False
    http_only: bool = False
    same_site: Literal["Strict", "Lax", "None"] | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        # Errors do not contain the value, which may be secret.
        if not _COOKIE_NAME.fullmatch(self.name) or not _COOKIE_VALUE.fullmatch(self.value):
            raise _refused("name and value must be printable ASCII without ; and the name without =")
        if len(self.name) + len(self.value) > _MAX_COOKIE:
            raise _refused(f"name and value must not be longer than {_MAX_COOKIE} characters together")
        if not _COOKIE_PATH.fullmatch(self.path):
            raise _refused("path must begin with / and must not contain ;")
        if self.same_site == "None" and not self.secure:
            raise _refused("same_site None needs secure")
        if self.name.startswith("__Secure-") and not self.secure:
            raise _refused("a name that begins with __Secure- needs secure")
        if self.name.startswith("__Host-") and (not self.secure or self.domain or self.path != "/"):
            raise _refused("a name that begins with __Host- needs secure, the path / and no domain")
        if self.domain is not None and _host(self.domain) is None:
            raise _refused("domain must be a host name such as example.com")
        return self

    def for_browser(self, page_host: str) -> dict[str, Any]:
        """Return the cookie for CDP (Network.CookieParam)."""
        return {
            "name": self.name,
            "value": self.value,
            # A leading dot includes subdomains.
            "domain": page_host if self.domain is None else f".{_host(self.domain)}",
            "path": self.path,
            "secure": self.secure,
            "httpOnly": self.http_only,
        } | ({"sameSite": self.same_site} if self.same_site else {})


def _host(domain: str) -> str | None:
    """Return the normalized host of a cookie's domain; None if a cookie must not have this domain.

    A domain of one label, such as com, is shared by unrelated sites; an IP address has no subdomains.
    """
    try:
        host = normalize_host(domain.removeprefix("."))
    except HostError:
        return None
    return host if "." in host and not host.replace(".", "").isdigit() else None


Credentials = Annotated[list[HttpCredentials], Field(max_length=MAX_CREDENTIALS)]
Cookies = Annotated[list[Cookie], Field(max_length=MAX_COOKIES)]


@dataclass(frozen=True)
class SiteAccess:
    """Credentials, headers and cookies for a page. The first of several credentials for an origin is used."""

    credentials: tuple[HttpCredentials, ...] = field(default=(), repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    cookies: tuple[Cookie, ...] = field(default=(), repr=False)

    @property
    def secrets(self) -> list[str]:
        """Return all texts that must be redacted in logs."""
        found = []
        for each in self.credentials:
            found += [each.password or each.username, each.basic]
        texts = [*self.headers.values(), *(cookie.value for cookie in self.cookies)]
        # The part after the scheme of a header, such as `Bearer`.
        parts = [text.partition(" ")[2] for text in texts]
        return [each for each in found if each] + [
            each for each in (*texts, *parts) if len(each) >= _MIN_SECRET
        ]


NO_ACCESS: Final = SiteAccess()
