"""The outbox: a recording's finished files on the node that made them, until they are where they are to be.

It lies in the recording's spool. The manifest is written last, so an outbox with one is complete.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final

from pydantic import JsonValue

from encoder.media.probe import Media
from farm.recording.model import FileKind, FinishedFile, Recording, stop_reason_of
from farm.spool.spool import TEXTS, Spool
from farm.storage.backend import Checkpoint, Placed
from farm.storage.content_types import content_type

MANIFEST_SUFFIX: Final = ".json"

_DIRECTORY: Final = "out"
_FROM_STORE: Final = ".from-store"

_COPIES_OF_INTERACTIVE: Final = 3
"""Of an interactive recording its cut makes the film, its segments, and the archive of these."""


@dataclass(frozen=True)
class Outbox:
    """The finished files of one recording in `directory`."""

    directory: Path

    @classmethod
    def of(cls, spool: Spool) -> "Outbox":
        """That of the recording in a spool."""
        return cls.below(spool.directory)

    @classmethod
    def below(cls, directory: Path) -> "Outbox":
        """The same by the directory of the spool."""
        return cls(directory / _DIRECTORY)

    def make(self) -> None:
        """Make the directory, which only this user may enter."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path_of(self, file: FinishedFile) -> Path:
        """Where a file lies, if it is there."""
        return self.directory / file.name

    def checkpoint(self, target: str, file: FinishedFile) -> Checkpoint:
        """What the upload of a file to a target remembers."""
        return Checkpoint(self.directory / f".{target}.{file.kind}.checkpoint")

    def arrival(self, target: str, file: FinishedFile) -> Placed | None:
        """Where a file has arrived already, of a transfer whose other files have not; None if it has not."""
        try:
            location, _, note = self._arrival(target, file).read_text().partition("\n")
        except FileNotFoundError:
            return None
        return Placed(location, file.size, note or None)

    def note_arrival(self, target: str, file: FinishedFile, placed: Placed) -> None:
        """Remember that a file has arrived."""
        self._arrival(target, file).write_text(f"{placed.location}\n{placed.note or ''}")

    def forget_arrivals(self, target: str) -> None:
        """Forget what has arrived at a target."""
        for file in self.directory.glob(f".{target}.*.arrived"):
            file.unlink(missing_ok=True)

    def _arrival(self, target: str, file: FinishedFile) -> Path:
        return self.directory / f".{target}.{file.kind}.arrived"

    @contextmanager
    def claimed(self, what: str) -> Iterator[bool]:
        """Claim one piece of the work on the files for this process; false if another one has it.

        The kernel gives the claim back when the process dies, whatever killed it.
        """
        self.make()
        with (self.directory / f".{what}.lock").open("w") as file:
            try:
                flock(file, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Be the only process that brings files back here from the store, after waiting for any other one."""
        with (self.directory / ".fetch.lock").open("w") as file:
            flock(file, LOCK_EX)
            (self.directory / _FROM_STORE).touch()
            yield

    def is_from_store(self) -> bool:
        """Whether the files here were brought back from the store."""
        return (self.directory / _FROM_STORE).exists()


def describe(path: Path, kind: FileKind) -> FinishedFile:
    """A finished file with its size and checksum."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FinishedFile(kind=kind, name=path.name, size=path.stat().st_size, sha256=digest)


def write_manifest(
    outbox: Outbox,
    recording: Recording,
    files: Sequence[tuple[FinishedFile, Media]],
    quality: dict[str, JsonValue],
) -> None:
    """Write what is in `files` beside them; it is there whole or not at all, also after a power cut."""
    path = manifest_path(outbox, recording)
    draft = path.with_name(f".{path.name}.partial")
    with draft.open("w") as file:
        json.dump(_manifest(recording, files, quality), file, ensure_ascii=False, indent=2)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@dataclass(frozen=True)
class Finished:
    """What a manifest tells: the files with itself at the end, how long they are, and what was measured."""

    files: list[FinishedFile]
    duration_us: int
    quality: dict[str, JsonValue]


def read_manifest(outbox: Outbox, recording: Recording) -> Finished | None:
    """What an earlier try has finished; None if it did not come so far.

    The takes may be gone by then, so this is all there is when Redis has lost what it was told.
    """
    path = manifest_path(outbox, recording)
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    files = [
        FinishedFile(
            kind=FileKind(file.get("kind") or file["content_type"].split("/")[0]),
            name=file["name"],
            size=file["bytes"],
            sha256=file["sha256"],
        )
        for file in manifest["files"]
    ]
    files.append(describe(path, FileKind.MANIFEST))
    return Finished(files, manifest["files"][0]["duration_us"], manifest["quality"])


def manifest_path(outbox: Outbox, recording: Recording) -> Path:
    """Where the manifest lies, if it is there."""
    return outbox.directory / Path(recording.output_file_name).with_suffix(MANIFEST_SUFFIX).name


def _manifest(
    recording: Recording, files: Sequence[tuple[FinishedFile, Media]], quality: dict[str, JsonValue]
) -> dict[str, Any]:
    told = {
        "id",
        "organization_id",
        "meeting_id",
        "invoked_time",
        "started_time",
        "stopped_time",
        "stop_reason",
    }
    shown = recording.model_copy(update={"stop_reason": stop_reason_of(recording)})
    return {
        "version": 1,
        "recording": shown.model_dump(mode="json", include=told, exclude_none=True),
        "timeline": [entry.model_dump(mode="json", exclude_none=True) for entry in recording.timeline],
        "quality": quality,
        "files": [_described(file, media) for file, media in files],
    }


def _described(file: FinishedFile, media: Media) -> dict[str, Any]:
    return {
        "kind": file.kind,
        "name": file.name,
        "content_type": content_type(file.name),
        "bytes": file.size,
        "sha256": file.sha256,
        "duration_us": media.duration_us,
        "streams": [
            {name: value for name, value in vars(stream).items() if value is not None}
            for stream in media.streams
        ],
    }


def room_for_cuts(spool_dir: Path) -> int:
    """Bytes that the cuts of all takes below `spool_dir` have still to write beside them.

    The takes of a recording are removed when its cut is done, so until then there are two copies of it.
    """
    return sum(_room_for_cut(directory) for directory in spool_dir.glob("*-*-*-*-*"))


def _room_for_cut(spool_directory: Path) -> int:
    takes = _bytes_of(spool_directory.glob("take-*"))
    if not takes:
        return 0
    copies = _COPIES_OF_INTERACTIVE if (spool_directory / TEXTS).exists() else 1
    return max(0, copies * takes - _bytes_of(Outbox.below(spool_directory).directory.rglob("*")))


def _bytes_of(files: Iterable[Path]) -> int:
    total = 0
    for file in files:
        with suppress(FileNotFoundError):  # it was removed just now
            status = file.stat()
            total += status.st_size if S_ISREG(status.st_mode) else 0
    return total


def remove_takes(spool: Spool) -> None:
    """Delete the takes, of which the finished files are made; what cannot be deleted goes with the spool."""
    for file in spool.directory.glob("take-*"):
        with suppress(OSError):
            file.unlink()
