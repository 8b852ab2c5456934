"""Downloads of finished files by signed links; browsers can play and seek in them (HTTP Range)."""

import asyncio
import json
import logging
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote

import redis
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from recording_farm.api.context import Context, context_of
from recording_farm.api.error_responses import error_response
from recording_farm.api.file_response import Shares, file_response
from recording_farm.api.operations import ROOT, Operation
from recording_farm.api.schema.requests import read_query
from recording_farm.encoder.live.hls import PLAYLIST_SUFFIX
from recording_farm.farm.errors import NotFoundError, StoreUnavailableError
from recording_farm.farm.recording.links import DOWNLOAD_PATH, verify_link
from recording_farm.farm.recording.records import record_key
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.content_types import content_type

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0
"""How long a download waits for Redis, which it can do without."""


class Signature(BaseModel):
    """The query of a link signed by `farm.recording.links`."""

    expires: str = Field(default="", description="when the link ends, in Unix seconds")
    signature: str = ""


async def _download(request: Request) -> Response:
    context = context_of(request)
    recording_id, name = request.path_params["recording_id"], request.path_params["name"]
    signed = read_query(request, Signature)
    verify_link(context.link_secret, recording_id, name, signed.expires, signed.signature, time.time())
    organization_id = await _organization_of(context, recording_id)
    shares = Shares(
        partial(context.downloads.taken, organization_id), partial(context.file_reads.taken, organization_id)
    )
    if name.endswith(PLAYLIST_SUFFIX):
        async with shares.download(), shares.read():
            return await run_in_threadpool(_playlist, context, recording_id, name, int(signed.expires))
    try:
        async with shares.read():
            file = await run_in_threadpool(context.store.open, recording_id, name)
    except StorageError as error:
        # Not the client's fault; the path of the farm's files is only for the log.
        logger.error("recording %s: %s", recording_id, error)
        return error_response(500, error.code, "cannot read the file from the store; see the farm's log")
    return file_response(
        request,
        file,
        {
            "Content-Type": content_type(name),
            "Content-Disposition": _disposition(name),
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; media-src 'self'; sandbox",
            # The link is a secret: it must not reach other sites or a shared cache.
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "private",
        },
        shares,
    )


async def _organization_of(context: Context, recording_id: str) -> str:
    """The organization whose share of downloads counts.

    Downloads work without Redis; then each recording has a share of its own.
    """
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            found = await context.waiting_redis.hget(record_key(recording_id), "organization_id")
        return str(json.loads(found)) if found else recording_id
    except (redis.RedisError, OSError, TimeoutError, ValueError):
        return recording_id


def _playlist(context: Context, recording_id: str, name: str, expires: int) -> Response:
    """A playlist in the store, with signed links to its segments that expire with its own."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / name
        try:
            context.store.fetch(recording_id, name, copy)
        except StorageError as error:
            if error.reason == "not_found":
                raise NotFoundError(f"recording {recording_id} has no file {name}") from None
            logger.error("recording %s: %s", recording_id, error)
            raise StoreUnavailableError(
                f"cannot read the playlist of recording {recording_id} from the store; try again later"
            ) from None
        lines = copy.read_text().splitlines()
    linked = (
        line if not line or line.startswith("#") else context.links.segment(recording_id, line, expires)
        for line in lines
    )
    return Response(
        "\n".join(linked) + "\n",
        media_type=content_type(name),
        headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"},
    )


def _disposition(name: str) -> str:
    quoted = quote(name, safe="")
    return f'inline; filename="{name}"' if quoted == name else f"inline; filename*=utf-8''{quoted}"


download_operations: Final = (
    Operation(
        "download",
        "GET",
        DOWNLOAD_PATH,
        _download,
        "The file of a recording, by the link in its `download_url`",
        "recordings",
        query=Signature,
        errors=(403, 404, 416, 422, 429, 500),
        media_types=(
            *("video/mp4", "video/webm", "audio/mp4", "audio/mpeg"),
            *("application/x-tar", "application/vnd.apple.mpegurl", "video/mp2t"),
        ),
        dialects=(ROOT,),
        public=True,
        for_any_origin=True,
    ),
)
