"""The edges of the job that records; that it makes recordings, the end-to-end tests show."""

from pathlib import Path

import pytest

from recording_farm.farm.jobs.record import record
from recording_farm.farm.recording.model import Status
from recording_farm.farm.spool.spool import Spool, spool_of
from testkit.farm import Farm
from testkit.settings import set_environment


def test_job_of_a_deleted_recording_should_do_nothing(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = farm.add()
    farm.stop_and_delete(recording)
    set_environment(monkeypatch, farm.settings)
    record(str(recording.id))
    assert not Path(farm.settings.data_dir, "evidence").exists()


def test_second_job_for_a_recording_should_not_end_it(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = farm.add()
    farm.records.change_state(recording.id, Status.RECORDING, node=farm.settings.node)
    spool = spool_of(recording, farm.settings)
    spool.make()
    set_environment(monkeypatch, farm.settings)
    # The other one takes its hold between this one's look and its own try.
    monkeypatch.setattr(Spool, "is_held", lambda _: False)
    with spool.held():
        record(str(recording.id))
    assert farm.records.get(None, recording.id).status is Status.RECORDING
