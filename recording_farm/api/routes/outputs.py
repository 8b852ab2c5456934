"""Live outputs of a running recording: add and remove."""

import asyncio
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from recording_farm.api.context import Context, context_of
from recording_farm.api.operations import Operation
from recording_farm.api.routes.common import answer_with, find_recording
from recording_farm.api.rules import check_is_streamable, check_output_address
from recording_farm.api.schema.requests import AddOutput, read_request
from recording_farm.api.schema.responses import RecordingObject, success
from recording_farm.farm.errors import NotFoundError, NothingLiveError, WrongStateError
from recording_farm.farm.live.output_records import seal_url, sealed_name
from recording_farm.farm.live.requests import ask
from recording_farm.farm.live.view import OUTPUTS
from recording_farm.farm.recording.model import ACTIVE, Recording
from recording_farm.farm.recording.outputs import OVER, OutputState, stream_output

_NOTIFY_SECONDS: Final = 1.0
"""Time-out for notifying the recorder, which also polls every few seconds."""


async def _add(request: Request) -> Response:
    context = context_of(request)
    wanted = await read_request(request, AddOutput)
    recording = await find_recording(request)
    _check_active(recording)
    check_is_streamable(recording.codec, '"url"')
    await check_output_address(request, wanted.url, '"url"')
    output = stream_output(wanted.url)
    sealed = seal_url(context.sealer, recording.id, output.id, wanted.url)
    recording = await run_in_threadpool(
        context.records.add_output, recording, output, sealed_name(output.id), sealed
    )
    await _notify_recorder(context, recording)
    return success(await answer_with(context, recording))


async def _remove(request: Request) -> Response:
    context = context_of(request)
    recording = await find_recording(request)
    wanted = request.path_params["output_id"]
    output = next((each for each in recording.outputs if str(each.id) == wanted.lower()), None)
    if output is None:
        raise NotFoundError(f"recording {recording.id} has no output {wanted}")
    if output.state in OVER:
        raise WrongStateError(f"output {output.id} of recording {recording.id} is already {output.state}")
    _check_active(recording)
    removed = output.model_copy(update={"state": OutputState.REMOVED})
    recording = await run_in_threadpool(context.records.set_output, recording, removed)
    await _notify_recorder(context, recording)
    return success(await answer_with(context, recording))


def _check_active(recording: Recording) -> None:
    if recording.status not in ACTIVE:
        raise WrongStateError(
            f"recording {recording.id} is {recording.status}; it has no live outputs any more"
        )


async def _notify_recorder(context: Context, recording: Recording) -> None:
    """Have the recorder, if it runs already, read the outputs at once."""
    if recording.node is None:
        return
    try:
        async with asyncio.timeout(_NOTIFY_SECONDS):
            await ask(context.waiting_redis, recording.id, OUTPUTS, _NOTIFY_SECONDS)
    except (NothingLiveError, TimeoutError):
        return


_TAG: Final = "live"

output_operations: Final = (
    Operation(
        "add_output",
        "POST",
        "/recordings/{recording_id}/outputs",
        _add,
        "Add a live output to a recording",
        _TAG,
        answer=RecordingObject,
        body=AddOutput,
        errors=(400, 404, 409, 413, 422),
    ),
    Operation(
        "remove_output",
        "DELETE",
        "/recordings/{recording_id}/outputs/{output_id}",
        _remove,
        "Remove a live output from a recording",
        _TAG,
        answer=RecordingObject,
        errors=(404, 409),
    ),
)
