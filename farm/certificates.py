"""What is wrong with a server's certificate, in words for people."""

import ssl
from collections.abc import Iterator
from typing import Final

_NOT_TRUSTED: Final = (
    "it is signed by an authority that is not trusted here; the farm's operator can add it with FARM_CA_FILE"
)
_WORDS: Final = {
    2: _NOT_TRUSTED,
    9: "it is not valid yet",
    10: "it has expired",
    18: _NOT_TRUSTED,
    19: _NOT_TRUSTED,
    20: _NOT_TRUSTED,
    21: _NOT_TRUSTED,
    62: "it is for another name",
    64: "it is for another address",
}
"""OpenSSL's codes (x509_vfy.h)."""

_MOST_CAUSES: Final = 50


def certificate_problem(error: BaseException) -> str | None:
    """What is wrong with the certificate that led to an error, of whatever library; None if none did."""
    for cause in _causes_of(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            words = _WORDS.get(cause.verify_code, str(cause.verify_message))
            return f"the server's certificate is not valid: {words}"
    return None


def _causes_of(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it, in each of the ways in which libraries keep that."""
    left: list[object] = [error]
    seen: set[int] = set()
    while left and len(seen) < _MOST_CAUSES:
        cause = left.pop(0)
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            kept = (getattr(cause, name, None) for name in ("reason", "inner_exception"))
            left += [cause.__cause__, cause.__context__, *kept, *cause.args]
