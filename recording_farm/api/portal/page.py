"""Renders pages: templates, filters for numbers and times, and the headers of each page."""

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from recording_farm.api.services.sessions import SAFE_METHODS

ASSETS_PATH: Final = "/portal-assets"

DONE: Final = {
    "ordered": "Command sent.",
    "pause": "Paused.",
    "resume": "Resumed.",
    "stop": "Stopped. The file is being made.",
    "cancel": "Cancelled.",
    "copy": "Copying to the storage.",
    "deleted": "Deleted.",
    "saved": "Saved.",
    "upload": "Retrying the upload.",
    "replay": "Sending it again.",
    "test": "Test event sent. The result appears here shortly.",
    "revoked": "Key revoked.",
    "drained": "The node accepts no new recordings; running ones continue.",
    "undrained": "The node accepts recordings again.",
}
"""The message a page shows after an action. A link can select one of these, and cannot bring its own text."""


def render(
    request: Request,
    template: str,
    status: int = 200,
    *,
    address: str | None = None,
    media: str = "",
    **values: Any,
) -> HTMLResponse:
    """A page rendered from a template.

    The page's script reloads it from `address`: by default the address of the request, and none when the
    request was a form or failed. `media` is another origin that the player may load from.
    """
    common = {
        "visitor": getattr(request.state, "visitor", None),
        "path": request.url.path,
        "address": _asked_at(request, status) if address is None else address,
        "done": DONE.get(request.query_params.get("done", "")),
    }
    text = _TEMPLATES.get_template(template).render(common | values)
    return HTMLResponse(text, status, headers=_headers(media))


def header(visitor: Any, path: str) -> Markup:
    """The header of every page, for a page that is not rendered here."""
    return Markup(_TEMPLATES.get_template("header.html").render(visitor=visitor, path=path))  # noqa: S704


def error_page(request: Request, status: int, message: str) -> Response:
    """A page that shows an error."""
    return render(
        request,
        "error.html",
        status,
        title=HTTPStatus(status).phrase.capitalize(),
        message=message,
        problem=None,
    )


def _asked_at(request: Request, status: int) -> str:
    if request.method not in SAFE_METHODS or status >= 400:
        return ""
    url = request.url.remove_query_params("done")  # a reload repeats no message
    return url.path + (f"?{url.query}" if url.query else "")


def _headers(media: str) -> Mapping[str, str]:
    policy = [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        f"media-src 'self' blob: {media}".rstrip(),
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ]
    return {
        "Content-Security-Policy": "; ".join(policy),
        "X-Content-Type-Options": "nosniff",
        # Not no-referrer: browsers would then hide the origin of forms, which the login checks.
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def moment(value: datetime | str | None) -> Markup:
    """A time in UTC; the script converts it to the visitor's time zone."""
    if value is None:
        return Markup("–")
    at = (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), f"{at:%d %b %Y, %H:%M:%S} UTC"
    )


def length(seconds: float | None) -> str:
    """`1:02:03` or `2:03`."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def span(seconds: float) -> str:
    """`27.8 s` below a minute, else as `length`."""
    return f"{seconds:.1f} s" if seconds < 60 else length(seconds)


def size(count: float | None) -> str:
    """Bytes in units of 1024, like the settings."""
    if count is None:
        return "–"
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def period(seconds: int) -> str:
    """Such as `7 days`, in the largest unit that has no remainder."""
    for unit, length_of_unit in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds and seconds % length_of_unit == 0:
            count = seconds // length_of_unit
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return f"{seconds} second" if seconds == 1 else f"{seconds} seconds"


def sentence(message: str) -> str:
    """A message of the API as a sentence on a page."""
    start = message[:1].upper() + message[1:]
    return start if start.endswith((".", "!", "?", ":")) else f"{start}."


def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(
        moment=moment, length=length, span=span, size=size, period=period, sentence=sentence
    )
    templates.globals["assets"] = ASSETS_PATH
    return templates


_TEMPLATES: Final = _templates()
