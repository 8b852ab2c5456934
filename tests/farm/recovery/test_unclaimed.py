"""Recordings that nobody makes: when they are given up, and that no clock ends them which is set."""

from datetime import timedelta

import pytest
import redis

from recording_farm.farm.clock import now
from recording_farm.farm.queues.recordings import (
    Place,
    enqueue_recording,
    has_live_job,
    queue_place,
    recordings_queue,
)
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recovery.unclaimed import fail_lost_recordings
from recording_farm.farm.recovery.wait_times import QueueWaitTimes
from testkit.farm import Farm

TIMEOUT = timedelta(minutes=10)


class Sweeper:
    """A process that sweeps, with a monotonic clock of its own."""

    def __init__(self, records: Records, client: redis.Redis, clock_ns: int = 0) -> None:
        self._records = records
        self._client = client
        self._clock_ns = clock_ns
        self._waits = QueueWaitTimes(client, lambda: self._clock_ns)

    def sweep(self, *, after: float = 0) -> list[Recording]:
        """Sweep when so many seconds more have passed."""
        self._clock_ns += int(after * 1e9)
        return fail_lost_recordings(self._records, self._client, self._waits, TIMEOUT)


@pytest.fixture
def sweeper(farm: Farm) -> Sweeper:
    return Sweeper(farm.records, farm.redis)


def test_recording_without_a_job_should_not_stay_invoked(farm: Farm, sweeper: Sweeper) -> None:
    lost = farm.add(meeting_id="lost")
    queued = farm.add(meeting_id="queued")
    enqueue_recording(farm.redis, queued)
    running = farm.add(meeting_id="running")
    farm.records.change_state(running.id, Status.RECORDING)
    assert (has_live_job(farm.redis, queued.id), has_live_job(farm.redis, lost.id)) == (True, False)
    assert sweeper.sweep() == []
    assert sweeper.sweep(after=59) == []
    young = farm.add(meeting_id="young")
    assert [one.id for one in sweeper.sweep(after=2)] == [lost.id]
    after = farm.records.get(None, lost.id)
    assert (after.status, after.error is not None and after.error.code) == (Status.ERRORED, "not_queued")
    assert [farm.records.get(None, one.id).status for one in (queued, young, running)] == [
        Status.INVOKED,
        Status.INVOKED,
        Status.RECORDING,
    ]
    assert sweeper.sweep() == []


def test_recording_whose_worker_died_with_the_job_in_hand_should_be_queued_again(
    farm: Farm, sweeper: Sweeper
) -> None:
    dropped = farm.add()
    enqueue_recording(farm.redis, dropped)
    assert has_live_job(farm.redis, dropped.id)
    assert recordings_queue(farm.redis, "acme").pop_job_id() == str(dropped.id)
    assert not has_live_job(farm.redis, dropped.id)
    assert sweeper.sweep() == []
    assert queue_place(farm.redis, dropped, 0) is None
    assert sweeper.sweep(after=120) == []
    assert queue_place(farm.redis, dropped, 0) == Place(1)
    assert sweeper.sweep() == []
    assert len(recordings_queue(farm.redis, "acme").jobs) == 1


def test_recording_that_no_worker_takes_should_end_after_the_timeout(farm: Farm, sweeper: Sweeper) -> None:
    waiting = farm.add(meeting_id="waiting")
    taken = farm.add(meeting_id="taken")
    farm.records.update(taken.id, node="node-1")
    for recording in (waiting, taken):
        enqueue_recording(farm.redis, recording)
    assert sweeper.sweep() == []
    assert sweeper.sweep(after=599) == []
    assert queue_place(farm.redis, taken, 0) == Place(2)
    (lost,) = sweeper.sweep(after=2)
    assert (lost.id, lost.status) == (waiting.id, Status.ERRORED)
    assert lost.error is not None
    assert (lost.error.code, "600 s" in lost.error.message) == ("no_free_slot", True)
    assert queue_place(farm.redis, waiting, 0) is None
    assert queue_place(farm.redis, taken, 0) == Place(1)


def test_waiting_recording_should_not_end_when_the_clock_is_set(farm: Farm, sweeper: Sweeper) -> None:
    # As after the clock was set by an hour, forward and back.
    for hours in (-1, 1):
        moment = now() + timedelta(hours=hours)
        enqueue_recording(farm.redis, farm.add(meeting_id=f"{hours}", invoked_time=moment))
    assert sweeper.sweep() == []
    assert sweeper.sweep(after=599) == []
    assert len(sweeper.sweep(after=2)) == 2


def test_waiting_should_be_counted_once_by_all_who_sweep_and_on_after_each_of_them(farm: Farm) -> None:
    enqueue_recording(farm.redis, farm.add())
    first, second = Sweeper(farm.records, farm.redis, 10**18), Sweeper(farm.records, farm.redis, 5)
    assert first.sweep() == second.sweep() == []
    for _ in range(5):
        assert first.sweep(after=60) == second.sweep(after=60) == []
    started_again = Sweeper(farm.records, farm.redis)
    assert started_again.sweep() == []
    assert started_again.sweep(after=299) == []
    assert len(started_again.sweep(after=2)) == 1
    assert farm.redis.zcard("farm:waited") == 1
    assert started_again.sweep() == []
    assert farm.redis.exists("farm:waited") == 0
