"""The built-in demo meeting: a page to record when there is no other meeting at hand.

`/meet/{meeting_id}` is a meeting of four synthetic participants who move and talk. What it shows and plays
has gone through real WebRTC peer connections inside the page, so a recording of it proves that decoded
pictures and sound reach the file. It follows the page contract "console": it prints `START_RECORDING` when
all four pictures are there, and with `?seconds=N` prints `END_RECORDING` that much later. With `?mute=N` all
participants mute themselves then, picture and sound; with `?leave=N` all leave.
`?layout=grid|spotlight|auto` picks the layout.

The pages run no code but their own files: the server puts nothing from the request into the answer (the
meeting id is read from the address by the page and shown as text), and the Content-Security-Policy allows
nothing from elsewhere.
"""

import os
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from farm.settings import MEETING_ASSETS_PATH, MEETING_PATH

PAGE_DIR = Path(__file__).parent / "meeting_page"

_CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "media-src 'self'",
        "connect-src 'self'",
        "frame-src 'self'",
        "frame-ancestors 'self'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
)
_SECURITY_HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # The participants are drawn and synthesised: the page never needs a device of the machine it runs on.
    "Permissions-Policy": "camera=(), microphone=(), display-capture=(), geolocation=()",
}


class _Assets(StaticFiles):
    """The page's files, with the same security headers as the page itself."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_SECURITY_HEADERS)
        # Kept by the browser but asked for again each time, so a new version of the farm is seen at once.
        response.headers["Cache-Control"] = "no-cache"
        return response

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        # The system's own table of media types may not know scripts, and "nosniff" would then refuse them.
        if str(full_path).endswith(".js"):
            response.headers["Content-Type"] = "text/javascript; charset=utf-8"
        return response


async def _meeting_page(_request: Request) -> Response:
    return FileResponse(
        PAGE_DIR / "meeting.html",
        media_type="text/html",
        headers={**_SECURITY_HEADERS, "Cache-Control": "no-store"},
    )


meeting_routes: list[BaseRoute] = [
    # `:path`, because a meeting id is any text, slashes included.
    Route(f"{MEETING_PATH}{{meeting_id:path}}", _meeting_page, name="meeting"),
    Mount(MEETING_ASSETS_PATH.rstrip("/"), app=_Assets(directory=PAGE_DIR), name="meeting-assets"),
]
