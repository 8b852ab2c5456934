"""Functions that the routes for recordings share."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from recording_farm.api.auth import is_participant, organization_of
from recording_farm.api.context import Context, context_of
from recording_farm.api.meeting.tokens import without_token
from recording_farm.api.schema.responses import (
    RecordingLinks,
    RecordingObject,
    WaitingObject,
    for_participants,
    recording_object,
    success,
    waiting_object,
)
from recording_farm.farm.nodes.availability import living
from recording_farm.farm.nodes.registry import Nodes
from recording_farm.farm.queues.recordings import queue_place
from recording_farm.farm.recording.copies import NO_COPIES, Copies, read_copies
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.outputs import OutputKind
from recording_farm.farm.recording.records import read_recording
from recording_farm.farm.recording.sealed_urls import show_urls


async def answer(request: Request, recording: Recording) -> Response:
    """The response with a recording; participants see only some fields."""
    found = await answer_with(context_of(request), recording)
    return success(for_participants(found) if is_participant(request) else found)


async def answer_with(context: Context, recording: Recording) -> RecordingObject:
    """A recording as clients see it, with the reason for waiting, or how far its copies are."""
    waiting = None
    if recording.status is Status.INVOKED:
        waiting = await run_in_threadpool(_waiting, context, recording)
    copies = await read_copies(context.waiting_redis, [recording])
    return shown(context, recording, waiting, copies.get(recording.id, NO_COPIES))


def shown(
    context: Context,
    recording: Recording,
    waiting: WaitingObject | None = None,
    copies: Copies = NO_COPIES,
) -> RecordingObject:
    """A recording as its organization sees it."""
    recording = show_urls(recording, context.sealer)
    return recording_object(recording, links_of(context, recording), waiting, copies)


def _waiting(context: Context, recording: Recording) -> WaitingObject | None:
    place = queue_place(context.redis, recording, context.settings.quota_running)
    return None if place is None else waiting_object(place, living(Nodes(context.redis).all()))


def links_of(context: Context, recording: Recording) -> RecordingLinks:
    """New links to the files of a recording that are in the store, and its page."""
    playlists = {
        output.id: link
        for output in recording.outputs
        if output.kind is OutputKind.HLS and (link := context.links.playlist(recording, output))
    }
    return RecordingLinks(
        page=without_token(recording.url),
        video=context.links.video(recording),
        audio=context.links.audio(recording),
        playlists=playlists,
        files_expire_at=context.links.files_expire_at(recording),
    )


async def find_recording(request: Request) -> Recording:
    """The recording that the path of an admitted request names. Raises NotFoundError."""
    client = context_of(request).waiting_redis
    # Not in a thread: the switch would take several times as long as reading.
    return await read_recording(client, organization_of(request), request.path_params["recording_id"])
