"""What the timeline tells of a recording that was restored on another node."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recording_farm.encoder.formats import Codec, Format
from recording_farm.encoder.journal import Journal, write_journal
from recording_farm.farm.jobs.finish import seconds_missed
from recording_farm.farm.progressive.loss import missing_entry, note_missing
from recording_farm.farm.progressive.restored import (
    NOTHING_RESTORED,
    Restored,
    give_up_restoring,
    read_restored,
    save_restored,
)
from recording_farm.farm.recording.model import Recording, Status, TimelineEntry
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import Spool
from testkit.farm import Farm
from testkit.recordings import new_recording

START = datetime(2026, 1, 1, tzinfo=UTC)
START_US = round(START.timestamp() * 1_000_000)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def us(seconds: float) -> int:
    return START_US + round(seconds * 1_000_000)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool", Format(Codec.H264, 320, 180))
    Outbox.of(spool).make()
    return spool


def note(spool: Spool, number: int, began: float, ended: float | None = None) -> None:
    end_us = None if ended is None else round((ended - began) * 1_000_000)
    journal = Journal(number, us(began) // 1_000_000, us(began), 0, 0, end_us=end_us)
    write_journal(spool.media(number).with_suffix(".json"), journal)


def lost(heard: float, *later: TimelineEntry) -> Recording:
    """A recording whose node `a` was heard last then."""
    fault = TimelineEntry(time=at(heard), event="fault", fault="gone", node="a")
    return new_recording().model_copy(update={"timeline": (fault, *later)})


def test_loss_and_gap_should_be_told(spool: Spool) -> None:
    note(spool, 0, 0)
    entry = missing_entry(spool, Restored(0, us(57)), lost(59), us(80))
    assert entry is not None
    assert (entry.event, entry.time, entry.seconds) == ("missing", at(57), 23.0)
    assert entry.message == (
        "2.0 s before the loss of a node and 21.0 s until the recording was resumed are not in the file"
    )


def test_take_that_had_ended_before_should_miss_nothing_but_what_was_not_replicated(spool: Spool) -> None:
    note(spool, 0, 0, ended=30)
    assert missing_entry(spool, Restored(0, us(30)), lost(59), us(80)) is None
    entry = missing_entry(spool, Restored(0, us(28)), lost(59), us(80))
    assert entry is not None
    assert (entry.time, entry.seconds) == (at(28), 2.0)


def test_recording_that_was_stopped_should_miss_what_came_before_its_stop(spool: Spool) -> None:
    note(spool, 0, 0)
    recording = lost(59).model_copy(update={"stopped_time": at(58)})
    entry = missing_entry(spool, Restored(0, us(57)), recording, None)
    assert entry is not None
    assert entry.seconds == 1.0


def test_missing_should_be_noted_once_and_not_before_the_next_take(spool: Spool, farm: Farm) -> None:
    recording = farm.records.add(new_recording())
    farm.records.change_state(recording.id, Status.RECORDING, node="a")
    fault = TimelineEntry(time=at(59), event="fault", fault="gone", node="a")
    farm.records.note(recording.id, fault)
    assert note_missing(spool, farm.records, recording.id)  # nothing was restored
    note(spool, 0, 0)
    save_restored(Outbox.of(spool), Restored(0, us(57)))
    assert not note_missing(spool, farm.records, recording.id)
    note(spool, 1, 80)
    for _ in range(2):
        assert note_missing(spool, farm.records, recording.id)
    timeline = farm.records.get(None, recording.id).timeline
    assert [entry.seconds for entry in timeline if entry.event == "missing"] == [23.0]
    restored = read_restored(Outbox.of(spool))
    assert restored is not None
    assert restored.is_noted


@pytest.mark.parametrize(("ended", "missed"), [(56, 0.0), (61, 4.0), (200, 23.0)])
def test_node_that_is_back_should_tell_how_much_of_the_missing_it_has(
    spool: Spool, ended: float, missed: float
) -> None:
    note(spool, 0, 0, ended=ended)
    entry = TimelineEntry(time=at(57), event="missing", seconds=23.0)
    assert seconds_missed(spool, lost(59, entry), "a") == missed
    assert seconds_missed(spool, lost(59, entry), "b") == 0.0
    assert seconds_missed(spool, lost(59), "a") == 0.0


def test_recording_without_a_replica_should_tell_that_all_before_is_missing(spool: Spool) -> None:
    note(spool, 1, 80)
    began = TimelineEntry(time=at(2), event="take_began", take=0)
    recording = lost(59)
    recording = recording.model_copy(update={"timeline": (began, *recording.timeline)})
    entry = missing_entry(spool, NOTHING_RESTORED, recording, us(80))
    assert entry is not None
    assert (entry.time, entry.seconds) == (at(2), 78.0)
    assert missing_entry(spool, NOTHING_RESTORED, lost(59), us(80)) is None


def test_replica_that_cannot_be_read_should_be_told(spool: Spool) -> None:
    give_up_restoring(Outbox.of(spool), unusable=3)
    restored = read_restored(Outbox.of(spool))
    assert restored is not None
    took = TimelineEntry(time=at(0), event="take_began", take=0)
    recording = lost(59).model_copy(update={"timeline": (took, *lost(59).timeline)})
    entry = missing_entry(spool, restored, recording, us(80))
    assert entry is not None
    assert entry.message == "the recording of a lost node is not in the file: its replica cannot be read"
