"""Decides which bytes of a spool its replica needs, so that another node can continue the cut and its
uploads.

They are the ends of the takes that are not in the saved state of the cut, the ranges of the body that are not
in the store in parts, and all small files. Files that only grow are replicated by ranges.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from recording_farm.encoder.atomic_file import write_file
from recording_farm.encoder.journal import read_journal
from recording_farm.encoder.media.take_tail import introduction_size
from recording_farm.encoder.mux.body import BODY_NAME, CHECKSUMS_NAME, LOG_NAME
from recording_farm.encoder.mux.checksums import ROW_BYTES
from recording_farm.encoder.mux.samples import ENTRY
from recording_farm.farm.progressive.sent_parts import (
    Ahead,
    file_of_ahead,
    parsed_ahead,
    targets_ahead,
)
from recording_farm.farm.recording.findings import TALLY_PATTERN
from recording_farm.farm.recording.transfers import STORE
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import Spool

CUT: Final = "out/.cut"

_LONGEST_FRAGMENT_US: Final = 5_000_000
"""Longer than any fragment or cluster. A tail begins that long before the first frame that is needed."""

_MOST_TAIL: Final = 64 << 20
"""The longest tail. Without the marks of a process before it, a process that starts in the middle of a take
knows after some seconds where the tail begins."""

_MARKS: Final = ".marks.json"

Interval = tuple[int, int]


@dataclass(frozen=True)
class Grown:
    """The needed intervals of a file that only grows; `identity` changes when the file is restarted."""

    identity: object
    intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class Contents:
    """The needed bytes of a spool's files, by their paths in the spool."""

    grown: Mapping[str, Grown] = field(default_factory=dict)
    whole: Mapping[str, bytes] = field(default_factory=dict)


@dataclass
class TakeMarks:
    """Sizes of a take's file at times of the take (µs): the bytes before are older than that."""

    inode: int
    sizes: list[tuple[int, int]] = field(default_factory=list)
    last_size: int = 0
    last_time_us: int = 0

    def note(self, size: int, time_us: int) -> None:
        """Add a mark. A file that does not grow gets none: it may come from another machine."""
        if self.last_size and size > self.last_size:
            if not self.sizes:
                self.sizes.append((self.last_size, self.last_time_us))
            self.sizes.append((size, time_us))
        self.last_size, self.last_time_us = size, time_us

    def size_before(self, time_us: int) -> int:
        """The size that the file had before a time; earlier marks are forgotten."""
        while len(self.sizes) > 1 and self.sizes[1][1] <= time_us:
            del self.sizes[0]
        return self.sizes[0][0] if self.sizes and self.sizes[0][1] <= time_us else 0


class SpoolContents:
    """Looks at the spool of a running recording."""

    def __init__(self, spool: Spool) -> None:
        """Begin with the marks of a process that looked before, and died."""
        self._spool = spool
        self._outbox = Outbox.of(spool)
        self._marks = _read_marks(self._outbox.directory / _MARKS)
        self._had_state = False
        self._receipts_of_store: bytes | None = None
        self._ahead: Ahead | None = None

    def look(self) -> Contents:
        """The bytes that are needed now. Raises OSError, also when a file was just replaced."""
        # The receipts first, so that the state is at least as far as they are.
        whole = dict(self._receipts())
        ahead = self._sent(whole.get(f"{self._outbox.directory.name}/.{STORE}.ahead"))
        state, saved = self._state()
        grown = dict(self._takes(saved))
        if saved:
            whole[f"{CUT}/state"] = state
            whole[f"{CUT}/streams"] = (self._spool.directory / CUT / "streams").read_bytes()
            grown |= self._cut(saved, ahead)
        whole |= self._small()
        grown |= self._texts()
        return Contents(grown, whole)

    def _receipts(self) -> Iterator[tuple[str, bytes]]:
        # Without those of exports, which the other node starts again.
        for target in targets_ahead(self._outbox):
            file = file_of_ahead(self._outbox, target)
            yield f"{self._outbox.directory.name}/{file.name}", file.read_bytes()

    def _sent(self, receipts: bytes | None) -> Ahead | None:
        """The upload to the store, by the receipts that are replicated; they are parsed again only after a
        change."""
        if receipts != self._receipts_of_store:
            self._receipts_of_store = receipts
            self._ahead = None if receipts is None else parsed_ahead(receipts)
        return self._ahead

    def _state(self) -> tuple[bytes, Mapping[str, Any]]:
        """The saved state of the cut, as bytes and parsed."""
        try:
            content = (self._spool.directory / CUT / "state").read_bytes()
            self._had_state = True
            return content, json.loads(content)
        except FileNotFoundError:
            if self._had_state:
                raise  # the file is being finished
            return b"", {}
        except ValueError:
            return b"", {}

    def _cut(self, saved: Mapping[str, Any], ahead: Ahead | None) -> Iterator[tuple[str, Grown]]:
        identity, body_size = saved["identity"], int(saved["body"])
        body: tuple[Interval, ...] = ((0, body_size),)
        if ahead is not None and ahead.identity == identity and ahead.parts:
            # The bytes that are held back for the first part, and those behind the parts.
            body = ((0, ahead.held_back), (ahead.end, body_size))
        yield f"{CUT}/{BODY_NAME}", Grown(identity, body)
        yield f"{CUT}/{LOG_NAME}", Grown(identity, ((0, int(saved["samples"]) * ENTRY.itemsize),))
        rows = int(saved["checksums"]["rows"])
        yield f"{CUT}/{CHECKSUMS_NAME}", Grown(identity, ((0, rows * ROW_BYTES),))

    def _takes(self, saved: Mapping[str, Any]) -> Iterator[tuple[str, Grown]]:
        place = saved["join"]["take"] if saved else None
        for number in sorted(self._spool.numbers()):
            file = self._spool.media(number)
            is_joined = place is not None and place["number"] is not None and number < place["number"]
            if is_joined or not file.exists():
                self._marks.pop(file.name, None)
                continue
            status = file.stat()
            marks = self._marks.get(file.name)
            if marks is None or marks.inode != status.st_ino:
                # A take that is discarded or restored becomes another file.
                marks = self._marks[file.name] = TakeMarks(status.st_ino)
            journal = read_journal(file.with_suffix(".json"))
            if journal is not None:
                # After the look at the size, so nothing in the file is later than this time.
                marks.note(status.st_size, journal.time_of(time.monotonic_ns() // 1000))
            begin = 0
            if place is not None and place["number"] == number:
                begin = marks.size_before(_written_until(place) - _LONGEST_FRAGMENT_US)
                if status.st_size - begin > _MOST_TAIL and not marks.sizes:
                    raise OSError(f"the needed end of {file.name} is not known yet")
            introduction = introduction_size(file)
            if not introduction or begin <= introduction:
                yield file.name, Grown(status.st_ino, ((0, status.st_size),))
            else:
                yield file.name, Grown(status.st_ino, ((0, introduction), (begin, status.st_size)))
        content = json.dumps({name: asdict(marks) for name, marks in self._marks.items()})
        write_file(self._outbox.directory / _MARKS, content, durable=False)

    def _small(self) -> Iterator[tuple[str, bytes]]:
        directory = self._spool.directory
        for file in [
            *directory.glob("take-[0-9]*.json"),
            *directory.glob(TALLY_PATTERN),
            *self._spool.before.glob("*"),
            *directory.glob(self._spool.texts_over.name),
        ]:
            yield file.relative_to(directory).as_posix(), file.read_bytes()

    def _texts(self) -> Iterator[tuple[str, Grown]]:
        if self._spool.texts.exists():
            status = self._spool.texts.stat()
            yield self._spool.texts.name, Grown(status.st_ino, ((0, status.st_size),))


def _read_marks(file: Path) -> dict[str, TakeMarks]:
    try:
        saved = json.loads(file.read_bytes())
        return {
            name: TakeMarks(int(each["inode"]), [(int(size), int(us)) for size, us in each["sizes"]])
            for name, each in saved.items()
        }
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _written_until(place: Mapping[str, Any]) -> int:
    """The time of a take (µs) up to which all of it is in the body."""
    untils = [place["video_until"], place["audio_until"]]
    known = [until for until in untils if until is not None]
    # An audio recording has no frames, and a damaged one may have no audio.
    return min(known, default=-1)
