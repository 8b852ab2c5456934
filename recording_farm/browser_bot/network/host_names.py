"""Parses host names like Chromium, so that the checked host is the one that the browser connects to.

Chromium follows the URL standard (https://url.spec.whatwg.org/#host-parsing). Percent signs are decoded.
Names that are not ASCII are mapped by UTS 46 without its transitional rules: `straße.test` is
`xn--strae-oqa.test`. A host whose last label is a number is an IPv4 address: `2130706433`, `0177.1`, `0x7f.1`
and `１２７.0.0.1` are all `127.0.0.1`. Python's own codec `idna` follows the older IDNA 2003, which leads to
`strasse.test`.
"""

import re
import unicodedata
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

import idna

from recording_farm.browser_bot.errors import BrowserBotError

IpAddress = IPv4Address | IPv6Address

_MAX_NAME: Final = 253
_MAX_LABEL: Final = 63
"""Bytes (RFC 1035, 2.3.4). Chromium accepts longer names, but no resolver does."""

_MAX_TEXT: Final = 9 * _MAX_NAME
"""Characters of a host before percent-decoding: three for each of up to three bytes of UTF-8."""


class HostError(BrowserBotError, ValueError):
    """A text is not a valid host; the message is for clients."""


def normalize_host(text: str) -> str:
    """Normalize the host of a URL like Chromium; an IPv6 address may lack its brackets.

    The result is a name in lower-case ASCII without a trailing dot, or an address in its shortest form
    without brackets. Raises HostError for hosts that Chromium rejects and for names that are invalid in DNS.
    """
    if text.startswith("[") or ":" in text:
        return str(_ipv6(text.removeprefix("[").removesuffix("]")))
    if len(text) > _MAX_TEXT:
        raise HostError("the host is too long")
    name = _in_ascii(_decoded(text)).removesuffix(".")
    labels = name.split(".")
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        return str(_ipv4(labels))
    if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", name):
        raise HostError("the host is not a valid name")
    if len(name) > _MAX_NAME or any(len(label) > _MAX_LABEL for label in labels):
        raise HostError("the host name is too long")
    return name


def parse_address(host: str) -> IpAddress | None:
    """Return the IP address that a normalized host is; None for a name."""
    if ":" in host:
        return IPv6Address(host)
    return IPv4Address(host) if re.fullmatch(r"[0-9.]+", host) else None


def in_url(host: str) -> str:
    """Format a normalized host for a URL: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def with_host_in_ascii(url: str) -> str:
    """Normalize the host in a URL, for libraries that parse fewer forms. Raises HostError."""
    parts = urlsplit(url)
    text = f"[{parts.hostname}]" if "[" in parts.netloc else parts.hostname or ""
    user, at, authority = parts.netloc.rpartition("@")
    port = re.search(r":[0-9]*$", authority)
    netloc = f"{user}{at}{in_url(normalize_host(text))}{port[0] if port else ''}"
    before, _, rest = url.partition("//")
    return f"{before}//{netloc}{rest[len(parts.netloc) :]}"


def _decoded(text: str) -> str:
    if "%" not in text:
        return text
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise HostError("the host has an invalid percent escape")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise HostError("the host is not UTF-8") from None


def _in_ascii(name: str) -> str:
    """UTS 46, section 4: map and normalize, validate each label, convert non-ASCII ones to Punycode."""
    if name.isascii():
        return name.lower()  # Chromium does not validate ASCII labels, not even `xn--` ones
    try:
        mapped = idna.uts46_remap(name, std3_rules=False)
        labels = mapped.split(".")
        unicode_labels = [_unicode(label) for label in labels]
        if any(_is_right_to_left(label) for label in unicode_labels):
            for label in filter(None, unicode_labels):
                idna.check_bidi(label, check_ltr=True)
    except UnicodeError:
        raise HostError("the host is not a valid name") from None
    return ".".join(
        label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in labels
    )


def _unicode(label: str) -> str:
    """Return the Unicode form of a label of a mapped name. Raises UnicodeError if it is not valid."""
    if label.startswith("xn--"):
        text = label.removeprefix("xn--").encode("ascii").decode("punycode")
        if not text or text.isascii() or idna.uts46_remap(text, std3_rules=False) != text:
            raise UnicodeError(label)
    elif label.isascii():
        return label
    else:
        text = label
    if unicodedata.category(text[0]).startswith("M"):
        raise UnicodeError(label)
    for position, character in enumerate(text):
        if character in "\u200c\u200d" and not idna.core.valid_contextj(text, position):
            raise UnicodeError(label)
    return text


def _is_right_to_left(label: str) -> bool:
    return any(unicodedata.bidirectional(character) in {"R", "AL", "AN"} for character in label)


def _ipv6(text: str) -> IPv6Address:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        raise HostError(f"the host [{text}] is not a valid address") from None
    if address.scope_id is not None:
        raise HostError(f"the host [{text}] must not have a zone")
    return address


def _ipv4(labels: list[str]) -> IPv4Address:
    """Parse an address in any form that browsers accept: up to four decimal, octal or hexadecimal numbers.

    The last number fills all remaining bytes.
    """
    not_an_address = HostError(f"the host {'.'.join(labels)} is not a valid address")
    try:
        *leading, last = [_number(label) for label in labels]
    except ValueError:
        raise not_an_address from None
    if len(leading) > 3 or any(number > 255 for number in leading) or last >= 256 ** (4 - len(leading)):
        raise not_an_address
    value = last
    for position, number in enumerate(leading):
        value += number << (8 * (3 - position))
    return IPv4Address(value)


def _number(label: str) -> int:
    if len(label) <= _MAX_LABEL:
        if re.fullmatch(r"0x[0-9a-f]*", label):
            return int(label[2:] or "0", 16)
        if re.fullmatch(r"0[0-7]*", label):
            return int(label, 8)
        if re.fullmatch(r"[1-9][0-9]*", label):
            return int(label)
    raise ValueError(label)
