"""The outbox: a recording's finished files on the node that made them, until they are where they are to be.

It lies in the recording's spool. The manifest is written last, so an outbox with one is complete.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Final

from recording_farm.encoder.atomic_file import write_file
from recording_farm.farm.recording.model import FinishedFile
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

    def arrival(self, target: str, file: FinishedFile) -> StoredObject | None:
        """Where a file has arrived already, of a transfer whose other files have not; None if it has not."""
        try:
            location, _, note = self._arrival(target, file).read_text().partition("\n")
        except FileNotFoundError:
            return None
        return StoredObject(location, file.size, note or None)

    def note_arrival(self, target: str, file: FinishedFile, placed: StoredObject) -> None:
        """Remember that a file has arrived."""
        write_file(self._arrival(target, file), f"{placed.location}\n{placed.note or ''}")

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


def remove_takes(spool: Spool) -> None:
    """Delete the takes, of which the finished files are made; what cannot be deleted goes with the spool."""
    for file in spool.directory.glob("take-*"):
        with suppress(OSError):
            file.unlink()
