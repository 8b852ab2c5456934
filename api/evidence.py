"""The evidence of a recording as a zip: its log, and what there was to see at each fault.

The files lie on the node that recorded, in its data directory. They tell of the machine what its operator may
know; the zip is for the client, so directories and what the kernel was started with are left out.
"""

import io
import os
import re
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.auth import organization_of
from api.context import context_of
from api.operations import Operation
from farm.errors import NotFound
from farm.evidence import FILES, RECORDER_LOG, SCREENSHOT, fault_directories
from farm.records import read_recording
from farm.spool import evidence_dir

if TYPE_CHECKING:  # Python has it from 3.12 on
    from typing_extensions import Buffer

_PIECE: Final = 1 << 16
_MOST_BYTES: Final = 64 << 20
"""So much of the end of a file, which keeps the zip in its plain format (below 2 GiB a file)."""

_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can tell."""

_DIRECTORIES: Final = re.compile(rb"(?<![\w./-])/(?:[\w.+@~-]+/)+")
_OF_THE_MACHINE: Final = re.compile(rb"(Current Operating System|Kernel command line):.*")
"""Lines of the X server's log."""


async def _get(request: Request) -> Response:
    organization_id = organization_of(request)
    context = context_of(request)
    recording = await read_recording(
        context.waiting_redis, organization_id, request.path_params["recording_id"]
    )
    files = await run_in_threadpool(_files, evidence_dir(context.settings, str(recording.id)))
    if not files:
        raise NotFound(
            f"there is no evidence of recording {recording.id} here; it stays on the node that recorded, and "
            "only an API with the same data directory can show it"
        )
    headers = {
        "Content-Disposition": f'attachment; filename="evidence-{recording.id}.zip"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    pieces = iter(()) if request.method == "HEAD" else zip_pieces(files)
    return StreamingResponse(pieces, headers=headers, media_type="application/zip")


def _files(directory: Path) -> dict[str, Path]:
    """The files there are, by their names in the zip, of which none comes from outside."""
    faults = fault_directories(directory)
    named = {RECORDER_LOG: directory / RECORDER_LOG} | {
        f"{place.name}/{name}": place / name for place in faults for name in FILES
    }
    return {name: file for name, file in named.items() if file.is_file()}


def zip_pieces(files: dict[str, Path]) -> Iterator[bytes]:
    """A zip of files as it is made, without the machine's directories in its texts; in bounded memory."""
    made = _Made()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            try:
                file = path.open("rb")
            except OSError:  # deleted meanwhile
                continue
            with file:
                about = zipfile.ZipInfo(name, _changed(file))
                about.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(about, "w") as entry:
                    for piece in _pieces_of(file, as_it_is=path.name == SCREENSHOT):
                        entry.write(piece)
                        if made.size >= _PIECE:
                            yield made.taken()
    yield made.taken()


class _Made(io.RawIOBase):
    """Where a zip is written to: it keeps what has been written until it is taken."""

    def __init__(self) -> None:
        self._kept = bytearray()

    @property
    def size(self) -> int:
        return len(self._kept)

    def writable(self) -> bool:
        return True

    def write(self, piece: "Buffer") -> int:
        before = len(self._kept)
        self._kept += piece
        return len(self._kept) - before

    def taken(self) -> bytes:
        taken, self._kept = bytes(self._kept), bytearray()
        return taken


def _changed(file: BinaryIO) -> tuple[int, int, int, int, int, int]:
    changed = time.gmtime(os.fstat(file.fileno()).st_mtime)
    return max(_EARLIEST, (changed.tm_year, *changed[1:6]))


def _pieces_of(file: BinaryIO, *, as_it_is: bool) -> Iterator[bytes]:
    """The file as it is when it is opened; another process may be writing to it."""
    size = file.seek(0, os.SEEK_END)
    left = min(size, _MOST_BYTES)
    file.seek(size - left)
    read = file.read if as_it_is else file.readline
    while piece := read(min(_PIECE, left)):
        left -= len(piece)
        yield piece if as_it_is else without_the_machine(piece)


def without_the_machine(line: bytes) -> bytes:
    """A line of a log without the directories that lead to files, and without what is said of the machine."""
    return _OF_THE_MACHINE.sub(rb"\1: ...", _DIRECTORIES.sub(b".../", line))


evidence_operations: Final = (
    Operation(
        "get_evidence",
        "GET",
        "/recordings/{recording_id}/evidence",
        _get,
        "A zip of a recording's log and of what there was to see at each of its faults",
        "recordings",
        errors=(404,),
        media_types=("application/zip",),
    ),
)
