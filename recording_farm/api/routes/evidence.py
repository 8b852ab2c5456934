"""The evidence of a recording as a zip: its log, and the screenshots and logs of each fault.

It is read from the store, to which every node uploads it. Evidence in this machine's own data directory is
read from there, because it may be newer.
"""

import logging
import tempfile
import zipfile
from collections.abc import Generator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, closing
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from recording_farm.api.auth import organization_of
from recording_farm.api.context import Context, context_of
from recording_farm.api.operations import Operation
from recording_farm.farm.errors import FarmError, NotFoundError, StoreUnavailableError
from recording_farm.farm.evidence.archive import (
    Entry,
    entries_of_zip,
    entry_of_file,
    entry_of_text,
    zip_pieces,
)
from recording_farm.farm.evidence.collect import evidence_files
from recording_farm.farm.evidence.directory import evidence_dir, read_uploaded
from recording_farm.farm.evidence.stored import StoredEvidence
from recording_farm.farm.recording.model import ACTIVE, Recording
from recording_farm.farm.recording.records import read_recording
from recording_farm.farm.storage.backend import StorageError

logger = logging.getLogger(__name__)

_ZIP: Final = "application/zip"
_NOT_READ: Final = "cannot be read from the store"

_MAX_SECONDS: Final = 600.0
"""How long a client may take to read a zip: the largest part, 16 MiB, at 30 KB/s."""


async def _get(request: Request) -> Response:
    organization_id = organization_of(request)
    context = context_of(request)
    recording = await read_recording(
        context.waiting_redis, organization_id, request.path_params["recording_id"]
    )
    here, elsewhere = await run_in_threadpool(_parts, context, recording.id)
    if not here and not elsewhere:
        raise NotFoundError(_why_none(recording))
    headers = {
        "Content-Disposition": f'attachment; filename="evidence-{recording.id}.zip"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    if request.method == "HEAD":
        return StreamingResponse(iter(()), headers=headers, media_type=_ZIP)
    entries = _entries(context, recording.id, here, elsewhere)
    return _ZipResponse(entries, context.evidence_downloads.taken(organization_id), headers)


class _ZipResponse(Response):
    """A zip that is compressed while it is sent; it holds its download slot until the response ends."""

    def __init__(
        self, entries: Generator[Entry], slot: AbstractAsyncContextManager[None], headers: Mapping[str, str]
    ) -> None:
        self._entries = entries
        self._slot = slot
        self._zip_headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A client that reads too slowly gets an incomplete zip.
        async with self._slot:
            with anyio.move_on_after(_MAX_SECONDS), closing(self._entries):
                # The first entry is read before the response starts, so that a complete failure is an error.
                first = await run_in_threadpool(next, self._entries)
                with closing(zip_pieces(chain([first], self._entries))) as pieces:
                    response = StreamingResponse(pieces, headers=self._zip_headers, media_type=_ZIP)
                    await response(scope, receive, send)


def _parts(context: Context, recording_id: UUID) -> tuple[dict[str, Path], list[str]]:
    """The files in this machine's data directory by name, and the parts that only the store has."""
    directory = evidence_dir(context.settings, str(recording_id))
    here = evidence_files(directory)
    uploaded = read_uploaded(directory) if here else None
    parts = StoredEvidence(context.redis, context.store).parts(recording_id)
    return here, [part for part in parts if uploaded is None or part != uploaded.part]


def _entries(
    context: Context, recording_id: UUID, here: dict[str, Path], elsewhere: list[str]
) -> Generator[Entry]:
    """The entries of the zip; the parts in the store are fetched one at a time.

    Raises NotFoundError or StoreUnavailableError if there are none.
    """
    is_one = bool(here) + len(elsewhere) == 1
    for name, path in here.items():
        yield entry_of_file(name if is_one else f"here/{name}", path)
    is_empty, missing = not here, []
    for part in elsewhere:
        with ExitStack() as opened:
            try:
                file = opened.enter_context(_fetched(context, recording_id, part))
                entries = entries_of_zip(file, "" if is_one else part)
            except (StorageError, OSError, zipfile.BadZipFile) as error:
                if isinstance(error, StorageError) and error.reason == "not_found":
                    continue  # it is just being uploaded, or was deleted
                logger.error("evidence %s of recording %s: %s", part, recording_id, error)
                missing.append(part)
                continue
            is_empty = is_empty and not entries
            yield from entries
    if is_empty:
        raise _none_now(recording_id, is_refused=bool(missing))
    if missing:
        yield entry_of_text("missing.txt", "".join(f"{_NOT_READ}: {part}\n" for part in missing))


def _fetched(context: Context, recording_id: UUID, part: str) -> BinaryIO:
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / part
        StoredEvidence(context.redis, context.store).fetch(recording_id, part, copy)
        return copy.open("rb")  # it stays readable after its name is deleted


def _none_now(recording_id: UUID, *, is_refused: bool) -> FarmError:
    if not is_refused:
        return NotFoundError(
            f"the evidence of recording {recording_id} is being uploaded or deleted; try again later"
        )
    return StoreUnavailableError(
        f"cannot read the evidence of recording {recording_id} from the store; try again later"
    )


def _why_none(recording: Recording) -> str:
    if recording.node is None:
        return f"there is no evidence of recording {recording.id}: no node has started it"
    if recording.status in ACTIVE:
        return (
            f"recording {recording.id} is running on the node {recording.node}; "
            "its evidence is available after its first fault, and when it has ended"
        )
    return (
        f"there is no evidence of recording {recording.id} in the store: "
        f"the node {recording.node} has not uploaded it yet, or it has expired"
    )


evidence_operations: Final = (
    Operation(
        "get_evidence",
        "GET",
        "/recordings/{recording_id}/evidence",
        _get,
        "A zip of a recording's log and the evidence of each of its faults",
        "recordings",
        errors=(404, 503),
        media_types=(_ZIP,),
    ),
)
