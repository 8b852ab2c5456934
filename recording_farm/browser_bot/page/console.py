"""Formats console messages of a page as text and finds signals in them.

Pure functions over the protocol's Runtime.RemoteObject and Runtime.ExceptionDetails.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

MAX_TEXT: Final = 64 * 1024
"""Maximum length of a printed line."""

MAX_PARTS: Final = 100
"""Maximum arguments of one call that are read."""

_DIRECTIVE: Final = re.compile(r"%([sdifoOc%])")

_PREFIX_ENDS: Final = tuple("])}>|»›")
"""Ends of the prefixes that logging libraries add: "[rec] ", "12:30 INFO: ", "app | "."""

_LEVEL: Final = re.compile(r"\b(?:trace|debug|info|log|notice|warn|warning|error)$", re.IGNORECASE)


@dataclass(frozen=True)
class ConsoleMessage:
    """One console call: the method's name in the protocol, and the arguments as text.

    `frame` is the frame that printed it, None for a worker; `is_pages`: the page's main frame printed it.
    """

    kind: str
    parts: tuple[str, ...]
    is_text: tuple[bool, ...]
    frame: str | None = None
    is_pages: bool = False

    @property
    def text(self) -> str:
        """The line as a console displays it."""
        return _formatted(self.parts, self.is_text)[:MAX_TEXT]


def argument_texts(arguments: Sequence[Any]) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """Return the arguments of one call as text, and which of them are strings."""
    read = [each for each in arguments[:MAX_PARTS] if isinstance(each, dict)]
    texts = tuple(_text_of(each)[:MAX_TEXT] for each in read)
    return texts, tuple(each.get("type") == "string" for each in read)


def find_signal(
    printed: ConsoleMessage, signals: Collection[str], prefixes: Collection[str] = ()
) -> tuple[str, str]:
    """Return a printed signal and ""; or one of `prefixes` and the text after it; or "" twice.

    A signal must equal an argument, like in LiveKit's Egress (pkg/pipeline/source/web.go), or the whole line
    after an optional prefix of a logging library. A sentence that contains it does not count.
    """
    line = printed.text.strip()
    texts = [part.strip() for part, is_text in zip(printed.parts, printed.is_text, strict=True) if is_text]
    for signal in signals:
        before = line.removesuffix(signal)
        if signal in texts or (before != line and _is_prefix(before)):
            return signal, ""
    for each in prefixes:
        for text in (line, *texts):
            if text.startswith(each):
                return each, text.removeprefix(each).strip()
    return "", ""


def exception_text(details: dict[str, Any]) -> str:
    """Format an uncaught exception like a console."""
    thrown = details.get("exception")
    text = str(details.get("text") or "Uncaught")
    if isinstance(thrown, dict):
        text = f"{text} {_text_of(thrown)}"
    url = details.get("url")
    if url and "\n" not in text:
        text = f"{text} ({url}:{int(details.get('lineNumber') or 0) + 1})"
    return text[:MAX_TEXT]


def _is_prefix(text: str) -> bool:
    text = text.rstrip()
    level = text.removesuffix(":")
    return not text or level.endswith(_PREFIX_ENDS) or (level != text and bool(_LEVEL.search(level[-20:])))


def _formatted(parts: Sequence[str], is_text: Sequence[bool]) -> str:
    """Substitute arguments for %s and similar directives (https://console.spec.whatwg.org/#formatter)."""
    if not parts:
        return ""
    rest = list(parts[1:])
    first = parts[0]
    if is_text[0] and rest:

        def fill(match: re.Match[str]) -> str:
            directive = match.group(1)
            if directive == "%":
                return "%"
            if not rest:
                return match.group()
            value = rest.pop(0)
            return "" if directive == "c" else value

        first = _DIRECTIVE.sub(fill, first)
    return " ".join([first, *rest])


def _text_of(thing: dict[str, Any]) -> str:
    value = thing.get("value")
    if thing.get("type") == "string":
        return str(value)
    if thing.get("type") == "undefined":
        return "undefined"
    if thing.get("subtype") == "null":
        return "null"
    if "unserializableValue" in thing:
        return str(thing["unserializableValue"])
    if value is not None:
        return str(value).lower() if isinstance(value, bool) else str(value)
    preview = thing.get("preview")
    if isinstance(preview, dict) and thing.get("subtype") != "error":
        return _preview(preview)
    return str(thing.get("description") or thing.get("type"))


def _preview(preview: dict[str, Any]) -> str:
    """Format an object by its first properties, as abbreviated by the browser."""
    properties: Iterable[Any] = preview.get("properties") or ()
    if preview.get("subtype") not in {None, "array", "map", "set"}:
        return str(preview.get("description"))
    is_list = preview.get("subtype") == "array"
    shown = [
        str(each.get("value") or each.get("type")) if is_list else f"{each.get('name')}: {each.get('value')}"
        for each in properties
        if isinstance(each, dict)
    ]
    if preview.get("overflow"):
        shown.append("…")
    inside = ", ".join(shown)
    return f"[{inside}]" if is_list else f"{{{inside}}}"
