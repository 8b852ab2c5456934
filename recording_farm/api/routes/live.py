"""The live picture of a running recording, and its preview as HLS."""

import asyncio
from datetime import timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from recording_farm.api.context import context_of
from recording_farm.api.operations import Operation
from recording_farm.api.routes.common import find_recording
from recording_farm.encoder.formats import Codec
from recording_farm.farm.clock import now
from recording_farm.farm.errors import NothingLiveError
from recording_farm.farm.live.requests import ask, saved_preview
from recording_farm.farm.live.view import FRAME, PREVIEW
from recording_farm.farm.recording.model import ACTIVE, Recording, Status
from recording_farm.farm.storage.content_types import content_type

_FRAME_SECONDS: Final = 5.0
_PREVIEW_SECONDS: Final = 10.0
"""The first segment of a preview takes some seconds."""

_LAST_SECONDS: Final = 3.0
_ENDING: Final = timedelta(seconds=5)
"""How long the last segment of a preview may take; the recording may be UPLOADED by then."""

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


async def _frame(request: Request) -> Response:
    content = await _ask(request, FRAME, _FRAME_SECONDS)
    return Response(content, headers=_HEADERS, media_type="image/jpeg")


async def _preview(request: Request) -> Response:
    name = request.path_params["name"]
    context = context_of(request)
    recording = await find_recording(request)
    content = None
    if recording.status not in ACTIVE:
        content = await saved_preview(context.waiting_redis, recording.id, name)
    if content is None:
        try:
            content = await _ask(request, PREVIEW + name, _PREVIEW_SECONDS)
        except NothingLiveError:
            # It may have ended in between.
            content = await saved_preview(context.waiting_redis, recording.id, name)
            if content is None:
                raise
    return Response(content, headers=_HEADERS, media_type=content_type(name))


def _is_ending(recording: Recording) -> bool:
    """Whether the recorder may still run, with the last segments of a preview."""
    stopped = recording.stopped_time
    return recording.status not in ACTIVE and stopped is not None and now() - stopped < _ENDING


async def _ask(request: Request, what: str, seconds: float) -> bytes:
    context = context_of(request)
    recording = await find_recording(request)
    if what != FRAME and _is_ending(recording):
        seconds = _LAST_SECONDS
    # A player waits through a pause.
    elif recording.status not in ({Status.RECORDING} if what == FRAME else {Status.RECORDING, Status.PAUSED}):
        raise NothingLiveError(
            f"recording {recording.id} is {recording.status}; there is nothing to show now"
        )
    if what != FRAME and recording.codec is not Codec.H264:
        raise NothingLiveError(
            f"recording {recording.id} is {recording.codec}, which has no HLS preview; use live.jpg"
        )
    if what == FRAME and not recording.video_file:
        raise NothingLiveError(f"recording {recording.id} is audio only")
    try:
        async with asyncio.timeout(seconds + 2):
            return await ask(context.waiting_redis, recording.id, what, seconds)
    except TimeoutError:
        raise NothingLiveError(f"recording {recording.id} does not answer; try again in a moment") from None


_TAG: Final = "live"

live_operations: Final = (
    Operation(
        "live_frame",
        "GET",
        "/recordings/{recording_id}/live.jpg",
        _frame,
        "The current picture, half a second old at most",
        _TAG,
        errors=(404, 409),
        for_any_origin=True,
        media_types=("image/jpeg",),
    ),
    Operation(
        "live_preview",
        "GET",
        "/recordings/{recording_id}/live/{name}",
        _preview,
        "A live preview as HLS: `index.m3u8` and its segments; a few seconds behind",
        _TAG,
        errors=(404, 409),
        for_any_origin=True,
        media_types=("application/vnd.apple.mpegurl", "video/mp2t"),
    ),
)
