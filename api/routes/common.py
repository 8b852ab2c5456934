"""What the routes about recordings share."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from api.auth import is_participant
from api.context import Context, context_of
from api.schema.responses import RecordingObject, for_participants, recording_object, success
from farm.queues.recordings import queue_position
from farm.recording.model import Recording, Status
from farm.recording.records import read_recording


async def answer(request: Request, recording: Recording) -> Response:
    """The answer with a recording, as far as the client may see it."""
    shown = await answer_with(context_of(request), recording)
    return success(for_participants(shown) if is_participant(request) else shown)


async def answer_with(context: Context, recording: Recording) -> RecordingObject:
    """A recording as clients see it, with its place in the queue."""
    if recording.status is not Status.INVOKED:
        return recording_object(context, recording)
    position = await run_in_threadpool(queue_position, context.redis, recording.id)
    return recording_object(context, recording, position)


async def find_recording(context: Context, organization_id: str, request: Request) -> Recording:
    """The recording that the path names. Raises NotFoundError."""
    # Not in a thread: handing over and back would take several times as long as reading.
    return await read_recording(context.waiting_redis, organization_id, request.path_params["recording_id"])
