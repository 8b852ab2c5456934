"""The built-in meeting's pages: a small real meeting, and a synthetic one to record when nobody is at hand.

`/meet/{meeting_id}` is a meeting for people with camera and microphone (see `api.routes.meeting`). The
meeting with the id `demo`, and any with `?demo`, is four synthetic participants who move and talk: what it
shows and plays has gone through real WebRTC peer connections inside the page, so a recording of it proves
that decoded pictures and sound reach the file. `?layout=grid|spotlight|auto` picks its layout, `?seconds=N`
ends it, `?mute=N` mutes all, and with `?leave=N` all leave. Both follow the page contract "console": they
print `START_RECORDING` when the pictures are there.

The pages run no code but their own files: the server puts nothing from the request into the answer (the
meeting id is read from the address by the page and shown as text), and the Content-Security-Policy allows
nothing from elsewhere, except in the frame of the page that somebody shares.
"""

from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from recording_farm.api.static_files import PageFiles
from recording_farm.farm.config.settings import MEETING_ASSETS_PATH, MEETING_PATH

PAGE_DIR = Path(__file__).parent / "assets"

DEMO_MEETING: Final = "demo"


def _headers(frames: str, devices: str) -> dict[str, str]:
    policy = [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "media-src 'self'",
        "connect-src 'self'",
        f"frame-src {frames}",
        "frame-ancestors 'self'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    allowed = (f"{name}={devices}" for name in ("camera", "microphone", "display-capture"))
    return {
        "Content-Security-Policy": "; ".join(policy),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": ", ".join([*allowed, "geolocation=()"]),
    }


_DEMO_HEADERS: Final = _headers("'self'", "()")
"""The demo's participants are drawn and synthesised: it never needs a device of the machine it runs on."""

_MEETING_HEADERS: Final = _headers("'self' http: https:", "(self)")
"""Somebody may share any page; it gets a frame in a sandbox, which no device is given on to."""


def is_demo(meeting_id: str, query: str) -> bool:
    """Whether a meeting is the synthetic one; `query` is that of its page's URL."""
    return meeting_id == DEMO_MEETING or "demo" in parse_qs(query, keep_blank_values=True)


async def _meeting_page(request: Request) -> Response:
    demo = is_demo(request.path_params["meeting_id"], request.url.query)
    return FileResponse(
        PAGE_DIR / ("demo/demo.html" if demo else "meeting.html"),
        media_type="text/html",
        headers={**(_DEMO_HEADERS if demo else _MEETING_HEADERS), "Cache-Control": "no-store"},
    )


meeting_routes: list[BaseRoute] = [
    # `:path`, because a meeting id is any text, slashes included.
    Route(f"{MEETING_PATH}{{meeting_id:path}}", _meeting_page, name="meeting"),
    Mount(MEETING_ASSETS_PATH.rstrip("/"), app=PageFiles(PAGE_DIR, _DEMO_HEADERS), name="meeting-assets"),
]
