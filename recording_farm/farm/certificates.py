"""Explains why a server's certificate is invalid."""

import asyncio
import ssl
from collections.abc import Iterator
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from recording_farm.browser_bot.redaction import printable

_TOO_OLD: Final = 10
_TOO_YOUNG: Final = 9
_OTHER_NAME: Final = frozenset({62, 64})
_NOT_TRUSTED: Final = frozenset({2, 18, 19, 20, 21})
"""OpenSSL's codes (x509_vfy.h)."""

_WHAT_TO_DO: Final = "the farm's operator can add it with FARM_CA_FILE"
_MAX_CAUSES: Final = 50
_MAX_NAMES: Final = 3
_MAX_NAME: Final = 100


def certificate_problem(error: BaseException, shown: x509.Certificate | None = None) -> str | None:
    """Why the certificate behind an error of any library is invalid; None for other errors.

    `shown` is that certificate, if known, for details.
    """
    for cause in _causes_of(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's certificate is not valid: {_problem(cause, shown)}"
    return None


async def fetch_certificate(address: str, port: int, name: str, seconds: float) -> x509.Certificate | None:
    """The certificate of a server, without verification; None if the server sends none in time."""
    anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anything.check_hostname = False
    anything.verify_mode = ssl.CERT_NONE  # nothing is sent; the certificate is used for messages only
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(address, port, ssl=anything, server_hostname=name)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        return x509.load_der_x509_certificate(shown)
    except (OSError, TimeoutError, ValueError, TypeError):
        return None


def _problem(error: ssl.SSLCertVerificationError, shown: x509.Certificate | None) -> str:
    code = error.verify_code
    if code == _TOO_OLD:
        return "it has expired" + (f" on {shown.not_valid_after_utc:%Y-%m-%d}" if shown else "")
    if code == _TOO_YOUNG:
        return "it is not valid yet" + (f", but from {shown.not_valid_before_utc:%Y-%m-%d}" if shown else "")
    if code in _OTHER_NAME:
        names = _names(shown) if shown else ()
        return "it is for another name" + (f": {', '.join(names)}" if names else "")
    if code in _NOT_TRUSTED:
        issuer = _common_name(shown.issuer) if shown else None
        by = f"{issuer}, an authority" if issuer else "an authority"
        return f"it is signed by {by} that is not trusted here; {_WHAT_TO_DO}"
    return str(error.verify_message)


def _names(shown: x509.Certificate) -> tuple[str, ...]:
    try:
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(printable(str(name.value))[:_MAX_NAME] for name in names)[:_MAX_NAMES]


def _common_name(name: x509.Name) -> str | None:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return printable(str(found[0].value))[:_MAX_NAME] if found else None


def _causes_of(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes, by all attributes in which libraries store them."""
    left: list[object] = [error]
    seen: set[int] = set()
    while left and len(seen) < _MAX_CAUSES:
        cause = left.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            kept = (getattr(cause, name, None) for name in ("reason", "inner_exception"))
            left += [cause.__cause__, cause.__context__, *kept, *cause.args]
