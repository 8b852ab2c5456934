"""The spool of a node: takes of unfinished recordings, a directory for each recording."""

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
from recording_farm.encoder.cut.cut import cut
from recording_farm.encoder.cut.growing_cut import CutFile
from recording_farm.encoder.cut.joiner import TakeMedia
from recording_farm.encoder.formats import Format
from recording_farm.encoder.journal import Journal, read_journal
from recording_farm.encoder.live.hls import TimedText, parse_timed_texts, read_timed_texts
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
"""Pattern of the names of spool directories, which are recording ids."""


class SpoolHeldError(FarmError):
    """Another process records into the spool."""


@dataclass(frozen=True)
class Spool:
    """The takes of one recording, and their format."""

    directory: Path
    format: Format

    @property
    def texts(self) -> Path:
        """The timed texts of the page, one per line; exists only for interactive recordings."""
        return self.directory / TEXTS

    @property
    def texts_over(self) -> Path:
        """Marker: the page has finished its timed texts."""
        return self.directory / "texts.over"

    @property
    def before(self) -> Path:
        """Directory of the timed texts that earlier nodes kept."""
        return self.directory / "before"

    def all_texts(self) -> list[TimedText]:
        """The timed texts of the page, also those that earlier nodes kept."""
        # A node that has a recording again has its own texts from before, too.
        return list(dict.fromkeys([*read_timed_texts(self.before / TEXTS), *read_timed_texts(self.texts)]))

    def texts_from(self, offset: int) -> tuple[list[TimedText], int]:
        """The timed texts from a byte of the file on, and where to read on."""
        try:
            with self.texts.open("rb") as file:
                file.seek(offset)
                data = file.read()
        except FileNotFoundError:
            return [], offset
        whole = data[: data.rfind(b"\n") + 1]
        return parse_timed_texts(whole.decode(errors="replace")), offset + len(whole)

    def make(self) -> None:
        """Create the directory, accessible only to this user."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def begin_texts(self) -> None:
        """Create the file of timed texts, which may stay empty."""
        self.make()
        self.texts.touch()

    def takes(self) -> list[TakeMedia]:
        """The takes in order."""
        media = sorted(self.directory.glob(f"take-[0-9]*{self.format.take_suffix}"), key=_number)
        return [take_of(file) for file in media]

    def media(self, number: int) -> Path:
        """The file of a take."""
        return self.directory / f"take-{number:03d}{self.format.take_suffix}"

    def journals(self) -> list[Journal]:
        """The journals of the takes, in order; after a crash a take may have none."""
        files = sorted(self.directory.glob("take-[0-9]*.json"), key=_number)
        return [journal for file in files if (journal := read_journal(file)) is not None]

    def length_us(self, number: int) -> int | None:
        """The length of a take by the clock, in µs; None if its end is not known."""
        journal = read_journal(self.directory / f"take-{number:03d}.json")
        return None if journal is None else journal.length_us

    def numbers(self) -> set[int]:
        """The numbers of all takes that were started."""
        return {_number(file) for file in self.directory.glob("take-[0-9]*.*")}

    def next_take(self) -> int:
        """The number of the next take."""
        return max(self.numbers(), default=-1) + 1

    def recorded_us(self, journal: Journal) -> int:
        """The length of a take, in µs; for a killed take, estimated from the time of its last write."""
        if (length := journal.length_us) is not None:
            return length
        try:
            return max(0, self.media(journal.number).stat().st_mtime_ns // 1000 - journal.wall_us)
        except FileNotFoundError:
            return 0

    def cut(self, target: Path, title: str | None = None) -> CutFile:
        """Cut the takes into the file `target`, with `title` in its metadata.

        Raises NothingRecordedError when there is nothing to join, CutError when the disk fails.
        """
        if self.format.audio_only is not None:
            return cut_audio(self.takes(), target, self.format.audio_only, title)
        return cut(self.takes(), target, self.format, title)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the recorder's lock of the spool; the kernel releases it when this process dies.

        Raises SpoolHeldError when another process records into it.
        """
        with (self.directory / HOLD).open("w") as file:
            if not _lock(file.fileno()):
                raise SpoolHeldError(f"another process records into {self.directory}")
            yield

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Hold the lock that shows that live outputs follow the takes."""
        self.make()
        with (self.directory / FOLLOWED).open("w") as file:
            _lock(file.fileno())
            yield

    def is_followed(self) -> bool:
        """Whether a live recorder still has running live outputs."""
        try:
            with (self.directory / FOLLOWED).open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def is_held(self) -> bool:
        """Whether a live recorder holds the spool."""
        return _is_held(self.directory)

    def remove(self) -> None:
        """Delete the spool."""
        shutil.rmtree(self.directory, ignore_errors=True)


def _lock(descriptor: int) -> bool:
    for _ in range(LOCK_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        # `_is_held` holds the lock for some microseconds.
        time.sleep(LOCK_PAUSE)
    return False


def _is_held(directory: Path) -> bool:
    try:
        with (directory / HOLD).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        # A new spool, unless the directory is old.
        return directory.is_dir() and time.time() - directory.stat().st_mtime < MAKING_SECONDS
    except BlockingIOError:
        return True
    return False


def spools(spool_dir: Path) -> Iterator[Path]:
    """The spool directories in `spool_dir`; each is named after its recording's id."""
    return spool_dir.glob(_UUID)


def running_spools(spool_dir: Path) -> Iterator[Path]:
    """The spools in `spool_dir` that a recorder holds."""
    return (directory for directory in spools(spool_dir) if _is_held(directory))


def has_running_recording(spool_dir: Path) -> bool:
    """Whether any spool in `spool_dir` is held by a recorder."""
    return any(True for _ in running_spools(spool_dir))


def count_running_recordings(spool_dir: Path) -> int:
    """How many spools in `spool_dir` are held by a recorder."""
    return sum(_is_held(directory) for directory in spools(spool_dir))


def _number(file: Path) -> int:
    return int(file.name.removeprefix("take-").split(".")[0])


def take_of(media: Path) -> TakeMedia:
    """A take by its file, with what its journal tells."""
    journal = read_journal(media.with_suffix(".json"))
    number = _number(media)
    if journal is None:
        return TakeMedia(media, number=number)
    return TakeMedia(media, journal.lags, journal.end_us, number, Fraction(*journal.stretch), journal.wall_us)


def spool_of(recording: Recording, settings: Settings) -> Spool:
    """The spool of a recording on this node."""
    return Spool(spool_directory(settings, recording.id), format_of(recording))


def spool_directory(settings: Settings, recording_id: UUID | str) -> Path:
    """The directory of a recording's spool on this node."""
    return settings.spool_dir / str(recording_id)
