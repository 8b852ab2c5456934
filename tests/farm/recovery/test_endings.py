"""How a recording ends whose recorder died or could not tell Redis."""

import pytest

from recording_farm.farm.clock import now
from recording_farm.farm.jobs.record import record
from recording_farm.farm.jobs.reporter import Reporter
from recording_farm.farm.queues.recordings import has_live_job
from recording_farm.farm.queues.transfers import is_to_be_finished
from recording_farm.farm.recorder.listener import EndReason, Outcome
from recording_farm.farm.recording.model import Failure, ReasonKind, Status
from recording_farm.farm.recovery.local_spool import recover_unqueued
from recording_farm.farm.spool.spool import spool_of
from testkit.farm import Farm
from testkit.settings import set_environment


@pytest.mark.parametrize("told", [Status.INVOKED, Status.RECORDING, Status.PAUSED])
@pytest.mark.parametrize("through_a_job", [True, False])
async def test_recording_that_ended_while_redis_was_away_should_end_and_not_go_on(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, *, told: Status, through_a_job: bool
) -> None:
    recording = farm.add(node=farm.settings.node)
    if told is not Status.INVOKED:
        farm.records.change_state(recording.id, Status.RECORDING, started_time=now())
    if told is Status.PAUSED:
        farm.records.change_state(recording.id, Status.PAUSED)
    spool = spool_of(recording, farm.settings)
    spool.make()
    with spool.held():
        # Nothing of it reaches Redis.
        await Reporter(recording, farm.settings, farm.records, farm.redis).ended(
            Outcome(EndReason.STOPPED, None, started=True)
        )
    ended = now()
    if through_a_job:
        # Another node had taken this one for gone, and had it queued for any.
        set_environment(monkeypatch, farm.settings)
        record(str(recording.id))
    else:
        assert recover_unqueued(farm.settings, farm.redis) == 1
    after = farm.records.get(None, recording.id)
    assert (after.status, after.node, after.error) == (Status.UPLOADING, farm.settings.node, None)
    assert after.stop_reason is not None
    assert after.stop_reason.reason is ReasonKind.API_CALL
    assert after.stopped_time is not None
    assert after.started_time is not None
    assert after.stopped_time <= ended
    assert not has_live_job(farm.redis, recording.id)
    assert is_to_be_finished(farm.redis, recording.id, farm.settings.node)


async def test_recording_that_recorded_nothing_while_redis_was_away_should_be_errored(farm: Farm) -> None:
    recording = farm.add(node=farm.settings.node)
    spool = spool_of(recording, farm.settings)
    spool.make()
    with spool.held():
        await Reporter(recording, farm.settings, farm.records, farm.redis).ended(
            Outcome(EndReason.FAULT, "it cannot be joined", started=False)
        )
    assert recover_unqueued(farm.settings, farm.redis) == 1
    after = farm.records.get(None, recording.id)
    assert after.status is Status.ERRORED
    assert after.error == Failure(code="recording_failed", message="it cannot be joined")
    assert not spool.directory.exists()
