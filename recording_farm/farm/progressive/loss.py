"""The entry `missing` of a timeline: since when, and for how long, a file lacks what a lost node recorded."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from recording_farm.encoder.journal import read_journal
from recording_farm.farm.progressive.restored import Restored, read_restored, save_restored
from recording_farm.farm.recording.model import Recording, TimelineEntry
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.timeline import last_loss, recorded_elsewhere
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import Spool

_LEAST_US: Final = 100_000
"""Less is not noted: any killed encoder loses its last fragment."""


def note_missing(spool: Spool, records: Records, recording_id: UUID, *, is_over: bool = False) -> bool:
    """Note in the timeline what is missing between what was restored and the first take of this node.

    It is noted once: when that take has begun, or when there will be none. Returns whether nothing is left to
    note. Raises NotFoundError, redis.RedisError, OSError.
    """
    outbox = Outbox.of(spool)
    restored = read_restored(outbox)
    if restored is None or restored.is_noted:
        return True
    resumed_us = _resumed(spool, restored)
    if resumed_us is None and not is_over:
        return False
    entry = missing_entry(spool, restored, records.get(None, recording_id), resumed_us)
    if entry is not None:
        records.note(recording_id, entry)
    save_restored(outbox, replace(restored, is_noted=True))
    return True


def missing_entry(
    spool: Spool, restored: Restored, recording: Recording, resumed_us: int | None
) -> TimelineEntry | None:
    """The entry; None if nothing is missing. `resumed_us` is when this node's first take began (unix, µs)."""
    if restored.last_take is None:
        why = "its replica cannot be read" if restored.unusable else "the store has no replica of it"
        return _all_missing(spool, recording, resumed_us, why)
    journal = read_journal(spool.media(restored.last_take).with_suffix(".json"))
    if restored.until_us is None and journal is not None:
        # Only the journal of its first take was replicated.
        restored = replace(restored, until_us=journal.wall_us)
    if restored.until_us is None:
        return None
    until = _time(restored.until_us)
    loss = last_loss(recording.timeline)
    if journal is not None and journal.length_us is not None:
        # It was paused, or the take ended otherwise, before the node was lost.
        end_us = journal.wall_us + journal.length_us
        before_us, gap_us = end_us - restored.until_us, 0
    elif loss is None:
        before_us, gap_us = 0, (resumed_us or restored.until_us) - restored.until_us
    else:
        stopped = None if resumed_us else recording.stopped_time
        lost = loss.time if stopped is None else min(loss.time, stopped)
        lost_us = max(restored.until_us, round(lost.timestamp() * 1_000_000))
        before_us = lost_us - restored.until_us
        gap_us = max(0, (resumed_us or lost_us) - lost_us)
    if before_us + gap_us < _LEAST_US:
        return None
    what = f"{before_us / 1e6:.1f} s before the loss of a node"
    if gap_us:
        what += f" and {gap_us / 1e6:.1f} s until the recording was resumed"
    return TimelineEntry(
        event="missing",
        time=until,
        seconds=round((before_us + gap_us) / 1e6, 1),
        message=f"{what} are not in the file",
    )


def _all_missing(
    spool: Spool, recording: Recording, resumed_us: int | None, why: str
) -> TimelineEntry | None:
    """The entry when nothing was restored; None if nothing had been recorded elsewhere."""
    elsewhere = recorded_elsewhere(recording.timeline, spool.numbers())
    if elsewhere.began is None:
        return None
    end = recording.stopped_time if resumed_us is None else _time(resumed_us)
    seconds = elsewhere.recorded_us / 1e6 if end is None else (end - elsewhere.began).total_seconds()
    message = f"the recording of a lost node is not in the file: {why}"
    return TimelineEntry(event="missing", time=elsewhere.began, seconds=round(seconds, 1), message=message)


def _resumed(spool: Spool, restored: Restored) -> int | None:
    """When the first take behind the restored ones began (unix, µs)."""
    last = -1 if restored.last_take is None else restored.last_take
    later = [journal for journal in spool.journals() if journal.number > last]
    return later[0].wall_us if later else None


def _time(unix_us: int) -> datetime:
    return datetime.fromtimestamp(unix_us // 1_000_000, UTC).replace(microsecond=unix_us % 1_000_000)
