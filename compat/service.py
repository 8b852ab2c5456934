"""A stand-in for the service at which browser clients join meetings, in front of a farm.

It is what a reverse proxy at `api.{baseURI}` does for them: `/v2/recordings` goes to the farm as it is, and
the little that clients ask the service for before they can record is answered here, as if there were nothing.
Their sockets are refused.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from testkit.network.authorities import own_authority

PAGE_SECRET = "a secret of the meetings' own, long enough for HS256"
"""What the farm checks tokens of participants with."""

_DOMAIN = "realtime.localhost"
"""Chromium looks for every name below `localhost` on this machine."""

_HOP_BY_HOP = frozenset({"connection", "content-length", "host", "transfer-encoding"})

_MAY = {"can_produce": "ALLOWED"}
_DETAILS = {
    "participant": {"id": "ada", "name": "Ada", "picture": None, "custom_participant_id": "ada"},
    "meeting": {"title": "Physics"},
    "preset": {
        "name": "host",
        "permissions": {
            "can_record": True,
            "media": {"audio": _MAY, "video": _MAY, "screenshare": _MAY},
            "chat": {"public": {}, "private": {}},
            "polls": {},
            "plugins": {},
        },
        "config": {
            "view_type": "GROUP_CALL",
            "max_video_streams": {"mobile": 1, "desktop": 1},
            "max_screenshare_count": 1,
            "media": {},
        },
        "ui": {"design_tokens": {"colors": {"background": {}}}, "config_diff": {}},
    },
}
"""What the clients read of a participant and its preset, in as few words as they are content with."""

_OPEN = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "*, Authorization",
    "Access-Control-Allow-Methods": "*",
}


@contextmanager
def service(farm: str, directory: Path) -> Iterator[str]:
    """Run it in front of the farm at this URL; yields the `baseURI` to give to clients."""
    app = Starlette(
        routes=[
            Route("/v2/recordings{rest:path}", _to_farm, methods=["GET", "POST", "PUT", "OPTIONS"]),
            Route("/v2/internals/participant-details", _details, methods=["GET", "OPTIONS"]),
            Route("/{rest:path}", _nothing, methods=["GET", "POST", "OPTIONS"]),
        ]
    )
    app.state.farm = farm
    config = uvicorn.Config(app, port=0, log_config=None, ws="none")
    config.load()
    config.ssl = own_authority(directory).server(_DOMAIN)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"{_DOMAIN}:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


async def _details(_request: Request) -> Response:
    return JSONResponse({"success": True, "data": _DETAILS}, headers=_OPEN)


async def _nothing(_request: Request) -> Response:
    return JSONResponse({"success": True, "data": {}}, headers=_OPEN)


async def _to_farm(request: Request) -> Response:
    headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP}
    url = f"{request.app.state.farm}{request.url.path}"
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.request(
            request.method, url, params=request.query_params, headers=headers, content=await request.body()
        )
    told = {name: value for name, value in answer.headers.items() if name not in _HOP_BY_HOP}
    return Response(answer.content, answer.status_code, told)
