"""Finished files, for whoever has a link; browsers play and seek in them (HTTP Range)."""

import time
from typing import Final

from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from api.context import context_of
from api.operations import ROOT, Operation
from api.requests import read_query
from farm.links import DOWNLOAD_PATH, verify_link
from farm.recordings import content_type


class Signature(BaseModel):
    """What makes an address a link that `farm.links` has signed."""

    expires: str = Field(default="", description="when the link ends, in Unix seconds")
    signature: str = ""


async def _download(request: Request) -> Response:
    context = context_of(request)
    recording_id, name = request.path_params["recording_id"], request.path_params["name"]
    signed = read_query(request, Signature)
    verify_link(context.link_secret, recording_id, name, signed.expires, signed.signature, time.time())
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


download_operations: Final = (
    Operation(
        "download",
        "GET",
        DOWNLOAD_PATH,
        _download,
        "The file of a recording, by the link in its `download_url`",
        "recordings",
        query=Signature,
        errors=(403, 404, 422),
        media_types=("video/mp4", "video/webm"),
        dialects=(ROOT,),
        public=True,
    ),
)
