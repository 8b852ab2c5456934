"""Secrets in texts of strangers: they are taken out in each form in which they may come up."""

import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus


def forms_of(secrets: Iterable[str]) -> tuple[str, ...]:
    """Secrets as they stand in texts, in URLs, in forms and in JSON; the longest first.

    So that no form is left half when it holds a shorter one.
    """
    found = {form for secret in secrets for form in _forms(secret) if form}
    return tuple(sorted(found, key=lambda form: (-len(form), form)))


def _forms(secret: str) -> Iterator[str]:
    yield secret
    for safe in ("", "/"):
        yield quote(secret, safe=safe)
        yield quote_plus(secret, safe=safe)
    # As scripts write it, which leave a few characters more.
    yield quote(secret, safe="!'()*")
    for ascii_only in (True, False):
        yield json.dumps(secret, ensure_ascii=ascii_only)[1:-1]


def without(text: str, forms: Iterable[str], mark: str) -> str:
    """The text with `mark` in the place of each of the `forms`, which are as `forms_of` gives them."""
    for form in forms:
        text = text.replace(form, mark)
    return text


def printable(text: str) -> str:
    """The text of a stranger without control characters, which a terminal would obey."""
    return "".join(character for character in text if character.isprintable())
