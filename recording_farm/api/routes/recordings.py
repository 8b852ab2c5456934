"""Get, list, stop, pause, resume and delete recordings."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

import redis
from redis.asyncio.client import PubSub
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from recording_farm.api.auth import caller_of, check_meeting, is_participant, only_meeting, organization_of
from recording_farm.api.context import Context, context_of
from recording_farm.api.operations import Operation
from recording_farm.api.routes.common import answer, find_recording, links_of
from recording_farm.api.schema.requests import ControlRecording, ListRecordings, read_query, read_request
from recording_farm.api.schema.responses import (
    Deleted,
    ListedRecording,
    Paging,
    RecordingObject,
    for_participants,
    listed_recording,
    success,
    waiting_object,
)
from recording_farm.farm.clock import now
from recording_farm.farm.errors import StoreUnavailableError, WrongStateError
from recording_farm.farm.evidence.directory import remove_evidence
from recording_farm.farm.evidence.stored import StoredEvidence
from recording_farm.farm.nodes.availability import LivingNode, living
from recording_farm.farm.nodes.registry import Nodes
from recording_farm.farm.queues.recordings import Place, drop_job, queue_places
from recording_farm.farm.recording.commands import Command, send_command
from recording_farm.farm.recording.copies import NO_COPIES, read_copies
from recording_farm.farm.recording.files import delete_files
from recording_farm.farm.recording.listing import Wanted, microseconds
from recording_farm.farm.recording.model import (
    FINAL,
    STOPPED_BEFORE_START,
    Caller,
    Failure,
    Reason,
    ReasonKind,
    Recording,
    Status,
    organization_caller,
)
from recording_farm.farm.recording.records import record_key
from recording_farm.farm.recording.sealed_urls import show_urls
from recording_farm.farm.storage.backend import StorageError

logger = logging.getLogger(__name__)

_ANSWER_SECONDS: Final = 2.0
"""How long a PUT waits for the worker to execute a command, before it responds with the current state."""

_ALLOWED: Final = {
    Command.STOP: frozenset({Status.INVOKED, Status.RECORDING, Status.PAUSED}),
    Command.PAUSE: frozenset({Status.RECORDING}),
    Command.RESUME: frozenset({Status.PAUSED}),
}
"""The states in which each command is allowed."""

_DONE: Final = {Command.STOP: "stopped", Command.PAUSE: "paused", Command.RESUME: "resumed"}


async def _list(request: Request) -> Response:
    organization_id = organization_of(request)
    context = context_of(request)
    query = read_query(request, ListRecordings)
    meeting_id = only_meeting(request)
    if query.meeting_id is not None:
        check_meeting(request, query.meeting_id)
    wanted = _wanted(query, meeting_id or query.meeting_id)
    found = await run_in_threadpool(context.records.find, organization_id, wanted)
    paging = Paging.of_page(wanted.offset, len(found.recordings), found.total)
    places: dict[str, Place] = {}
    nodes: list[LivingNode] = []
    if any(recording.status is Status.INVOKED for recording in found.recordings):
        limit = context.settings.quota_running
        places = await run_in_threadpool(queue_places, context.redis, organization_id, limit)
        nodes = living(await run_in_threadpool(Nodes(context.redis).all))
    copies = await read_copies(context.waiting_redis, found.recordings)
    opened = [show_urls(recording, context.sealer) for recording in found.recordings]
    shown = [
        listed_recording(
            recording,
            links_of(context, recording),
            waiting_object(places.get(str(recording.id)), nodes),
            copies.get(recording.id, NO_COPIES),
        )
        for recording in opened
    ]
    return success(
        [for_participants(each) for each in shown] if is_participant(request) else shown, paging=paging
    )


def _wanted(query: ListRecordings, meeting_id: str | None) -> Wanted:
    return Wanted(
        statuses=frozenset(query.status),
        meeting_id=meeting_id,
        earliest=microseconds(query.start_time) if query.start_time else "-inf",
        latest=microseconds(query.end_time) if query.end_time else "+inf",
        search=query.search,
        expired=query.expired,
        oldest_first=query.sort_order == "ASC",
        offset=query.offset,
        count=query.per_page,
    )


async def _get_active(request: Request) -> Response:
    organization_id = organization_of(request)
    context = context_of(request)
    meeting_id = request.path_params["meeting_id"]
    check_meeting(request, meeting_id)
    recording = await run_in_threadpool(context.records.active, organization_id, meeting_id)
    return await answer(request, recording)


async def _get(request: Request) -> Response:
    recording = await find_recording(request)
    check_meeting(request, recording.meeting_id)
    return await answer(request, recording)


async def _command(request: Request) -> Response:
    context = context_of(request)
    command = (await read_request(request, ControlRecording)).action
    recording = await find_recording(request)
    check_meeting(request, recording.meeting_id)
    if recording.status not in _ALLOWED[command]:
        raise WrongStateError(
            f"recording {recording.id} is {recording.status} and cannot be {_DONE[command]}"
        )
    await _send_command(context, recording, command, caller_of(request))
    return await answer(request, await find_recording(request))


async def _delete(request: Request) -> Response:
    context = context_of(request)
    recording = await find_recording(request)
    if recording.status not in FINAL:
        raise WrongStateError(f"recording {recording.id} is {recording.status}; stop it before you delete it")
    evidence = StoredEvidence(context.redis, context.store)
    # The files first: if that fails, the client can still delete the recording again.
    try:
        await run_in_threadpool(delete_files, context.store, recording)
        await run_in_threadpool(evidence.delete, recording.id)
    except StorageError as error:
        logger.error("recording %s cannot be deleted from the store: %s", recording.id, error.message)
        raise StoreUnavailableError(
            f"cannot delete the files of recording {recording.id} from the store; try again later"
        ) from None
    await run_in_threadpool(remove_evidence, context.settings, recording.id)
    await run_in_threadpool(context.records.delete, recording)
    try:
        # A node may have uploaded some a moment ago; without a recording, nodes delete their uploads.
        await run_in_threadpool(evidence.delete, recording.id)
    except StorageError as error:
        logger.error("evidence of recording %s is left in the store: %s", recording.id, error.message)
    return success(Deleted(id=str(recording.id)))


async def _send_command(context: Context, recording: Recording, command: Command, caller: Caller) -> None:
    """Send a command, and wait a moment for the recording to execute it."""
    async with context.waiting_redis.pubsub() as changes:
        # Subscribed before the command is sent, so that the change of a fast worker is not missed.
        await changes.subscribe(record_key(recording.id))
        await changes.get_message(timeout=_ANSWER_SECONDS)
        if command is Command.STOP and caller.type == "USER":
            with suppress(redis.ResponseError):  # a Redis that rejects writes must not prevent the stop
                await run_in_threadpool(context.records.update, recording.id, stopped_by=caller)
        is_kept = await run_in_threadpool(send_command, context.redis, recording.id, command)
        # If Redis did not store it, a recorder received it, and Redis cannot store a new state either.
        if (
            is_kept
            and recording.status is Status.INVOKED
            and await run_in_threadpool(_end, context, recording)
        ):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                await _wait_until_done(changes, command)


async def _wait_until_done(changes: PubSub, command: Command) -> None:
    """Wait until the recording is in a state in which the command is not allowed any more."""
    async for message in changes.listen():
        if message["type"] == "message" and Status(message["data"].decode()) not in _ALLOWED[command]:
            return


def _end(context: Context, recording: Recording) -> bool:
    """End a recording without a first frame; false when it has one by now."""
    try:
        context.records.change_state(
            recording.id,
            Status.ERRORED,
            only_from={Status.INVOKED},
            stopped_time=now(),
            stop_reason=Reason(
                reason=ReasonKind.STOPPED_BEFORE_START, caller=organization_caller(recording.organization_id)
            ),
            error=Failure(
                code=STOPPED_BEFORE_START,
                message="the recording was stopped before its first frame; there is no file",
            ),
        )
    except WrongStateError:
        return False
    # Otherwise the recordings behind it would still count it.
    drop_job(context.redis, recording)
    return True


_TAG: Final = "recordings"

recording_operations: Final = (
    Operation(
        "get_all_recordings",
        "GET",
        "/recordings",
        _list,
        "List recordings, the newest first",
        _TAG,
        answer=list[ListedRecording],
        query=ListRecordings,
        paged=True,
        errors=(404, 422),
        participants=True,
    ),
    # `:path`, because a meeting id is any text, slashes included.
    Operation(
        "get_active_recording",
        "GET",
        "/recordings/active-recording/{meeting_id:path}",
        _get_active,
        "The newest recording of a meeting that is INVOKED, RECORDING or PAUSED",
        _TAG,
        answer=RecordingObject,
        errors=(404,),
        hosts=True,
        participants=True,
    ),
    Operation(
        "get_one_recording",
        "GET",
        "/recordings/{recording_id}",
        _get,
        "One recording",
        _TAG,
        answer=RecordingObject,
        errors=(404,),
        hosts=True,
        participants=True,
    ),
    Operation(
        "pause_resume_stop_recording",
        "PUT",
        "/recordings/{recording_id}",
        _command,
        "Stop, pause or resume a recording; waits up to 2 s for it",
        _TAG,
        answer=RecordingObject,
        body=ControlRecording,
        errors=(400, 404, 409, 413, 422),
        hosts=True,
        participants=True,
    ),
    Operation(
        "delete_recording",
        "DELETE",
        "/recordings/{recording_id}",
        _delete,
        "Delete a recording that has ended, with its files and its evidence",
        _TAG,
        answer=Deleted,
        errors=(404, 409),
    ),
)
