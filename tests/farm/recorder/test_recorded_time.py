from dataclasses import dataclass
from pathlib import Path

import pytest

from recording_farm.encoder.formats import Format
from recording_farm.encoder.journal import Journal
from recording_farm.farm.recorder import recorded_time
from recording_farm.farm.recorder.recorded_time import RecordedTime
from recording_farm.farm.recording.timeline import NOTHING, Elsewhere
from recording_farm.farm.spool.spool import Spool

SECOND = 10**9


@dataclass
class Clock:
    """A clock of a machine that has run for an hour."""

    ns: int = 3600 * SECOND

    def monotonic_ns(self) -> int:
        return self.ns

    def time_ns(self) -> int:
        return 1_800_000_000 * SECOND + self.ns

    def take(self) -> Journal:
        """A take that begins now."""
        return Journal(0, 0, self.time_ns() // 1000, self.ns // 1000, 0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(recorded_time, "time", clock)
    return clock


def counted(spool: Path, max_seconds: float | None = None, elsewhere: Elsewhere = NOTHING) -> RecordedTime:
    return RecordedTime(Spool(spool, Format()), elsewhere, max_seconds)


def test_pause_should_not_count_but_for_the_longest_recording(clock: Clock, tmp_path: Path) -> None:
    time = counted(tmp_path, max_seconds=10)
    assert not time.has_begun
    assert time.seconds_left == 86_400
    time.begin_take(clock.take())
    clock.ns += 4 * SECOND
    assert (time.recorded_ns, time.seconds_left) == (4 * SECOND, 6)
    time.end_take()
    clock.ns += 100 * SECOND
    assert (time.recorded_ns, time.seconds_left) == (4 * SECOND, 86_400 - 104)
    time.begin_take(clock.take())
    assert time.seconds_left == 6


@pytest.mark.parametrize(("stopped_after", "recorded"), [(3, 3), (5, 4)], ids=["stop", "time is up"])
def test_take_should_end_when_it_was_to_end_and_not_when_that_is_done(
    clock: Clock, tmp_path: Path, stopped_after: int, recorded: int
) -> None:
    time = counted(tmp_path, max_seconds=4)
    began = clock.ns
    time.begin_take(clock.take())
    clock.ns += stopped_after * SECOND
    time.stop()
    clock.ns += 2 * SECOND
    assert time.end_take() == began + recorded * SECOND
    assert time.recorded_ns == recorded * SECOND


def test_take_that_begins_behind_the_stop_should_have_its_frames(clock: Clock, tmp_path: Path) -> None:
    time = counted(tmp_path)
    time.stop()
    clock.ns += SECOND
    time.begin_take(clock.take())
    clock.ns += SECOND
    assert time.end_take() == clock.ns
    assert time.recorded_ns == SECOND
