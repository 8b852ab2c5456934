"""Parsers and validators of setting values.

Each takes the text of an environment variable and raises ValueError with one sentence that does not repeat
the text, which may be a secret.
"""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from pydantic import SecretStr

from recording_farm.browser_bot.network.addresses import AddressError, origin_of, parse_address_rule
from recording_farm.browser_bot.network.host_names import normalize_host, with_host_in_ascii
from recording_farm.browser_bot.stage.locales import read_locale, read_timezone
from recording_farm.farm.config.redis_url import parse_redis_address
from recording_farm.farm.config.store_url import parse_store_url
from recording_farm.farm.host.ca_file import read_authorities

ORGANIZATION_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Pattern of an organization id. It excludes the colon, the separator in Basic credentials and Redis keys."""

_ICE_URL: Final = re.compile(
    r"(stuns?:{host}|turns?:{host}(\?transport=(udp|tcp))?)".replace(
        "{host}", r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?"
    )
)

_SECONDS: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_BYTES: Final = {"T": 1 << 40, "G": 1 << 30, "M": 1 << 20, "K": 1 << 10}


class OrganizationKey(NamedTuple):
    """An API key and the organization it belongs to."""

    organization_id: str
    key: SecretStr


def split_at_commas(value: Any) -> Any:
    """The non-empty parts of a comma-separated list."""
    return [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def parse_api_keys(value: Any) -> Any:
    """Comma-separated `organization:key` pairs."""
    if not isinstance(value, str):
        return value
    keys = tuple(_parse_api_key(entry.strip()) for entry in value.split(",") if entry.strip())
    owners: dict[str, str] = {}
    for organization_id, key in keys:
        if owners.setdefault(key.get_secret_value(), organization_id) != organization_id:
            raise ValueError(f"{organization_id} has the same key as another organization")
    return keys


def _parse_api_key(entry: str) -> OrganizationKey:
    organization_id, colon, key = entry.partition(":")
    if not colon or not key or not key.isprintable() or " " in key:
        raise ValueError("write organization:key, with commas between several")
    if not ORGANIZATION_ID.fullmatch(organization_id):
        raise ValueError("an organization's name is up to 64 letters, digits, dots, dashes and underscores")
    return OrganizationKey(organization_id, SecretStr(key))


def parse_organizations(value: Any) -> Any:
    """Comma-separated organization ids."""
    names = [name.strip() for name in split_at_commas(value)]
    if not all(ORGANIZATION_ID.fullmatch(name) for name in names):
        raise ValueError("write organizations as in FARM_API_KEYS, with commas between several")
    return names


def parse_organization_names(value: Any) -> Any:
    """Comma-separated `orgId=organization` pairs."""
    if not isinstance(value, str):
        return value
    entries = [entry.strip().partition("=") for entry in value.split(",") if entry.strip()]
    if not all(external and ORGANIZATION_ID.fullmatch(ours) for external, _, ours in entries):
        raise ValueError("write orgId=organization, with commas between several")
    return tuple((external, ours) for external, _, ours in entries)


def absolute_path(path: Path) -> Path:
    """An absolute path, with `~` expanded."""
    return path.expanduser().absolute()


def check_ca_file(file: Path) -> Path:
    """A PEM file of certificate authorities."""
    read_authorities(file)
    return file


def check_redis_url(url: str) -> str:
    """A URL of a Redis server or of Sentinels."""
    parse_redis_address(url)
    return url


def check_store_url(url: str) -> str:
    """A URL of a store."""
    parse_store_url(url)
    return url


def check_http_url(url: str) -> str:
    """An http or https URL, returned without a trailing slash."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must begin with http:// or https:// and name a host")
    return url.rstrip("/")


def check_file_url(url: str) -> str:
    """An http or https URL of a file, returned as it is: a trailing slash is significant."""
    check_http_url(url)
    return url


def parse_public_url(url: str) -> str:
    """An http or https URL, returned with its host in ASCII so that it compares with URLs of pages."""
    try:
        origin_of(check_http_url(url))
    except AddressError as error:
        raise ValueError(str(error)) from None
    return with_host_in_ascii(url.rstrip("/"))


def check_websocket_url(url: str) -> str:
    """A ws or wss URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError("must begin with ws:// or wss:// and name a host")
    return url


def check_meeting_url(url: str) -> str:
    """An http or https URL with the placeholder `{meeting_id}`."""
    if "{meeting_id}" not in url:
        raise ValueError("must contain {meeting_id}, which is replaced by the meeting's id")
    return check_http_url(url)


def parse_ice_url(url: str) -> str:
    """A STUN or TURN URL without credentials."""
    if "@" in url:
        raise ValueError("put credentials into FARM_TURN_SECRET, or FARM_TURN_USER and FARM_TURN_PASSWORD")
    if not _ICE_URL.fullmatch(url.strip()):
        raise ValueError("write stun:host:port, turn:host:port or turns:host:port, with commas")
    return url.strip()


def parse_host(text: str) -> str:
    """A host name, in ASCII."""
    return normalize_host(text.strip())


def parse_origin(text: str) -> str:
    """An origin as browsers send it, or `*`."""
    text = text.strip()
    if text == "*":
        return text
    try:
        origin = origin_of(text)
    except AddressError as error:
        raise ValueError(f"write https://host or https://host:port, or *: {error}") from None
    parts = urlsplit(text)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("write https://host or https://host:port, without a path, or *")
    return origin


def parse_networks(text: str) -> str:
    """Comma-separated IP addresses and networks."""
    return ",".join(str(ip_network(part.strip())) for part in text.split(",") if part.strip())


def check_address_rule(text: str) -> str:
    """Networks that pages may be in (`browser_bot.network.addresses`)."""
    parse_address_rule(text)
    return text


def parse_locale(value: str) -> str:
    """A language tag that the browser supports."""
    return read_locale(value.strip())


def parse_timezone(value: str) -> str:
    """A time zone that the browser supports."""
    return read_timezone(value.strip())


def parse_seconds(value: Any) -> Any:
    """A duration such as `7d`, `36h`, `90m`, `30s` or `30`, in seconds."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", value.strip(), re.ASCII)
    if not match:
        raise ValueError("must be a number of seconds, or one followed by m, h or d")
    return int(match[1]) * _SECONDS.get(match[2], 1)


def parse_bytes(value: Any) -> Any:
    """A size such as `2G`, `500M` (powers of 1024) or `1000`, in bytes."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d{1,15})([KMGT]?)", value.strip().upper(), re.ASCII)
    if not match:
        raise ValueError("must be a number of bytes, or one followed by K, M, G or T")
    return int(match[1]) * _BYTES.get(match[2], 1)


def format_seconds(seconds: int) -> str:
    """A duration as `parse_seconds` reads it, in the largest unit that fits exactly."""
    return _format(seconds, _SECONDS)


def format_bytes(size: int) -> str:
    """A size as `parse_bytes` reads it, in the largest unit that fits exactly."""
    return _format(size, _BYTES)


def _format(value: int, units: dict[str, int]) -> str:
    fitting = (f"{value // factor}{unit}" for unit, factor in units.items() if value and value % factor == 0)
    return next(fitting, str(value))
