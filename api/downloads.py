"""Finished files, for whoever has a link; browsers play and seek in them (HTTP Range)."""

import time

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from api.context import context_of
from farm.links import DOWNLOAD_PATH, verify_link
from farm.recordings import content_type


async def _download(request: Request) -> Response:
    context = context_of(request)
    recording_id, name = request.path_params["recording_id"], request.path_params["name"]
    query = request.query_params
    verify_link(
        context.link_secret,
        recording_id,
        name,
        query.get("expires", ""),
        query.get("signature", ""),
        time.time(),
    )
    path = await run_in_threadpool(context.store.path_of, recording_id, name)
    return FileResponse(
        path,
        media_type=content_type(name),
        filename=name,
        content_disposition_type="inline",
        headers={
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; media-src 'self'; sandbox",
            # The link is a secret: it must not travel on to other sites, nor into a shared cache.
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "private",
        },
    )


download_routes: list[BaseRoute] = [Route(DOWNLOAD_PATH, _download, methods=["GET"])]
