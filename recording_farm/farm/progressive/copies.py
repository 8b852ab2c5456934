"""How far each copy of a recording is behind it, from the files of its spool.

The state of the cut says how much is cut, the journals of the takes say how much is recorded, and the
receipts (`farm.progressive.sent_parts`) say how much a storage has. So cutting and uploading report nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recording_farm.encoder.cut.cut_progress import CutProgress, read_cut_progress, time_in_body
from recording_farm.encoder.journal import read_journal
from recording_farm.farm.progressive.following import cut_directory, cut_result, is_being_finished
from recording_farm.farm.progressive.sent_parts import read_ahead, version_of_ahead
from recording_farm.farm.recording.copies import Copy
from recording_farm.farm.recording.formats import format_of
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.record_copy import saved_record
from recording_farm.farm.spool.spool import Spool

LATE_PARTS: Final = 3
LATE_SECONDS: Final = 300
"""A copy has fallen behind when it is `LATE_SECONDS` behind, and either `LATE_PARTS` whole parts wait or
`LATE_SECONDS` are not cut. Normal are less than one part, less than two before the first one is sent, and a
cut 14 s behind the recorder."""


@dataclass(frozen=True)
class Made:
    """State of a recording: `body_bytes` are cut, up to the time `cut_us`; another `uncut_us` are
    recorded."""

    body_bytes: int = 0
    cut_us: int = 0
    uncut_us: int = 0


@dataclass(frozen=True)
class Arrived:
    """What a storage has of the body `identity`: `size` bytes, up to the offset `end`."""

    identity: str = ""
    size: int = 0
    end: int = 0


def copy_in_parts(made: Made, arrived: Arrived, arrived_us: int, part_bytes: int) -> Copy:
    """Progress of a copy that is uploaded in parts of `part_bytes`, and is complete up to `arrived_us`."""
    behind_us = made.uncut_us + max(0, made.cut_us - arrived_us)
    waiting = made.body_bytes - arrived.end
    is_late = waiting >= LATE_PARTS * part_bytes or made.uncut_us >= LATE_SECONDS * 1_000_000
    return Copy(
        uploaded_bytes=arrived.size,
        behind_seconds=round(behind_us / 1e6, 1),
        in_parts=True,
        has_fallen_behind=is_late and behind_us >= LATE_SECONDS * 1_000_000,
    )


def whole_copy(made: Made) -> Copy:
    """Progress of a copy that is uploaded as a whole, after the end of its recording."""
    return Copy(uploaded_bytes=0, behind_seconds=round((made.cut_us + made.uncut_us) / 1e6, 1))


class CopiesOfSpool:
    """The copies of the recording in one spool."""

    def __init__(self, directory: Path) -> None:
        """Nothing is read yet."""
        self._directory = directory
        self._recording: Recording | None = None
        self._arrived: dict[str, tuple[tuple[int, int], Arrived]] = {}
        self._last: dict[str, Copy] = {}

    def look(self, parts: Mapping[str, int] | None, at_hand: str | None) -> dict[str, Copy]:
        """Their progress now, by target; or the last known one, if it cannot be read any more.

        `parts` has the part sizes of the targets that take parts, None while unknown. `at_hand` is a target
        to which nothing is uploaded.
        """
        if self._recording is None:
            saved = saved_record(self._directory)
            if saved is None:
                return {}
            self._recording = saved[0]
        spool = Spool(self._directory, format_of(self._recording))
        targets = [transfer.target for transfer in self._recording.transfers]
        if is_being_finished(spool):
            found = self._ended(spool, targets)
        else:
            found = {} if parts is None else self._growing(spool, targets, parts, at_hand)
        self._last = self._last | found
        return self._last

    def _growing(
        self, spool: Spool, targets: Sequence[str], parts: Mapping[str, int], at_hand: str | None
    ) -> dict[str, Copy]:
        outbox = Outbox.of(spool)
        progress = read_cut_progress(cut_directory(outbox), spool.format)
        made = made_of(spool, progress)
        found = {}
        for target in targets:
            if target in parts:
                arrived = self._arrived_at(outbox, target, progress.identity if progress else "")
                arrived_us = _time_of(spool, outbox, arrived)
                found[target] = copy_in_parts(made, arrived, arrived_us, parts[target])
            else:
                found[target] = Copy() if target == at_hand else whole_copy(made)
        return found

    def _ended(self, spool: Spool, targets: Sequence[str]) -> dict[str, Copy]:
        """The copies of a finished file whose rest is uploaded in parts."""
        outbox = Outbox.of(spool)
        result = cut_result(outbox)
        if result is None or not result.body_bytes:
            return {}
        found = {}
        for target in targets:
            arrived = self._arrived_at(outbox, target, result.identity)
            if arrived.end:
                rest_us = result.duration_us * max(0.0, 1 - arrived.end / result.body_bytes)
                found[target] = Copy(
                    uploaded_bytes=arrived.size, behind_seconds=round(rest_us / 1e6, 1), in_parts=True
                )
        return found

    def _arrived_at(self, outbox: Outbox, target: str, identity: str) -> Arrived:
        """The part of a body that a target has. Receipts of hours are long, so they are read once for each
        part."""
        version = version_of_ahead(outbox, target)
        if version is None:
            return Arrived()
        before = self._arrived.get(target)
        if before is None or before[0] != version:
            ahead = read_ahead(outbox, target)
            if ahead is None:
                return Arrived()
            before = version, Arrived(ahead.identity, ahead.body_bytes, ahead.end)
            self._arrived[target] = before
        return before[1] if before[1].identity == identity else Arrived()


def made_of(spool: Spool, progress: CutProgress | None) -> Made:
    """How much is recorded and cut. Takes of another node count as far as they are cut."""
    first = 0 if progress is None else progress.take
    journals = [
        journal
        for number in spool.numbers()
        if number >= first and (journal := read_journal(spool.media(number).with_suffix(".json")))
    ]
    recorded_us = sum(map(spool.recorded_us, journals))
    if progress is None:
        return Made(uncut_us=recorded_us)
    joined_us = progress.end_us - progress.take_start_us
    return Made(progress.body_bytes, progress.end_us, max(0, recorded_us - joined_us))


def _time_of(spool: Spool, outbox: Outbox, arrived: Arrived) -> int:
    try:
        return time_in_body(cut_directory(outbox), spool.format, arrived.end) if arrived.end else 0
    except OSError:
        # The cut has just been finished or restarted.
        return 0
