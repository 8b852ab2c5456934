import logging
import shutil
from collections.abc import Mapping
from typing import Any

import pytest
import redis

from recording_farm.farm.db.clients import connect
from recording_farm.farm.progressive import reporting
from recording_farm.farm.progressive.reporting import Reporter
from recording_farm.farm.recording.copies import Copy, CopyReports
from recording_farm.farm.recording.formats import format_of
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.transfers import Transfer
from recording_farm.farm.spool.record_copy import save_record
from recording_farm.farm.spool.spool import Spool, spools
from testkit.farm import Farm


class Counted(CopyReports):
    """Counts what is written."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        self.written: list[Mapping[str, Any]] = []

    def write(self, node: str, reports: Mapping[str, Any]) -> None:
        super().write(node, reports)
        self.written.append(reports)


def running(farm: Farm, meeting_id: str = "demo") -> Recording:
    """A recording that this node has begun to record."""
    recording = farm.add(
        status=Status.RECORDING,
        node=farm.settings.node,
        transfers=[Transfer(target="s3")],
        meeting_id=meeting_id,
    )
    spool = Spool(farm.settings.spool_dir / str(recording.id), format_of(recording))
    spool.make()
    save_record(spool, recording, {})
    return recording


def followed(farm: Farm) -> dict[str, dict[str, int]]:
    """All recordings are followed; their targets take no parts."""
    return {directory.name: {} for directory in spools(farm.settings.spool_dir)}


def test_report_should_be_written_when_it_has_changed_and_before_it_expires(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = running(farm)
    sizes: dict[str, dict[str, int]] = {}
    reporter, reports = Reporter(farm.settings, lambda: sizes), Counted(farm.redis)
    reporter.report(reports)
    assert reports.written == []  # it is not followed yet
    sizes[str(recording.id)] = {}
    reporter.report(reports)
    assert reports.read([recording]) == {recording.id: {"s3": Copy(uploaded_bytes=0, behind_seconds=0)}}
    for _ in range(3):
        reporter.report(reports)
    assert len(reports.written) == 1
    sizes[str(recording.id)] = {"s3": 8 << 20}
    reporter.report(reports)
    assert len(reports.written) == 2
    assert reports.read([recording])[recording.id]["s3"].in_parts
    monkeypatch.setattr(reporting, "_REPEAT_SECONDS", 0)
    reporter.report(reports)
    assert len(reports.written) == 3
    (key,) = farm.redis.keys("farm:copies:*")
    assert 0 < farm.redis.ttl(key) <= 30


def test_copies_should_be_those_of_the_node_that_records(farm: Farm) -> None:
    recording = running(farm)
    reports = CopyReports(farm.redis)
    mine, other = ({"s3": Copy(uploaded_bytes=size, behind_seconds=0)} for size in (1, 2))
    reports.write(farm.settings.node, {str(recording.id): mine})
    reports.write("a node that is back", {str(recording.id): other})
    assert reports.read([recording]) == {recording.id: mine}
    assert reports.read([recording.model_copy(update={"node": None})]) == {}
    assert reports.read([recording.model_copy(update={"status": Status.UPLOADED})]) == {}
    farm.redis.set(f"farm:copies:{recording.id}:{farm.settings.node}", '["of another version"]')
    assert reports.read([recording]) == {}


def test_redis_that_is_away_should_cost_the_reports_alone(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    recording = running(farm)
    reporter = Reporter(farm.settings, lambda: followed(farm))
    with connect("unix:///nowhere/redis.sock", retries=0) as away:
        for _ in range(5):
            reporter.report(CopyReports(away))
    assert len([line for line in caplog.messages if "copies" in line]) == 1
    reports = CopyReports(farm.redis)
    reporter.report(reports)
    assert recording.id in reports.read([recording])


def test_damaged_spool_should_not_hide_the_others(farm: Farm, caplog: pytest.LogCaptureFixture) -> None:
    recording, damaged = running(farm), running(farm, "another")
    (farm.settings.spool_dir / str(damaged.id) / "take-nothing.mp4").touch()
    (farm.settings.spool_dir / str(damaged.id) / "take-0x.mp4").touch()
    reporter, reports = Reporter(farm.settings, lambda: followed(farm)), CopyReports(farm.redis)
    for _ in range(3):
        reporter.report(reports)
    assert set(reports.read([recording, damaged])) == {recording.id}
    assert len([line for line in caplog.messages if str(damaged.id) in line]) == 1


def test_recordings_that_are_gone_should_be_forgotten(farm: Farm) -> None:
    recording = running(farm)
    reporter, reports = Reporter(farm.settings, lambda: followed(farm)), Counted(farm.redis)
    reporter.report(reports)
    shutil.rmtree(farm.settings.spool_dir / str(recording.id))
    reporter.report(reports)
    assert not reporter._copies
    assert not reporter._written
    assert len(reports.written) == 1
