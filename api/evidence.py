"""The evidence of a recording as a zip: its log, and what there was to see at each fault.

It comes from the store, where every node brings it; and what lies in the data directory of this machine from
there, because that may be newer.
"""

import logging
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from uuid import UUID

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.auth import organization_of
from api.context import Context, context_of
from api.operations import Operation
from farm.errors import NotFound, StoreUnavailable
from farm.evidence import evidence_files
from farm.evidence_carrier import read_carried
from farm.evidence_zip import Entry, entries_of_zip, entry_of_file, zip_pieces
from farm.recordings import ACTIVE, Recording
from farm.records import read_recording
from farm.spool import evidence_dir
from farm.storage.place import StorageError
from farm.stored_evidence import StoredEvidence

_LOG = logging.getLogger(__name__)


async def _get(request: Request) -> Response:
    organization_id = organization_of(request)
    context = context_of(request)
    recording = await read_recording(
        context.waiting_redis, organization_id, request.path_params["recording_id"]
    )
    here, elsewhere = await run_in_threadpool(_parts, context, recording.id)
    if not here and not elsewhere:
        raise NotFound(_why_none(recording))
    headers = {
        "Content-Disposition": f'attachment; filename="evidence-{recording.id}.zip"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    if request.method == "HEAD":
        return StreamingResponse(iter(()), headers=headers, media_type="application/zip")
    opened, entries = await run_in_threadpool(_entries, context, recording.id, here, elsewhere)
    return StreamingResponse(_pieces(opened, entries), headers=headers, media_type="application/zip")


def _parts(context: Context, recording_id: UUID) -> tuple[dict[str, Path], list[str]]:
    """The files in this machine's data directory by their names, and the parts that only the store has."""
    directory = evidence_dir(context.settings, str(recording_id))
    here = evidence_files(directory)
    carried = read_carried(directory) if here else None
    parts = StoredEvidence(context.redis, context.store).parts(recording_id)
    return here, [part for part in parts if carried is None or part != carried.part]


def _entries(
    context: Context, recording_id: UUID, here: dict[str, Path], elsewhere: list[str]
) -> tuple[ExitStack, list[Entry]]:
    """What the zip is made of, and what is open for that. Raises NotFound, StoreUnavailable."""
    is_one = not here or not elsewhere
    entries = [entry_of_file(name if is_one else f"here/{name}", path) for name, path in here.items()]
    with ExitStack() as opened, tempfile.TemporaryDirectory() as directory:
        for part in elsewhere:
            copy = Path(directory) / part
            try:
                StoredEvidence(context.redis, context.store).fetch(recording_id, part, copy)
                # It can be read when its name is gone.
                file = opened.enter_context(copy.open("rb"))
                entries += entries_of_zip(file, "" if is_one and len(elsewhere) == 1 else part)
            except (StorageError, zipfile.BadZipFile) as error:
                if isinstance(error, StorageError) and error.reason == "not_found":
                    continue  # it is just being brought, or deleted
                _LOG.error("evidence %s of recording %s: %s", part, recording_id, error)
                raise StoreUnavailable(
                    f"the evidence of recording {recording_id} cannot be read from the store now; "
                    "please try again later"
                ) from None
        if not entries:
            raise NotFound(f"the evidence of recording {recording_id} is just being brought, or deleted")
        return opened.pop_all(), entries
    raise AssertionError


def _pieces(opened: ExitStack, entries: list[Entry]) -> Iterator[bytes]:
    with opened:
        yield from zip_pieces(entries)


def _why_none(recording: Recording) -> str:
    if recording.node is None:
        return f"there is no evidence of recording {recording.id}: no node has taken it"
    if recording.status in ACTIVE:
        return (
            f"recording {recording.id} is being made on the node {recording.node}; evidence of it can be had "
            "some seconds after its first fault, and when it has ended"
        )
    return (
        f"there is no evidence of recording {recording.id} in the store: the node {recording.node} has not "
        "brought it yet, or it was deleted by its age"
    )


evidence_operations: Final = (
    Operation(
        "get_evidence",
        "GET",
        "/recordings/{recording_id}/evidence",
        _get,
        "A zip of a recording's log and of what there was to see at each of its faults",
        "recordings",
        errors=(404, 503),
        media_types=("application/zip",),
    ),
)
