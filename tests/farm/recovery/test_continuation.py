"""How a recording is continued whose last recorder died."""

import asyncio
import json

import pytest

from recording_farm.farm.evidence.collect import fault_directories
from recording_farm.farm.evidence.dead_recorder import describe_exit, mark_reported, save_crash_report
from recording_farm.farm.evidence.directory import evidence_dir
from recording_farm.farm.jobs.record import record
from recording_farm.farm.jobs.reporter import Reporter
from recording_farm.farm.nodes.registry import Nodes
from recording_farm.farm.recorder.listener import EndReason, Outcome
from recording_farm.farm.recording.model import Status
from recording_farm.farm.spool.breaks import MAX_BREAKS, breaks_too_often
from recording_farm.farm.spool.ending import load_ending
from recording_farm.farm.spool.spool import Spool, spool_of
from testkit.farm import Farm
from testkit.settings import set_environment


def test_ending_should_not_count_for_a_recorder_that_went_on_later(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = farm.add()
    farm.records.change_state(recording.id, Status.RECORDING, node="node-2")
    spool = spool_of(recording, farm.settings)
    spool.make()
    reporter = Reporter(recording, farm.settings, farm.records, farm.redis)
    asyncio.run(reporter.ended(Outcome(EndReason.STOPPED, None, started=True)))
    nodes = Nodes(farm.redis)
    nodes.beat("node-2", 1)
    nodes.mark_gone("node-2", nodes.beats()["node-2"])
    set_environment(monkeypatch, farm.settings)
    monkeypatch.setattr(Spool, "is_held", lambda _: False)
    with spool.held():
        record(str(recording.id))
    after = farm.records.get(None, recording.id)
    assert (after.status, after.node) == (Status.RECORDING, farm.settings.node)
    assert load_ending(spool) is None


def test_killed_recorder_should_leave_evidence_for_who_goes_on_and_only_once(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, farm.settings)
    # It is the third time, so nobody goes on and no stage is needed.
    for seen in (False, True):
        recording = farm.add(meeting_id=f"seen-{seen}")
        farm.records.change_state(recording.id, Status.RECORDING, node=farm.settings.node)
        spool = spool_of(recording, farm.settings)
        spool.make()
        with spool.held():
            pass
        for _ in range(MAX_BREAKS - 1):
            breaks_too_often(spool)
        evidence = evidence_dir(farm.settings, str(recording.id))
        if seen:
            evidence.mkdir(parents=True)
            place = save_crash_report(evidence, spool.directory, describe_exit(9))
            assert place is not None
            mark_reported(evidence, place)
        record(str(recording.id))
        assert farm.records.get(None, recording.id).status is Status.ERRORED
        (fault,) = fault_directories(evidence)
        told = json.loads((fault / "fault.json").read_text())
        assert told["kind"] == ("RecorderKilled" if seen else "RecorderDied")
