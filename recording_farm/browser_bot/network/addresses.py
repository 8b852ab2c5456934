"""The address rule: which addresses the farm may open, so that pages cannot reach private networks.

The API applies it to URLs in requests, the gateway to every connection of the browser (redirects, and names
that resolve differently later), the webhooks to each delivery. Hosts are parsed like in Chromium, see
`browser_bot.network.host_names`.
"""

import logging
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
from recording_farm.browser_bot.network.dns import RESOLVE_SECONDS, DnsAnswer, look_up
from recording_farm.browser_bot.network.host_names import (
    HostError,
    IpAddress,
    in_url,
    normalize_host,
    parse_address,
)

logger = logging.getLogger(__name__)

IpNetwork = IPv4Network | IPv6Network

CHECK_SECONDS = 2.0
"""Time-out of a DNS lookup in a check before the page is opened, while a client waits."""

_MAX_DECODED = 4
"""How often a path may be percent-encoded, one time more than any server decodes it."""

_DOT_SEGMENT = re.compile(r"(?:^|[/\\;\x00-\x20])\.{1,2}(?:[/\\;\x00-\x20]|$)")
"""A segment `.` or `..`, between slashes or what some servers take for one, or for the end of a path."""

_DEFAULT_PORTS = {"http": 80, "https": 443}

# Explicit although `is_global` covers most of them, because it differs between Python versions.
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
        "2001::/23",  # protocol assignments, with Teredo, which embeds an IPv4 address
        "2001:db8::/32",
        "2002::/16",  # 6to4, which embeds an IPv4 address
        "3fff::/20",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")


class AddressError(BrowserBotError):
    """A URL leads to an address that must not be opened; the message is for clients."""


class UnresolvedNameError(AddressError):
    """A host name was not resolved in time, so nobody knows whether its addresses are allowed."""


@dataclass(frozen=True)
class Destination:
    """The normalized host, port and addresses of a URL; the rule allows all of them.

    `addresses` is empty if the name does not resolve.
    """

    host: str
    port: int
    addresses: tuple[IpAddress, ...]


@dataclass(frozen=True)
class AddressRule:
    """Which addresses are allowed besides public ones.

    `allowed` are networks that the operator allows; `allow_all` allows every address.
    """

    allowed: tuple[IpNetwork, ...] = ()
    allow_all: bool = False

    def is_allowed(self, ip: IpAddress) -> bool:
        """Whether the browser may connect to `ip`."""
        ip = _unwrap(ip)
        if self.allow_all or any(ip in network for network in self.allowed):
            return True
        return _is_public(ip)

    def __str__(self) -> str:
        """The text that `parse_address_rule` reads."""
        return "all" if self.allow_all else ",".join(map(str, self.allowed))


def parse_address_rule(text: str) -> AddressRule:
    """Parse `all` or comma-separated networks (`10.0.0.0/8, fd00::/8`); an empty text allows none.

    Raises ValueError that names the invalid network.
    """
    if text.strip().lower() == "all":
        return AddressRule(allow_all=True)
    return AddressRule(allowed=tuple(ip_network(part.strip()) for part in text.split(",") if part.strip()))


def _unwrap(ip: IpAddress) -> IpAddress:
    """Return the IPv4 address inside of an IPv4-mapped or NAT64 address, else the address."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    # The resolver may return a link-local address with its interface, which is in no network.
    return IPv6Address(int(ip))


def _is_public(ip: IpAddress) -> bool:
    if isinstance(ip, IPv4Address):
        return ip.is_global and not any(ip in network for network in _REFUSED_V4)
    return ip.is_global and ip in _GLOBAL_V6 and not any(ip in network for network in _REFUSED_V6)


async def check_url(
    url: str, rule: AddressRule, always_allowed: Iterable[str] = (), requester: object = None
) -> None:
    """Raise AddressError if the browser must not open `url`, UnresolvedNameError if nobody knows in time.

    `always_allowed` are URL prefixes (origin and path) without a check, such as
    `http://127.0.0.1:8000/meet/`. A name that does not exist passes; opening the page reports it.
    """
    parts = _parse(url)
    if any(_is_under(parts, _parse(allowed)) for allowed in always_allowed):
        return
    await check_host(_host(parts), rule, requester)


async def check_host(host: str, rule: AddressRule, requester: object = None) -> None:
    """Check a host (see `browser_bot.network.host_names`) like `check_url`."""
    host = _normalized(host)
    if rule.allow_all:
        return
    answer = await _look_up(host, CHECK_SECONDS, requester)
    _check(host, answer.addresses, rule)
    if not answer.addresses and not answer.is_final:
        raise UnresolvedNameError(f"the host name {host} was not resolved in time; try again")


async def resolve_url(
    url: str, rule: AddressRule, seconds: float = RESOLVE_SECONDS, requester: object = None
) -> Destination:
    """Resolve the host of `url`. Connect to one of the addresses; a second lookup may return others.

    There are no addresses if the lookup takes longer than `seconds`. Raises AddressError if the rule forbids
    any of them.
    """
    parts = _parse(url)
    return await resolve_host(_host(parts), _port(parts), rule, seconds, requester)


async def resolve_host(
    host: str, port: int, rule: AddressRule, seconds: float = RESOLVE_SECONDS, requester: object = None
) -> Destination:
    """Resolve a host (see `browser_bot.network.host_names`) and a port like `resolve_url`.

    Raises AddressError if the host is invalid or the rule forbids any of its addresses.
    """
    host = _normalized(host)
    addresses = await lookup_addresses(host, seconds, requester)
    _check(host, addresses, rule)
    return Destination(host, port, addresses)


def _normalized(host: str) -> str:
    try:
        return normalize_host(host)
    except HostError as error:
        raise AddressError(str(error)) from None


def _check(host: str, addresses: Iterable[IpAddress], rule: AddressRule) -> None:
    for ip in addresses:
        if not rule.is_allowed(ip):
            raise AddressError(refusal_message(host, ip))


def refusal_message(host: str, ip: IpAddress) -> str:
    """Return the error message for a host with an address that the rule forbids.

    It goes to strangers, so it does not tell the address of a name; the log does.
    """
    if host == str(ip):
        return f"{ip} is a private address; allow it with FARM_ALLOW_PRIVATE_ADDRESSES"
    logger.info("%s has the address %s, which is not allowed", host, ip)
    return f"{host} has a private address; allow it with FARM_ALLOW_PRIVATE_ADDRESSES"


def _parse(url: str) -> SplitResult:
    """Split a URL; reject URLs that browsers and Python parse differently."""
    if not re.match(r"https?://", url, re.IGNORECASE):
        raise AddressError("the URL must begin with http:// or https://")
    # Browsers drop control characters and treat a backslash as a slash: http://a.example\@127.0.0.1/
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
        return normalize_host(text)
    except HostError as error:
        raise AddressError(str(error)) from None


def _port(parts: SplitResult) -> int:
    return parts.port or _DEFAULT_PORTS[parts.scheme.lower()]


def origin_of(url: str) -> str:
    """Return the origin of a URL as browsers send it (Fetch, 3.1). Raises AddressError if it has none."""
    parts = _parse(url)
    scheme, host, port = parts.scheme.lower(), _host(parts), _port(parts)
    return f"{scheme}://{in_url(host)}" + ("" if port == _DEFAULT_PORTS[scheme] else f":{port}")


def is_under(url: str, prefixes: Iterable[str]) -> bool:
    """Whether a URL starts with one of `prefixes` (origin and path) after normalization."""
    try:
        parts = _parse(url)
    except AddressError:
        return False
    return any(_is_under(parts, _parse(prefix)) for prefix in prefixes)


def _is_under(parts: SplitResult, allowed: SplitResult) -> bool:
    origin, other = ((part.scheme.lower(), _host(part), _port(part)) for part in (parts, allowed))
    if origin != other:
        return False
    return parts.path.startswith(allowed.path) and not has_dot_segment(parts.path)


def has_dot_segment(path: str) -> bool:
    """Whether a path leads elsewhere than it reads, or might for a server that decodes it first.

    Browsers resolve /meet/../v2 and /meet/%2e%2e/v2 before they send the request, and some servers decode a
    path, even twice, before they resolve it.
    """
    for _ in range(_MAX_DECODED):
        if _DOT_SEGMENT.search(path):
            return True
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded
    return True


async def lookup_addresses(
    host: str, seconds: float = RESOLVE_SECONDS, requester: object = None
) -> tuple[IpAddress, ...]:
    """Return all addresses of a host (`browser_bot.network.host_names`); none if not found within `seconds`.

    `browser_bot.network.dns` limits the concurrent lookups of each `requester`.
    """
    return (await _look_up(host, seconds, requester)).addresses


async def _look_up(host: str, seconds: float, requester: object) -> DnsAnswer:
    literal = parse_address(host)
    if literal is not None:
        return DnsAnswer((literal,), is_final=True)
    if host == "localhost" or host.endswith(".localhost"):
        # Browsers do not look these up.
        return DnsAnswer((IPv4Address("127.0.0.1"), IPv6Address("::1")), is_final=True)
    return await look_up(host, seconds, requester)
