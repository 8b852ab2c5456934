"""The spool: a node's directory of the takes of recordings that are not finished, one directory for each."""

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final
from uuid import UUID

from recording_farm.encoder.cut.audio_cut import cut_audio
from recording_farm.encoder.cut.cut import CutFile, TakeMedia, cut
from recording_farm.encoder.formats import Format
from recording_farm.encoder.journal import Journal, read_journal
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.errors import FarmError
from recording_farm.farm.recording.formats import format_of
from recording_farm.farm.recording.model import Recording

HOLD = "recorder"
FOLLOWED = "followed"
TEXTS = "texts.jsonl"
LOCK_TRIES = 5
LOCK_PAUSE = 0.01
MAKING_SECONDS = 60

_UUID: Final = "*-*-*-*-*"
"""The name of a spool's directory, which is its recording's id; nothing else in there is called so."""


class SpoolHeldError(FarmError):
    """Another process records into the spool."""


@dataclass(frozen=True)
class Spool:
    """The takes of one recording, and how they are encoded."""

    directory: Path
    format: Format

    @property
    def texts(self) -> Path:
        """What the page said to be put into the file, each as a line; there only if that is wanted."""
        return self.directory / TEXTS

    @property
    def texts_over(self) -> Path:
        """Is there once the page has said that nothing more is to be put into the file."""
        return self.directory / "texts.over"

    def make(self) -> None:
        """Make the directory, which only this user may enter."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def begin_texts(self) -> None:
        """Have texts be put into the file; there may come none."""
        self.make()
        self.texts.touch()

    def takes(self) -> list[TakeMedia]:
        """The takes in their order."""
        media = sorted(self.directory.glob(f"take-[0-9]*{self.format.take_suffix}"), key=_number)
        return [_take(file) for file in media]

    def journals(self) -> list[Journal]:
        """What is known of the takes, in their order; a crash may have left one without."""
        files = sorted(self.directory.glob("take-[0-9]*.json"), key=_number)
        return [journal for file in files if (journal := read_journal(file)) is not None]

    def length_us(self, number: int) -> int | None:
        """How long the take of a number is by the clock, in µs; None if its end is not known."""
        journal = read_journal(self.directory / f"take-{number:03d}.json")
        return None if journal is None else journal.length_us

    def numbers(self) -> set[int]:
        """The numbers of all takes that were begun."""
        return {_number(file) for file in self.directory.glob("take-[0-9]*.*")}

    def next_take(self) -> int:
        """The number of the next take, behind all those that were begun."""
        return max(self.numbers(), default=-1) + 1

    def recorded_us(self, journal: Journal) -> int:
        """How long a take is, in µs; of one that was killed, by when its file was last written."""
        if (length := journal.length_us) is not None:
            return length
        media = self.directory / f"take-{journal.number:03d}{self.format.take_suffix}"
        try:
            return max(0, media.stat().st_mtime_ns // 1000 - journal.wall_us)
        except FileNotFoundError:
            return 0

    def cut(self, target: Path, title: str | None = None) -> CutFile:
        """Join the takes into the file `target`, which says that it has this `title`.

        Raises NothingRecordedError when there is nothing to join, CutError when the disk fails.
        """
        if self.format.audio_only is not None:
            return cut_audio(self.takes(), target, self.format.audio_only, title)
        return cut(self.takes(), target, self.format, title)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Mark the spool as being recorded into, for as long as this process lives at most.

        Raises SpoolHeldError when another process records into it.
        """
        with (self.directory / HOLD).open("w") as file:
            # The kernel gives the lock back when the process dies, whatever killed it.
            if not _lock(file.fileno()):
                raise SpoolHeldError(f"another process records into {self.directory}")
            yield

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Mark the spool as being followed by live outputs, for as long as this process lives at most."""
        self.make()
        with (self.directory / FOLLOWED).open("w") as file:
            _lock(file.fileno())
            yield

    def is_followed(self) -> bool:
        """Whether a living recorder has live outputs that are not at their end yet."""
        try:
            with (self.directory / FOLLOWED).open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def is_held(self) -> bool:
        """Whether a living recorder records into it."""
        return _is_held(self.directory)

    def remove(self) -> None:
        """Delete all of it."""
        shutil.rmtree(self.directory, ignore_errors=True)


def _lock(descriptor: int) -> bool:
    for _ in range(LOCK_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        # Whoever only looks whether it is held (`_is_held`) has it for some microseconds.
        time.sleep(LOCK_PAUSE)
    return False


def _is_held(directory: Path) -> bool:
    try:
        with (directory / HOLD).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        # It is just being made, unless it has been there for long.
        return directory.is_dir() and time.time() - directory.stat().st_mtime < MAKING_SECONDS
    except BlockingIOError:
        return True
    return False


def spools(spool_dir: Path) -> Iterator[Path]:
    """The directories of all spools of a node, in `spool_dir`; each is named by its recording's id."""
    return spool_dir.glob(_UUID)


def running_spools(spool_dir: Path) -> Iterator[Path]:
    """The spools that a node records into now, `spool_dir` being where all of its are."""
    return (directory for directory in spools(spool_dir) if _is_held(directory))


def has_running_recording(spool_dir: Path) -> bool:
    """Whether a node records anything now, `spool_dir` being where its spools are."""
    return any(True for _ in running_spools(spool_dir))


def count_running_recordings(spool_dir: Path) -> int:
    """How many recordings a node makes now, `spool_dir` being where its spools are."""
    return sum(_is_held(directory) for directory in spools(spool_dir))


def _number(file: Path) -> int:
    return int(file.name.removeprefix("take-").split(".")[0])


def _take(media: Path) -> TakeMedia:
    journal = read_journal(media.with_suffix(".json"))
    number = _number(media)
    if journal is None:
        return TakeMedia(media, number=number)
    return TakeMedia(media, journal.lags, journal.end_us, number, Fraction(*journal.stretch), journal.wall_us)


def spool_of(recording: Recording, settings: Settings) -> Spool:
    """Where the takes of a recording lie on this node."""
    return Spool(spool_directory(settings, recording.id), format_of(recording))


def spool_directory(settings: Settings, recording_id: UUID | str) -> Path:
    """The directory of a recording's spool on this node."""
    return settings.spool_dir / str(recording_id)
