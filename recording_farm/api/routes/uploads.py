"""Upload a recording's files again, to further storage, or with new keys."""

from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from recording_farm.api.auth import organization_of
from recording_farm.api.context import Context, context_of
from recording_farm.api.operations import Operation
from recording_farm.api.routes.common import answer_with, find_recording
from recording_farm.api.rules import check_storage, resolve_storage
from recording_farm.api.schema.requests import Upload, read_request
from recording_farm.api.schema.responses import RecordingObject, success
from recording_farm.farm.errors import WrongStateError
from recording_farm.farm.queues.transfers import enqueue_transfer
from recording_farm.farm.recording.files import is_in_store
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.targets import open_target, seal_target
from recording_farm.farm.recording.transfers import (
    MAX_TRANSFERS,
    STORE,
    Transfer,
    TransferState,
    again,
    unused_name,
)
from recording_farm.farm.storage.targets import Target, is_same_place


async def _upload(request: Request) -> Response:
    organization_id = organization_of(request)
    context = context_of(request)
    wanted = await read_request(request, Upload)
    recording = await find_recording(request)
    target = None
    if wanted.storage_config is not None:
        field = '"storage_config"'
        target = await resolve_storage(context, organization_id, wanted.storage_config, field)
        await check_storage(request, target, field)
    if not recording.files:
        await run_in_threadpool(_give_new_keys, context, recording, target)
        return success(await answer_with(context, await find_recording(request)))
    # Until it is UPLOADED the files are on the node; afterwards in the store, if anywhere.
    on_node = recording.status is Status.UPLOADING
    missing = [] if target else _missing_uploads(recording)
    if not on_node and not is_in_store(recording):
        raise WrongStateError(f"the farm no longer has the files of recording {recording.id}")
    node = recording.node if on_node else None
    await run_in_threadpool(_begin_uploads, context, recording, missing, target, node)
    return success(await answer_with(context, await find_recording(request)))


def _give_new_keys(context: Context, recording: Recording, target: Target | None) -> None:
    """Store new keys for the later upload, and for the segments of a live output there.

    Raises WrongStateError when the recording has no transfer to this storage.
    """
    if target is not None:
        transfer = _transfer_to_place(context, recording, target)
        if transfer is not None:
            _set_with_keys(context, recording, transfer, target)
            return
    raise WrongStateError(
        f"recording {recording.id} is {recording.status} and has no files to upload yet"
        + ("; you can only give new keys for storage it already uses" if target else "")
    )


def _transfer_to_place(context: Context, recording: Recording, target: Target) -> Transfer | None:
    """The transfer to the same place as `target`, possibly with other keys, unless it is done."""
    for transfer in recording.transfers:
        sealed = context.records.sealed_target(recording.id, transfer.target)
        if transfer.state is TransferState.DONE or sealed is None:
            continue
        if is_same_place(open_target(context.sealer, recording.id, transfer.target, sealed), target):
            return transfer
    return None


def _set_with_keys(context: Context, recording: Recording, transfer: Transfer, target: Target) -> None:
    sealed = seal_target(context.sealer, recording.id, transfer.target, target)
    context.records.set_transfer(recording.id, again(transfer), sealed=sealed)


def _missing_uploads(recording: Recording) -> list[Transfer]:
    # A RUNNING one may be of a node that is gone; if it is not, its node runs it only once.
    missing = [
        again(transfer)
        for transfer in recording.transfers
        if transfer.target != STORE and transfer.state is not TransferState.DONE
    ]
    if not missing:
        raise WrongStateError(
            f"all uploads of recording {recording.id} are done; give a storage_config to upload it elsewhere"
        )
    return missing


def _begin_uploads(
    context: Context, recording: Recording, missing: list[Transfer], target: Target | None, node: str | None
) -> None:
    for transfer in missing:
        context.records.set_transfer(recording.id, transfer)
    names = [transfer.target for transfer in missing]
    if target is not None:
        same = _transfer_to_place(context, recording, target)
        if same is None:
            names.append(_add_upload(context, recording, target))
        else:
            _set_with_keys(context, recording, same, target)
            names.append(same.target)
    for name in names:
        enqueue_transfer(context.redis, recording, name, node)


def _add_upload(context: Context, recording: Recording, target: Target) -> str:
    """Add an upload to the record under an unused name; returns the name."""
    while True:
        if len(recording.transfers) >= MAX_TRANSFERS:
            raise WrongStateError(f"recording {recording.id} has {MAX_TRANSFERS} transfers, the maximum")
        name = unused_name(recording.transfers, target.type)
        sealed = seal_target(context.sealer, recording.id, name, target)
        try:
            context.records.set_transfer(recording.id, Transfer(target=name), only_new=True, sealed=sealed)
            return name
        except WrongStateError:  # another request was quicker
            recording = context.records.get(recording.organization_id, recording.id)


upload_operations: Final = (
    Operation(
        "upload_recording",
        "POST",
        "/recordings/{recording_id}/upload",
        _upload,
        "Upload the files now: retry what is not done, or upload to further storage",
        "recordings",
        answer=RecordingObject,
        body=Upload,
        errors=(400, 404, 409, 413, 422),
    ),
)
