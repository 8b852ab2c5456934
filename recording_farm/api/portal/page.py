"""Pages: templates, what they write numbers and times with, and the headers that go with each."""

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
    "ordered": "Told to the recording.",
    "deleted": "Deleted.",
    "saved": "Saved.",
    "upload": "The upload is tried now.",
    "replay": "It is sent again.",
    "test": "An example is sent; what came of it stands here in a moment.",
    "revoked": "The key is revoked.",
    "drained": "The node begins no more recordings; those it has go on.",
    "undrained": "The node begins recordings again.",
}
"""What a page says after something was done. Only these: nobody can make it say something by a link."""


def page(
    request: Request,
    template: str,
    status: int = 200,
    *,
    address: str | None = None,
    media: str = "",
    **values: Any,
) -> HTMLResponse:
    """A page made of a template.

    `address` is where it can be had again, which its script does; by default where it was asked for, unless
    that was by a form, or in vain. `media` is a further origin that its player may load from.
    """
    about = {
        "visitor": getattr(request.state, "visitor", None),
        "path": request.url.path,
        "address": _asked_at(request, status) if address is None else address,
        "done": DONE.get(request.query_params.get("done", "")),
    }
    text = _TEMPLATES.get_template(template).render(about | values)
    return HTMLResponse(text, status, headers=_headers(media))


def error_page(request: Request, status: int, message: str) -> Response:
    """A page that says what went wrong."""
    return page(request, "error.html", status, title=HTTPStatus(status).phrase, message=message, problem=None)


def _asked_at(request: Request, status: int) -> str:
    if request.method not in SAFE_METHODS or status >= 400:
        return ""
    url = request.url.remove_query_params("done")  # what was done then is not done once more
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
        # Not no-referrer: browsers would then hide the origin of forms, which the login looks at.
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def moment(value: datetime | str | None) -> Markup:
    """A time, in UTC; the script writes it in the visitor's own zone."""
    if value is None:
        return Markup("–")
    at = (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), f"{at:%d %b %Y, %H:%M} UTC"
    )


def length(seconds: float | None) -> str:
    """`1:02:03` or `2:03`."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: float | None) -> str:
    """Bytes in units of 1024, as the settings have them."""
    if count is None:
        return "–"
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(moment=moment, length=length, size=size)
    templates.globals["assets"] = ASSETS_PATH
    return templates


_TEMPLATES: Final = _templates()
