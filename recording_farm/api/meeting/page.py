"""The built-in meeting's pages: a small real meeting, and a synthetic one to record when nobody is at hand.

`/meet/{meeting_id}` is a meeting for people with camera and microphone (see `api.routes.meeting`); `/meet/`
redirects to a new one with a random id. The meeting `demo`, and any with `?demo`, has four synthetic
participants who move and talk. Their video and audio pass through real WebRTC peer connections inside the
page, so a recording of it proves that decoded media reach the file. `?layout=grid|spotlight|auto` selects
the layout, `?seconds=N` ends the meeting, `?mute=N` mutes everybody, and at `?leave=N` everybody leaves. Both
pages follow the page contract "console": they print `START_RECORDING` when the first frames are visible.

The pages run only their own files. The server inserts nothing from the request: the page reads the meeting
id from the address and shows it as text. The Content-Security-Policy allows nothing from other origins,
except in the frame of a page that somebody shares.
"""

from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from recording_farm.api.meeting.ids import new_meeting_id
from recording_farm.api.schema.requests import check_meeting_id
from recording_farm.api.static_files import PageFiles
from recording_farm.farm.config.settings import MEETING_ASSETS_PATH, MEETING_PATH
from recording_farm.farm.errors import InvalidRequestError

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
"""The demo draws and synthesizes its participants: it needs no camera or microphone."""

_MEETING_HEADERS: Final = _headers("'self' http: https:", "(self)")
"""People may share any page; it runs in a sandboxed frame without devices."""


def is_demo(meeting_id: str, query: str) -> bool:
    """Whether a meeting is the synthetic one; `query` is the query of its page's URL."""
    return meeting_id == DEMO_MEETING or "demo" in parse_qs(query, keep_blank_values=True)


async def _new_meeting(request: Request) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(
        f"{MEETING_PATH}{new_meeting_id()}{query}", status_code=303, headers={"Cache-Control": "no-store"}
    )


async def _meeting_page(request: Request) -> Response:
    meeting_id = request.path_params["meeting_id"]
    if not meeting_id:
        return await _new_meeting(request)
    try:
        check_meeting_id(meeting_id)
    except InvalidRequestError:
        return _page("bad-id.html", _MEETING_HEADERS, status=404)
    if is_demo(meeting_id, request.url.query):
        return _page("demo/demo.html", _DEMO_HEADERS)
    return _page("meeting.html", _MEETING_HEADERS)


def _page(file: str, headers: dict[str, str], status: int = 200) -> Response:
    return FileResponse(
        PAGE_DIR / file,
        status_code=status,
        media_type="text/html",
        headers={**headers, "Cache-Control": "no-store"},
    )


meeting_routes: list[BaseRoute] = [
    Route(MEETING_PATH.rstrip("/"), _new_meeting),
    # `:path`, because a meeting id is any text, slashes included.
    Route(f"{MEETING_PATH}{{meeting_id:path}}", _meeting_page, name="meeting"),
    Mount(MEETING_ASSETS_PATH.rstrip("/"), app=PageFiles(PAGE_DIR, _DEMO_HEADERS), name="meeting-assets"),
]
