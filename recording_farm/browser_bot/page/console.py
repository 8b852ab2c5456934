"""Console messages of a page as text, and the signals among them.

Pure functions over the protocol's Runtime.RemoteObject and Runtime.ExceptionDetails.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

MAX_TEXT: Final = 64 * 1024
"""Characters of a printed line that are kept."""

MAX_PARTS: Final = 100
"""Arguments of one call that are looked at."""

_DIRECTIVE: Final = re.compile(r"%([sdifoOc%])")

_PREFIX_ENDS: Final = tuple("])}>|»›")
"""What logging libraries put before a line in the same string: "[rec] ", "12:30 INFO: ", "app | "."""

_LEVEL: Final = re.compile(r"\b(?:trace|debug|info|log|notice|warn|warning|error)$", re.IGNORECASE)


@dataclass(frozen=True)
class ConsoleMessage:
    """One call of a method of the console: its name in the protocol, and its arguments as text.

    `frame` is the frame that printed it, None a worker; `is_pages` tells whether that is the page's own.
    """

    kind: str
    parts: tuple[str, ...]
    is_text: tuple[bool, ...]
    frame: str | None = None
    is_pages: bool = False

    @property
    def text(self) -> str:
        """The line as a console shows it."""
        return _formatted(self.parts, self.is_text)[:MAX_TEXT]


def parts_of(arguments: Sequence[Any]) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """The arguments of one call as texts, and which of them are texts themselves."""
    looked_at = [each for each in arguments[:MAX_PARTS] if isinstance(each, dict)]
    texts = tuple(_text_of(each)[:MAX_TEXT] for each in looked_at)
    return texts, tuple(each.get("type") == "string" for each in looked_at)


def signal_in(
    printed: ConsoleMessage, signals: Collection[str], opening: Collection[str] = ()
) -> tuple[str, str]:
    """Which of `signals` is printed, with ""; or which of `opening` something begins with, and what follows.

    Twice "" if none is.

    A signal is any argument that equals it, as for LiveKit's Egress (pkg/pipeline/source/web.go), and the
    whole line, also behind the prefix of a logging library. A sentence with one in it is none.
    """
    line = printed.text.strip()
    texts = [part.strip() for part, is_text in zip(printed.parts, printed.is_text, strict=True) if is_text]
    for signal in signals:
        before = line.removesuffix(signal)
        if signal in texts or (before != line and _is_prefix(before)):
            return signal, ""
    for each in opening:
        for text in (line, *texts):
            if text.startswith(each):
                return each, text.removeprefix(each).strip()
    return "", ""


def exception_text(details: dict[str, Any]) -> str:
    """An exception that the page does not catch, as a console shows it."""
    thrown = details.get("exception")
    text = str(details.get("text") or "Uncaught")
    if isinstance(thrown, dict):
        text = f"{text} {_text_of(thrown)}"
    place = details.get("url")
    if place and "\n" not in text:
        text = f"{text} ({place}:{int(details.get('lineNumber') or 0) + 1})"
    return text[:MAX_TEXT]


def _is_prefix(text: str) -> bool:
    text = text.rstrip()
    level = text.removesuffix(":")
    return not text or level.endswith(_PREFIX_ENDS) or (level != text and bool(_LEVEL.search(level[-20:])))


def _formatted(parts: Sequence[str], is_text: Sequence[bool]) -> str:
    """Put arguments in the place of %s and its like (https://console.spec.whatwg.org/#formatter)."""
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
    """An object by its first properties, which the browser has shortened."""
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
