"""Which addresses the farm may open: the rule that keeps strangers' pages out of private networks.

The API applies it to the URL a client names, the stage to every address the browser is sent to afterwards
(redirects, and names that resolve differently later), the webhooks to each delivery. Hosts are read the way
Chromium reads them, see `browser_bot.network.host_names`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_network,
)
from urllib.parse import SplitResult, unquote, urlsplit

from recording_farm.browser_bot.errors import BrowserBotError
from recording_farm.browser_bot.network.dns import RESOLVE_SECONDS, resolve
from recording_farm.browser_bot.network.host_names import HostError, IpAddress, address_in, host_of, in_url

IpNetwork = IPv4Network | IPv6Network

CHECK_SECONDS = 2.0
"""How long a name may take that is only looked at beforehand: a client waits for it."""

_DEFAULT_PORTS = {"http": 80, "https": 443}

# Listed here although `is_global` knows most of them, because what it knows differs between Pythons.
_REFUSED_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT; some clouds serve machine metadata here
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, with the clouds' metadata service
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, with Teredo, which hides an IPv4 address
        "2001:db8::/32",
        "2002::/16",  # 6to4, which hides an IPv4 address
        "3fff::/20",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")


class AddressError(BrowserBotError):
    """A URL leads to an address that must not be opened; the message says why, in words for the client."""


@dataclass(frozen=True)
class Destination:
    """Where a URL leads: the host as it is looked up, the port, and its addresses, all of them allowed.

    There are none when the name does not resolve.
    """

    host: str
    port: int
    addresses: tuple[IpAddress, ...]


@dataclass(frozen=True)
class AddressRule:
    """What may be opened besides public addresses.

    `allowed` are networks the operator has opened up; with `allow_all` everything may be opened.
    """

    allowed: tuple[IpNetwork, ...] = ()
    allow_all: bool = False

    def is_allowed(self, ip: IpAddress) -> bool:
        """Whether the browser may open a connection to `ip`."""
        ip = _without_wrapping(ip)
        if self.allow_all or any(ip in network for network in self.allowed):
            return True
        return _is_public(ip)


def parse_address_rule(text: str) -> AddressRule:
    """The rule written as `all` or as networks between commas (`10.0.0.0/8, fd00::/8`); empty allows none.

    Raises ValueError, naming the part that is no network.
    """
    if text.strip().lower() == "all":
        return AddressRule(allow_all=True)
    return AddressRule(allowed=tuple(ip_network(part.strip()) for part in text.split(",") if part.strip()))


def _without_wrapping(ip: IpAddress) -> IpAddress:
    """The IPv4 address that an IPv6 address only stands for (mapped, or through NAT64), else the address."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    # A link-local address may come from the resolver with its interface, which no network contains.
    return IPv6Address(int(ip))


def _is_public(ip: IpAddress) -> bool:
    if isinstance(ip, IPv4Address):
        return ip.is_global and not any(ip in network for network in _REFUSED_V4)
    return ip.is_global and ip in _GLOBAL_V6 and not any(ip in network for network in _REFUSED_V6)


async def check_url(url: str, rule: AddressRule, always_allowed: Iterable[str] = ()) -> None:
    """Return quietly when the browser may be sent to `url`, raise AddressError when not.

    `always_allowed` are the beginnings of URLs that need no check, origin and path (`http://127.0.0.1:8000/meet/`).
    A name that does not resolve, or not soon, is not refused here: whoever opens the page reports it.
    """
    parts = _parse(url)
    if any(_lies_under(parts, _parse(allowed)) for allowed in always_allowed):
        return
    await destination_at(_host(parts), _port(parts), rule, CHECK_SECONDS)


async def destination_of(url: str, rule: AddressRule, seconds: float = RESOLVE_SECONDS) -> Destination:
    """Where `url` leads. Who connects to one of the addresses, and looks nothing up again, cannot be misled.

    There are none if they are not found within `seconds`. Raises AddressError when any of the addresses
    must not be opened.
    """
    parts = _parse(url)
    return await destination_at(_host(parts), _port(parts), rule, seconds)


async def destination_at(
    host: str, port: int, rule: AddressRule, seconds: float = RESOLVE_SECONDS
) -> Destination:
    """The same for a host (see `browser_bot.network.host_names`) and port that are not those of a page.

    Raises AddressError when it is none, or any of the addresses must not be opened.
    """
    try:
        host = host_of(host)
    except HostError as error:
        raise AddressError(str(error)) from None
    addresses = await addresses_of(host, seconds)
    for ip in addresses:
        if not rule.is_allowed(ip):
            raise AddressError(why_refused(host, ip))
    return Destination(host, port, addresses)


def why_refused(host: str, ip: IpAddress) -> str:
    """A message about a host whose address the rule does not allow."""
    private = f"{host} has the private address {ip}" if host != str(ip) else f"{ip} is a private address"
    # A worker on another machine than the API does not find the built-in meeting at its own address.
    hint = "; for the built-in meeting, set FARM_MEETING_URL" if ip.is_loopback else ""
    return f"{private}; allow it with FARM_ALLOW_PRIVATE_ADDRESSES{hint}"


def _parse(url: str) -> SplitResult:
    """Split a URL that every browser reads the same way; whatever can be read in two ways is refused."""
    if not re.match(r"https?://", url, re.IGNORECASE):
        raise AddressError("the URL must begin with http:// or https://")
    # Browsers drop control characters and take a backslash for a slash: http://a.example\@127.0.0.1/
    if re.search(r"[\x00-\x20\x7f-\xa0\\]", url):
        raise AddressError("the URL must not contain spaces, control characters or backslashes")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressError(f"the URL is not valid: {error}") from None
    if "@" in parts.netloc:
        raise AddressError("the URL must not contain a user name or a password")
    if not parts.hostname:
        raise AddressError("the URL has no host")
    if port == 0:
        raise AddressError("the URL has port 0")
    _host(parts)
    return parts


def _host(parts: SplitResult) -> str:
    text = f"[{parts.hostname}]" if "[" in parts.netloc else parts.hostname or ""
    try:
        return host_of(text)
    except HostError as error:
        raise AddressError(str(error)) from None


def _port(parts: SplitResult) -> int:
    return parts.port or _DEFAULT_PORTS[parts.scheme.lower()]


def origin_of(url: str) -> str:
    """The origin of a URL as browsers send it (Fetch, 3.1). Raises AddressError when there is none."""
    parts = _parse(url)
    scheme, host, port = parts.scheme.lower(), _host(parts), _port(parts)
    return f"{scheme}://{in_url(host)}" + ("" if port == _DEFAULT_PORTS[scheme] else f":{port}")


def lies_under(url: str, beginnings: Iterable[str]) -> bool:
    """Whether a URL begins with one of `beginnings` (origin and path), however it is spelled."""
    try:
        parts = _parse(url)
    except AddressError:
        return False
    return any(_lies_under(parts, _parse(beginning)) for beginning in beginnings)


def _lies_under(parts: SplitResult, allowed: SplitResult) -> bool:
    origin, other = ((part.scheme.lower(), _host(part), _port(part)) for part in (parts, allowed))
    if origin != other:
        return False
    # A browser resolves /meet/../v2 and /meet/%2e%2e/v2 before it asks for the page.
    segments = [unquote(segment) for segment in re.split(r"/", parts.path)]
    return ".." not in segments and "." not in segments and parts.path.startswith(allowed.path)


async def addresses_of(
    host: str, seconds: float = RESOLVE_SECONDS, asker: object = None
) -> tuple[IpAddress, ...]:
    """All addresses of a host (`browser_bot.network.host_names`); none if it has none, or not in `seconds`.

    `asker` is who asks: `browser_bot.network.dns` bounds the names that one looks up at once.
    """
    literal = address_in(host)
    if literal is not None:
        return (literal,)
    if host == "localhost" or host.endswith(".localhost"):
        # Browsers do not ask the resolver for these.
        return IPv4Address("127.0.0.1"), IPv6Address("::1")
    return await resolve(host, seconds, asker)
