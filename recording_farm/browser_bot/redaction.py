"""Redacts secrets in text from untrusted sources, in every encoding in which they may occur."""

import json
import unicodedata
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus


def secret_forms(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return secrets as plain text, URL-encoded, form-encoded and in JSON; the longest first.

    The order prevents that a shorter form leaves a part of a longer one behind.
    """
    found = {form for secret in secrets for form in _forms(secret) if form}
    return tuple(sorted(found, key=lambda form: (-len(form), form)))


def _forms(secret: str) -> Iterator[str]:
    yield secret
    for safe in ("", "/"):
        yield quote(secret, safe=safe)
        yield quote_plus(secret, safe=safe)
    # JavaScript's encodeURIComponent leaves a few more characters unescaped.
    yield quote(secret, safe="!'()*")
    for ascii_only in (True, False):
        yield json.dumps(secret, ensure_ascii=ascii_only)[1:-1]


def redact(text: str, forms: Iterable[str], replacement: str) -> str:
    """Replace each of `forms`, as `secret_forms` returns them, with `replacement`."""
    for form in forms:
        text = text.replace(form, replacement)
    return text


_JOINERS = "\u200c\u200d"
"""Invisible characters that join letters of some scripts, and people to families of emoji."""

_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co"})
"""Unicode's categories of control characters, of marks that reorder or hide text, and of halves and private
characters."""


def printable(text: str) -> str:
    """Untrusted text as one line without control characters, which a terminal or reader would interpret.

    Escape sequences lose their first character, and line breaks become spaces. Letters and emoji stay.
    """
    return "".join(filter(None, map(_printable, text)))


def _printable(character: str) -> str:
    if character.isspace():
        return " "
    hidden = unicodedata.category(character) in _UNPRINTABLE and character not in _JOINERS
    return "" if hidden else character
