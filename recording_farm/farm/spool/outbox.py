"""The outbox: a recording's finished files on the node that made them, until all uploads are done.

It is a directory in the recording's spool. The manifest is written last, so an outbox with one is complete.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Final

from recording_farm.encoder.atomic_file import write_file
from recording_farm.farm.recording.model import FileKind, FinishedFile
from recording_farm.farm.spool.spool import Spool
from recording_farm.farm.storage.backend import Checkpoint, StoredObject

_DIRECTORY: Final = "out"
_FROM_STORE: Final = ".from-store"


@dataclass(frozen=True)
class Outbox:
    """The finished files of one recording in `directory`."""

    directory: Path

    @classmethod
    def of(cls, spool: Spool) -> "Outbox":
        """The outbox of a spool."""
        return cls.below(spool.directory)

    @classmethod
    def below(cls, directory: Path) -> "Outbox":
        """The outbox of a spool's directory."""
        return cls(directory / _DIRECTORY)

    def make(self) -> None:
        """Create the directory, accessible only to this user."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path_of(self, file: FinishedFile) -> Path:
        """The path of a file, which may not exist."""
        return self.directory / file.name

    def checkpoint(self, target: str, file: FinishedFile) -> Checkpoint:
        """The checkpoint of the upload of a file to a target."""
        return Checkpoint(self.directory / f".{target}.{file.kind}.checkpoint")

    def arrival(self, target: str, file: FinishedFile) -> StoredObject | None:
        """The location of a file that an unfinished transfer has already uploaded; None otherwise."""
        try:
            location, _, note = self._arrival(target, file.kind).read_text().partition("\n")
        except FileNotFoundError:
            return None
        return StoredObject(location, file.size, note or None)

    def note_arrival(self, target: str, kind: FileKind, placed: StoredObject) -> None:
        """Record that a file of this kind has been uploaded."""
        write_file(self._arrival(target, kind), f"{placed.location}\n{placed.note or ''}")

    def forget_arrivals(self, target: str) -> None:
        """Delete the record of uploads to a target."""
        for file in self.directory.glob(f".{target}.*.arrived"):
            file.unlink(missing_ok=True)

    def _arrival(self, target: str, kind: FileKind) -> Path:
        return self.directory / f".{target}.{kind}.arrived"

    @contextmanager
    def claimed(self, what: str) -> Iterator[bool]:
        """Lock one task on the files for this process; yields false if another process holds it.

        The kernel releases the lock when the process dies.
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
    def claimed_in_turn(self, what: str) -> Iterator[None]:
        """The same, but wait until no other process holds it."""
        self.make()
        with (self.directory / f".{what}.lock").open("w") as file:
            flock(file, LOCK_EX)
            yield

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Hold the lock for downloading files from the store; waits for other processes."""
        with (self.directory / ".fetch.lock").open("w") as file:
            flock(file, LOCK_EX)
            (self.directory / _FROM_STORE).touch()
            yield

    def is_from_store(self) -> bool:
        """Whether the files were downloaded from the store."""
        return (self.directory / _FROM_STORE).exists()


def remove_takes(spool: Spool) -> None:
    """Delete the takes after the cut; any that cannot be deleted now go with the spool."""
    for file in spool.directory.glob("take-*"):
        with suppress(OSError):
            file.unlink()
