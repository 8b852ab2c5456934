"""What the routes about recordings share."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from recording_farm.api.auth import is_participant, organization_of
from recording_farm.api.context import Context, context_of
from recording_farm.api.meeting.tokens import without_token
from recording_farm.api.schema.responses import (
    RecordingLinks,
    RecordingObject,
    for_participants,
    recording_object,
    success,
)
from recording_farm.farm.queues.recordings import queue_position
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.outputs import OutputKind
from recording_farm.farm.recording.records import read_recording


async def answer(request: Request, recording: Recording) -> Response:
    """The answer with a recording, as far as the client may see it."""
    shown = await answer_with(context_of(request), recording)
    return success(for_participants(shown) if is_participant(request) else shown)


async def answer_with(context: Context, recording: Recording) -> RecordingObject:
    """A recording as clients see it, with its place in the queue."""
    position = None
    if recording.status is Status.INVOKED:
        position = await run_in_threadpool(queue_position, context.redis, recording.id)
    return recording_object(recording, links_of(context, recording), position)


def links_of(context: Context, recording: Recording) -> RecordingLinks:
    """Fresh links to the files of a recording, as far as they are in the store, and its page."""
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
    )


async def find_recording(request: Request) -> Recording:
    """The recording that the path of an admitted request names. Raises NotFoundError."""
    redis = context_of(request).waiting_redis
    # Not in a thread: handing over and back would take several times as long as reading.
    return await read_recording(redis, organization_of(request), request.path_params["recording_id"])
