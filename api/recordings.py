"""The recording API: start a recording, look at it, stop, pause and resume it."""

import asyncio
from contextlib import suppress
from typing import Final
from uuid import uuid4

import redis
from redis.asyncio.client import PubSub
from starlette.concurrency import run_in_threadpool
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.auth import organization_of
from api.context import Context, context_of
from api.requests import OrderRecording, StartRecording, read_request
from api.responses import recording_object, success
from browser_bot.addresses import PageAddressError, check_url
from farm.errors import AddressRefused, InvalidRequest, RedisUnavailable, WrongState
from farm.lost_recordings import fail_before_start
from farm.orders import Order, send_order
from farm.queues import enqueue_recording
from farm.recordings import (
    Caller,
    Failure,
    Reason,
    ReasonKind,
    Recording,
    Status,
    now,
    output_file_name,
)
from farm.records import record_key

_ANSWER_SECONDS: Final = 2.0
"""How long a PUT waits for the worker to do what it was told, before it answers with the state as it is."""

_ALLOWED: Final = {
    Order.STOP: frozenset({Status.INVOKED, Status.RECORDING, Status.PAUSED}),
    Order.PAUSE: frozenset({Status.RECORDING}),
    Order.RESUME: frozenset({Status.PAUSED}),
}
"""The states in which each order makes sense."""

_DONE: Final = {Order.STOP: "stopped", Order.PAUSE: "paused", Order.RESUME: "resumed"}


async def _start(request: Request) -> Response:
    organization_id = organization_of(request)
    context = context_of(request)
    wanted = await read_request(request, StartRecording)
    recording = _new_recording(context, organization_id, wanted)
    await _check_page(context, recording, "meeting_id" if wanted.url is None else "url")
    recording = await run_in_threadpool(_invoke, context, recording, wanted.allow_multiple_recordings)
    return success(recording_object(context, recording))


def _new_recording(context: Context, organization_id: str, wanted: StartRecording) -> Recording:
    longest = context.settings.max_seconds
    if wanted.max_seconds is not None and wanted.max_seconds > longest:
        raise InvalidRequest(f'"max_seconds": this farm records {longest} seconds at most')
    invoked_time = now()
    video = wanted.video_config
    return Recording(
        id=uuid4(),
        organization_id=organization_id,
        meeting_id=wanted.meeting_id,
        url=wanted.url or context.settings.page_of(wanted.meeting_id),
        page_contract=wanted.page_contract,
        codec=video.codec,
        width=video.width,
        height=video.height,
        max_seconds=wanted.max_seconds or longest,
        file_name_prefix=wanted.file_name_prefix,
        output_file_name=output_file_name(
            wanted.file_name_prefix, wanted.meeting_id, invoked_time, video.codec
        ),
        invoked_time=invoked_time,
        start_reason=_by(ReasonKind.API_CALL, organization_id),
    )


def _by(kind: ReasonKind, organization_id: str) -> Reason:
    caller = Caller(type="ORGANIZATION", user_id=organization_id, name=organization_id)
    return Reason(reason=kind, caller=caller)


async def _check_page(context: Context, recording: Recording, field: str) -> None:
    try:
        await check_url(recording.url, context.settings.address_rule, context.settings.built_in_meetings)
    except PageAddressError as error:
        raise AddressRefused(f'"{field}": {error}') from None


def _invoke(context: Context, recording: Recording, allow_multiple: bool) -> Recording:
    """Keep the recording and queue its job; when the second fails the recording ends at once."""
    recording = context.records.add(recording, allow_multiple=allow_multiple)
    try:
        enqueue_recording(context.redis, recording)
    except redis.RedisError as error:
        # If Redis is away for this as well, `fail_lost_recordings` finds the recording later.
        fail_before_start(context.records, recording)
        raise RedisUnavailable(
            f"recording {recording.id} could not be queued and has ended; please start it again"
        ) from error
    return recording


async def _get_active(request: Request) -> Response:
    organization_id = organization_of(request)
    context = context_of(request)
    recording = await run_in_threadpool(
        context.records.active, organization_id, request.path_params["meeting_id"]
    )
    return success(recording_object(context, recording))


class _OneRecording(HTTPEndpoint):
    """One recording, at its own address."""

    async def get(self, request: Request) -> Response:
        """The recording as it is."""
        organization_id = organization_of(request)
        context = context_of(request)
        recording = await _find(context, organization_id, request)
        return success(recording_object(context, recording))

    async def put(self, request: Request) -> Response:
        """Stop, pause or resume the recording."""
        organization_id = organization_of(request)
        context = context_of(request)
        order = (await read_request(request, OrderRecording)).action
        recording = await _find(context, organization_id, request)
        if recording.status not in _ALLOWED[order]:
            raise WrongState(f"recording {recording.id} is {recording.status} and cannot be {_DONE[order]}")
        await _give_order(context, recording, order)
        recording = await _find(context, organization_id, request)
        return success(recording_object(context, recording))


async def _find(context: Context, organization_id: str, request: Request) -> Recording:
    return await run_in_threadpool(context.records.get, organization_id, request.path_params["recording_id"])


async def _give_order(context: Context, recording: Recording, order: Order) -> None:
    """Send an order, and wait a moment for the recording to do it."""
    async with context.waiting_redis.pubsub() as changes:
        # Listening begins before the order is sent, or a quick worker's answer would be missed.
        await changes.subscribe(record_key(recording.id))
        await changes.get_message(timeout=_ANSWER_SECONDS)
        await run_in_threadpool(send_order, context.redis, recording.id, order)
        if recording.status is Status.INVOKED and await run_in_threadpool(_end, context, recording):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                await _wait_until_done(changes, order)


async def _wait_until_done(changes: PubSub, order: Order) -> None:
    """Wait until the recording is in a state in which the order makes no sense any more."""
    async for message in changes.listen():
        if message["type"] == "message" and Status(message["data"].decode()) not in _ALLOWED[order]:
            return


def _end(context: Context, recording: Recording) -> bool:
    """End a recording that has no first frame yet; false when it has got one in the meantime."""
    try:
        context.records.change_state(
            recording.id,
            Status.ERRORED,
            only_from={Status.INVOKED},
            stopped_time=now(),
            stop_reason=_by(ReasonKind.STOPPED_BEFORE_START, recording.organization_id),
            error=Failure(
                code="stopped_before_start",
                message="the recording was stopped before its first frame, so there is no file",
            ),
        )
    except WrongState:
        return False
    return True


recording_routes: list[BaseRoute] = [
    Route("/v2/recordings", _start, methods=["POST"]),
    # `:path`, because a meeting id is any text, slashes included.
    Route("/v2/recordings/active-recording/{meeting_id:path}", _get_active, methods=["GET"]),
    Route("/v2/recordings/{recording_id}", _OneRecording),
]
