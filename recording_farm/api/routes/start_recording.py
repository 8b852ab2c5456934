"""POST /recordings: plan the start of a recording, then execute the plan."""

from contextlib import suppress
from typing import Final

import redis
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from recording_farm.api.context import Context, context_of
from recording_farm.api.operations import Operation
from recording_farm.api.request_log import bind_recording
from recording_farm.api.routes.common import answer
from recording_farm.api.routes.start_plan import StartPlan, plan_start
from recording_farm.api.schema.requests import StartHeaders, StartRecording
from recording_farm.api.schema.responses import RecordingObject
from recording_farm.farm.errors import (
    AddressRefusedError,
    InvalidRequestError,
    NameNotResolvedError,
    RedisUnavailableError,
)
from recording_farm.farm.pages.watermark import draw, fetch
from recording_farm.farm.queues.recordings import enqueue_recording
from recording_farm.farm.recording.model import Recording, Watermark
from recording_farm.farm.recording.sealed_urls import seal_urls
from recording_farm.farm.recovery.unclaimed import fail_before_start


async def _start(request: Request) -> Response:
    plan = await plan_start(request)
    recording = await _execute(context_of(request), plan)
    bind_recording({"recording_id": recording.id})
    return await answer(request, recording)


async def _execute(context: Context, plan: StartPlan) -> Recording:
    """Start the recording; returns it, or the one that an earlier identical request has started.

    Raises AlreadyRecordingError, InvalidRequestError, AddressRefusedError, QuotaExceededError,
    RedisUnavailableError.
    """
    mark = plan.recording.watermark
    if mark is None:
        return await run_in_threadpool(_store_and_enqueue, context, plan)
    before = await run_in_threadpool(_started_before, context, plan)
    return before or await _start_with_watermark(context, plan, mark)


def _started_before(context: Context, plan: StartPlan) -> Recording | None:
    return context.records.started_before(
        plan.recording.organization_id,
        plan.recording.meeting_id,
        allow_multiple=plan.allow_multiple,
        idempotency=plan.idempotency,
    )


async def _start_with_watermark(context: Context, plan: StartPlan, mark: Watermark) -> Recording:
    recording_id = plan.recording.id
    png = await _drawn(context, mark, plan.recording)
    await run_in_threadpool(context.records.keep_watermark, recording_id, png)
    started: Recording | None = None
    try:
        started = await run_in_threadpool(_store_and_enqueue, context, plan)
        return started
    finally:
        if started is None or started.id != recording_id:
            with suppress(redis.RedisError):
                await run_in_threadpool(context.records.forget_watermark, recording_id)


async def _drawn(context: Context, mark: Watermark, recording: Recording) -> bytes:
    """The watermark as drawn into the video.

    Raises AddressRefusedError, InvalidRequestError, NameNotResolvedError.
    """
    try:
        content = await fetch(mark.url, context.settings.address_rule, requester=recording.organization_id)
        async with context.drawings.taken(recording.organization_id):
            return await draw(content, mark, recording.width, recording.height)
    except (InvalidRequestError, AddressRefusedError, NameNotResolvedError) as error:
        raise type(error)(f'"video_config.watermark": {error.message}') from None


def _store_and_enqueue(context: Context, plan: StartPlan) -> Recording:
    """Store the record and enqueue the job; if that fails, the recording fails at once."""
    started = context.records.add(
        seal_urls(plan.recording, context.sealer),
        allow_multiple=plan.allow_multiple,
        idempotency=plan.idempotency,
        target=plan.target,
        most_queued=plan.most_queued,
    )
    if started.id != plan.recording.id:
        return started
    try:
        for name, sealed in plan.secrets.items():
            context.records.keep_sealed(started.id, name, sealed)
        enqueue_recording(context.redis, started)
    except redis.RedisError as error:
        # If this fails too, `fail_lost_recordings` finds the recording later.
        fail_before_start(context.records, started)
        raise RedisUnavailableError(
            f"recording {started.id} could not be queued and has ended; start it again"
        ) from error
    return started


async def _start_tracks(_request: Request) -> Response:
    raise InvalidRequestError(
        "recording single participants' tracks is not supported; record the page with POST /recordings"
    )


_TAG: Final = "recordings"

start_operations: Final = (
    Operation(
        "start_recording",
        "POST",
        "/recordings",
        _start,
        "Start a recording of a meeting",
        _TAG,
        answer=RecordingObject,
        body=StartRecording,
        headers=StartHeaders,
        errors=(400, 403, 409, 413, 422),
        hosts=True,
        participants=True,
    ),
    Operation(
        "start_track_recording",
        "POST",
        "/recordings/track",
        _start_tracks,
        "Always rejected: the farm records pages, not tracks",
        _TAG,
        status=None,
        errors=(422,),
    ),
)
