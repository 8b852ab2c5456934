"""Uploading a recording's files again, or to further storage."""

from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from api.auth import organization_of
from api.context import Context, context_of
from api.operations import Operation
from api.recordings import answer_with, find_recording
from api.requests import Upload, read_request
from api.responses import RecordingObject, success
from api.rules import check_storage, resolve_storage
from farm.errors import WrongState
from farm.queues import enqueue_transfer
from farm.recordings import Recording, Status, is_in_store
from farm.sealed_targets import seal_target
from farm.storage.targets import Target
from farm.transfers import MOST_TRANSFERS, STORE, Transfer, TransferState, again, unused_name


async def _upload(request: Request) -> Response:
    organization_id = organization_of(request)
    context = context_of(request)
    wanted = await read_request(request, Upload)
    recording = await find_recording(context, organization_id, request)
    if not recording.files:
        raise WrongState(f"recording {recording.id} is {recording.status} and has no files to upload yet")
    target = None
    if wanted.storage_config is not None:
        field = '"storage_config"'
        target = await resolve_storage(context, organization_id, wanted.storage_config, field)
        await check_storage(context, target, field)
    # Until it is UPLOADED the files lie on the node; afterwards in the store, if anywhere.
    on_node = recording.status is Status.UPLOADING
    missing = [] if target else _missing_uploads(recording)
    if not on_node and not is_in_store(recording):
        raise WrongState(f"the farm has no copy of recording {recording.id} any more")
    node = recording.node if on_node else None
    await run_in_threadpool(_begin_uploads, context, recording, missing, target, node)
    return success(await answer_with(context, await find_recording(context, organization_id, request)))


def _missing_uploads(recording: Recording) -> list[Transfer]:
    # One that is RUNNING may be that of a node that is gone; if it is not, its node lets it run only once.
    missing = [
        again(transfer)
        for transfer in recording.transfers
        if transfer.target != STORE and transfer.state is not TransferState.DONE
    ]
    if not missing:
        raise WrongState(f"recording {recording.id} has arrived everywhere; give a storage_config")
    return missing


def _begin_uploads(
    context: Context, recording: Recording, missing: list[Transfer], target: Target | None, node: str | None
) -> None:
    for transfer in missing:
        context.records.set_transfer(recording.id, transfer)
    names = [transfer.target for transfer in missing]
    if target is not None:
        names.append(_add_upload(context, recording, target))
    for name in names:
        enqueue_transfer(context.redis, recording, name, node)


def _add_upload(context: Context, recording: Recording, target: Target) -> str:
    """Note a further upload in the record, under a name that no other has; returns the name."""
    while True:
        if len(recording.transfers) >= MOST_TRANSFERS:
            raise WrongState(f"recording {recording.id} has {MOST_TRANSFERS} transfers, and can have no more")
        name = unused_name(recording.transfers, target.type)
        sealed = seal_target(context.sealer, recording.id, name, target)
        try:
            context.records.set_transfer(recording.id, Transfer(target=name), only_new=True, sealed=sealed)
            return name
        except WrongState:  # another request was quicker
            recording = context.records.get(recording.organization_id, recording.id)


upload_operations: Final = (
    Operation(
        "upload_recording",
        "POST",
        "/recordings/{recording_id}/upload",
        _upload,
        "Upload the files now: where they have not arrived, or to further storage",
        "recordings",
        answer=RecordingObject,
        body=Upload,
        errors=(400, 404, 409, 413, 422),
    ),
)
