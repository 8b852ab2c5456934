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
from recording_farm.browser_bot.network.host_names import HostError, host_of

MAX_CREDENTIALS: Final = 10
MAX_HEADERS: Final = 30
MAX_COOKIES: Final = 50
_MAX_COOKIE: Final = 4096
"""Chromium takes no larger cookie (RFC 6265bis, 5.6)."""

_MIN_SECRET: Final = 4
"""A shorter text is no secret, and would be cut out of half of the log."""


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

    @property
    def basic(self) -> str:
        """What HTTP Basic sends of them (RFC 7617)."""
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


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
            found += [each.password or each.username, each.basic]
        texts = [*self.headers.values(), *(cookie.value for cookie in self.cookies)]
        # A header's scheme is no secret: `Bearer`.
        parts = [text.partition(" ")[2] for text in texts]
        return [each for each in found if each] + [
            each for each in (*texts, *parts) if len(each) >= _MIN_SECRET
        ]


NO_ACCESS: Final = SiteAccess()
