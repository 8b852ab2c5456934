"""Cuts the takes of a recording while they are recorded, some seconds behind the recorder.

The node's process `progressive` does this (`farm.progressive.node`). The job that finishes the recording
marks that the last take has ended, and waits for the file. If the process died, the job continues the cut
itself.
"""

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final, Protocol

import av
from av.container import InputContainer

from recording_farm.browser_bot.stage.compositor import CHUNK_SECONDS
from recording_farm.encoder.atomic_file import write_file
from recording_farm.encoder.cut.growing_cut import CutFile, GrowingCut, file_metadata
from recording_farm.encoder.cut.joiner import TakeJoint, TakeMedia
from recording_farm.encoder.errors import CutError, NothingRecordedError
from recording_farm.encoder.journal import read_journal
from recording_farm.encoder.media.growing_file import LOOK_SECONDS, GrowingFile
from recording_farm.encoder.media.partial_file import open_take
from recording_farm.encoder.mux.checksums import Block, BodyChecksums
from recording_farm.encoder.mux.padding import NO_PADDING, Padding
from recording_farm.farm.errors import FarmError
from recording_farm.farm.progressive.restored import (
    NOTHING_RESTORED,
    RestoredCutLostError,
    begin_restoring,
    read_restored,
)
from recording_farm.farm.progressive.sent_parts import Ahead, read_ahead, targets_ahead
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import Spool, take_of
from recording_farm.farm.storage.backends.disk import read_at

logger = logging.getLogger(__name__)

SETTLE_US: Final = round((CHUNK_SECONDS + 3) * 1_000_000)
"""Delay until everything is known about a frame: its lag comes with the next piece of the compositor's
trace."""

AUDIO_SETTLE_US: Final = 2_000_000
"""The same for audio only, which has no lag; a take may still be discarded at its start."""

CLAIM: Final = "cut"
"""The lock of an outbox that is held by the process that cuts."""


class Exporting(Protocol):
    """A thread that makes a file from the growing cut, and ends soon after the cut."""

    def is_alive(self) -> bool:
        """See `threading.Thread`."""

    def join(self, timeout: float | None = None) -> None:
        """See `threading.Thread`."""

    def stop(self) -> None:
        """Stop the thread; others make the file."""


_FOR_EVER_US: Final = 1 << 62

_DIRECTORY: Final = ".cut"
_RESULT: Final = ".cut.json"
_ENDED: Final = ".takes-ended"
_JOURNAL_SECONDS: Final = 1.0
"""Between two reads of a journal. Joining a second of frames costs less than joining them one by one."""

_OPTIONS: Final = {"analyzeduration": "0"}
"""The header of a take describes all of its streams, so nothing is read ahead."""


class StoppedError(FarmError):
    """This process must stop; another one continues the cut."""


class Following:
    """The growing cut of one recording's takes into the file `name` of its outbox."""

    def __init__(self, spool: Spool, name: str, title: str, is_stopping: Callable[[], bool]) -> None:
        """Continue the cut in the outbox. Only for the process that holds the claim `cut`. Raises OSError."""
        self._spool = spool
        self._outbox = Outbox.of(spool)
        self._target = self._outbox.directory / name
        self._title = title
        self._is_stopping = is_stopping
        self._reading = threading.Lock()
        self._is_finishing = False
        self.result: CutFile | None = None
        self.finished = threading.Event()
        """Set as soon as there is a `result`."""
        self.settle_us = SETTLE_US if spool.format.audio_only is None else AUDIO_SETTLE_US
        directory = cut_directory(self._outbox)
        self._cut = GrowingCut(directory, spool.format)
        self._restored = read_restored(self._outbox) or NOTHING_RESTORED
        if any(ahead.end > self._cut.body_size for ahead in _all_ahead(self._outbox)):
            # A power failure lost the last state: the body may now differ from the parts.
            self._cut.close()
            shutil.rmtree(directory)
            self._cut = GrowingCut(directory, spool.format)
        if self._restored.identity not in {"", self._cut.identity}:
            # Only the end of the other node's takes is here.
            self._cut.close()
            raise restore_again(self._outbox)

    @property
    def identity(self) -> str:
        """See `GrowingCut.identity`."""
        return self._cut.identity

    @property
    def body_size(self) -> int:
        """Bytes of the file's body, which never change."""
        return self._cut.body_size

    def read_body(self, offset: int, size: int) -> bytes | None:
        """Read `size` bytes of the body; None while it is too short, and once the file is being finished.

        Raises OSError.
        """
        with self._reading:
            if self._is_finishing or self._cut.body_size < offset + size:
                return None
            is_restored = self._restored.identity == self._cut.identity
            if is_restored and self._restored.has_hole(offset, offset + size):
                # Another node sent these bytes in parts. The transfer sends them elsewhere, from the store.
                return None
            with self._cut.body.open("rb", buffering=0) as file:
                return read_at(file, offset, size)

    @property
    def directory(self) -> Path:
        """The directory of the growing cut."""
        return cut_directory(self._outbox)

    @property
    def entries(self) -> int:
        """See `GrowingCut.entries`."""
        return self._cut.entries

    @property
    def joints(self) -> tuple[TakeJoint, ...]:
        """See `GrowingCut.joints`."""
        return self._cut.joints

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the file, once the first take has begun."""
        return file_metadata(self._cut.began_us, self._title)

    def read_packets(self, offset: int, size: int) -> bytes:
        """Read `size` bytes of the body, also after the file is finished. Raises OSError."""
        with self._reading:
            file, begin = self._cut.body, 0
            if self.result is not None:
                file = self.result.path
                begin = file.stat().st_size - self.result.body_bytes
            with file.open("rb", buffering=0) as content:
                return read_at(content, begin + offset, size)

    def run(self, exports: Sequence[Exporting] = ()) -> CutFile:
        """Follow the takes until they have ended, then finish the file, and wait for its exports.

        Raises StoppedError, NothingRecordedError if the takes are empty, CutError if the disk fails.
        """
        try:
            try:
                self._follow()
                with self._reading:
                    # From now on the body is moved behind a head.
                    self._is_finishing = True
                    self.result = self._cut.finish(self._target, self._title, self._padding())
            finally:
                self._cut.close()
        except (av.FFmpegError, OSError) as error:
            raise CutError(f"{self._target.name} could not be made: {error}") from error
        _save_result(self._outbox, self.result)
        self.finished.set()
        for export in exports:
            self._wait_for(export)
        shutil.rmtree(cut_directory(self._outbox), ignore_errors=True)
        return self.result

    def _wait_for(self, export: Exporting) -> None:
        while export.is_alive():
            if self._is_stopping():
                export.stop()
            export.join(LOOK_SECONDS)

    def _padding(self) -> Padding:
        """The padding of the head that the uploads in parts need."""
        found = (ahead.padding for ahead in _all_ahead(self._outbox) if ahead.identity == self.identity)
        return next((padding for padding in found if padding != NO_PADDING), NO_PADDING)

    def _follow(self) -> None:
        number = self._cut.take or 0
        while (take := self._next(number)) is not None:
            assert take.number is not None
            try:
                with self._opened(take) as source:
                    follower = _TakeFollower(self, take)
                    self._cut.add(take, source, follower.look)
            except av.FFmpegError as error:
                logger.warning("leaving out the damaged take %s: %s", take.path.name, error.strerror)
            except _DiscardedError:
                logger.info("take %d was discarded", take.number)
                continue
            number = take.number + 1

    def _next(self, number: int) -> TakeMedia | None:
        """The take `number`, or the next existing one, once it has begun; None after the last take."""
        while True:
            over = self.is_over()
            for found in self._numbers_from(number):
                take = take_of(self._spool.media(found))
                # The journal is written when a take begins.
                if over or take.began_us is not None:
                    return take
            if over:
                return None
            self.wait()

    def _numbers_from(self, number: int) -> list[int]:
        """The numbers of the takes from `number` on, without empty files."""
        return [
            each
            for each in sorted(self._spool.numbers())
            if each >= number and _size(self._spool.media(each))
        ]

    @contextmanager
    def _opened(self, take: TakeMedia) -> Iterator[InputContainer]:
        if self.has_ended(take):
            with open_take(take.path) as source:
                yield source
            return

        def is_over() -> bool:
            self._cut.save_now_and_then()
            return self._is_stopping() or self.has_ended(take)

        file = GrowingFile(take.path, is_over)
        container = "mp4" if take.path.suffix in {".mp4", ".m4a"} else "matroska"
        try:
            with av.open(file, "r", format=container, options=_OPTIONS, metadata_errors="replace") as source:
                yield source
        finally:
            file.close()

    def has_ended(self, take: TakeMedia) -> bool:
        """Whether a take is complete: the next one has begun, or all have ended."""
        assert take.number is not None
        return self.is_over() or bool(self._numbers_from(take.number + 1))

    def is_over(self) -> bool:
        """Whether the recording has no more takes."""
        return (self._outbox.directory / _ENDED).exists()

    def wait(self) -> None:
        """Wait for more of the takes. Raises StoppedError if this process must stop."""
        if self._is_stopping():
            raise StoppedError("another process continues the cut")
        self._cut.save_now_and_then()
        # Watching the files would cost more than these looks.
        time.sleep(LOOK_SECONDS)


class _DiscardedError(FarmError):
    """The recorder has discarded a take that began badly, and replaced it by another one."""


class _TakeFollower:
    """Follows one take while it is recorded."""

    def __init__(self, following: Following, take: TakeMedia) -> None:
        self._following = following
        self._take = take
        self._inode = take.path.stat().st_ino
        self._settled_us = -1
        self._due = 0.0
        self._is_kept = False

    def look(self, time_us: int) -> TakeMedia:
        """See `Look`. Raises StoppedError, _DiscardedError."""
        while not self._is_settled(time_us):
            self._following.wait()
        return self._take

    def _is_settled(self, time_us: int) -> bool:
        """Whether the take is final up to a time; reads the take's journal again when it is due."""
        if 0 <= time_us <= self._settled_us:
            return True
        is_over = self._following.is_over()
        if time.monotonic() < self._due and not is_over:
            return False
        self._due = time.monotonic() + _JOURNAL_SECONDS
        return self._recheck(time_us, is_over=is_over)

    def _recheck(self, time_us: int, *, is_over: bool) -> bool:
        if not self._is_kept:
            self._refuse_discarded()
        self._take = take_of(self._take.path)
        journal = read_journal(self._take.path.with_suffix(".json"))
        if journal is not None:
            settle_us = self._following.settle_us
            self._settled_us = journal.time_of(time.monotonic_ns() // 1000) - settle_us
            self._is_kept = self._is_kept or self._settled_us > journal.time_of(journal.monotonic_us)
        if is_over:
            # Nothing will change any more.
            self._settled_us = _FOR_EVER_US
        if is_over or 0 <= time_us <= self._settled_us:
            return True
        # Takes of another machine, or of a killed process, have no clock that still runs.
        age_us = (time.time_ns() - self._take.path.stat().st_mtime_ns) // 1000
        return age_us > self._following.settle_us and self._following.has_ended(self._take)

    def _refuse_discarded(self) -> None:
        try:
            if self._take.path.stat().st_ino == self._inode:
                return
        except FileNotFoundError:
            pass
        raise _DiscardedError(f"{self._take.path.name} was discarded")


def finish_cut(spool: Spool, name: str, title: str) -> CutFile:
    """The file `name` of all takes of a recording that has ended, in its outbox.

    Marks that there are no more takes, and waits for the process that follows them. Without such a process
    the cut is continued here. Raises NothingRecordedError if the takes are empty, CutError if the disk fails.
    """
    outbox = Outbox.of(spool)
    end_takes(outbox)
    with outbox.claimed_in_turn(CLAIM):
        if (found := cut_result(outbox)) is not None:
            return found
        growing = cut_directory(outbox)
        was_growing = growing.exists()
        try:
            return Following(spool, name, title, lambda: False).run()
        except (NothingRecordedError, RestoredCutLostError):
            raise
        except Exception as error:  # the files of another process may be damaged in any way
            if not was_growing:
                raise
            if (read_restored(outbox) or NOTHING_RESTORED).identity:
                raise restore_again(outbox) from error
            # The takes are still there, whatever is wrong with the cut.
            logger.warning("restarting the cut of %s from the beginning: %s", name, error)
            shutil.rmtree(growing, ignore_errors=True)
            return Following(spool, name, title, lambda: False).run()


def restore_again(outbox: Outbox) -> RestoredCutLostError:
    """Mark a spool to be restored again before its cut continues; returns the error to raise. Raises
    OSError."""
    begin_restoring(outbox)
    shutil.rmtree(cut_directory(outbox), ignore_errors=True)
    return RestoredCutLostError("the replica of another node must be restored again")


def end_takes(outbox: Outbox) -> None:
    """Mark that there are no more takes. Raises OSError."""
    outbox.make()
    (outbox.directory / _ENDED).touch()


def forget_cut(spool: Spool) -> None:
    """Drop the cut, so that the takes are cut again from the beginning."""
    outbox = Outbox.of(spool)
    shutil.rmtree(cut_directory(outbox), ignore_errors=True)
    (outbox.directory / _RESULT).unlink(missing_ok=True)


def cut_directory(outbox: Outbox) -> Path:
    """The directory of the growing cut, which exists until the file is finished."""
    return outbox.directory / _DIRECTORY


def is_being_finished(spool: Spool) -> bool:
    """Whether the takes of a recording have ended."""
    return (Outbox.of(spool).directory / _ENDED).exists()


def cut_result(outbox: Outbox) -> CutFile | None:
    """The finished file of the takes, if it exists."""
    try:
        fields = json.loads((outbox.directory / _RESULT).read_text())
        joints = tuple(TakeJoint(**joint) for joint in fields["joints"])
        blocks = tuple(Block(**block) for block in fields["checksums"]["blocks"])
        checksums = BodyChecksums(fields["checksums"]["crc32c"], blocks)
        path = outbox.directory / fields["path"]
        file = CutFile(**fields | {"path": path, "joints": joints, "checksums": checksums})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return file if file.path.exists() else None


def _save_result(outbox: Outbox, result: CutFile) -> None:
    fields = asdict(result) | {"path": result.path.name}
    write_file(outbox.directory / _RESULT, json.dumps(fields))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _all_ahead(outbox: Outbox) -> list[Ahead]:
    found = (read_ahead(outbox, target) for target in targets_ahead(outbox))
    return [ahead for ahead in found if ahead is not None]
