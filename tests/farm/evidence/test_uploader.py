"""What is brought into the store, and when; what the API makes of it is in tests/api/routes."""

import io
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.evidence.archive import zip_pieces
from recording_farm.farm.evidence.directory import Uploaded, Version, evidence_dir, version_of
from recording_farm.farm.evidence.stored import StoredEvidence, delete_old_evidence, new_part
from recording_farm.farm.evidence.uploader import EvidenceUploader, files_to_upload, needs_upload
from recording_farm.farm.jobs.retention import sweep
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.records import record_key
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.store import Store, open_store
from testkit.farm import Farm
from testkit.settings import set_environment


@pytest.fixture
def ended(farm: Farm) -> Recording:
    """A recording that is ERRORED and has a log."""
    recording = farm.add()
    log(farm.settings, recording.id, "it has failed\n")
    return farm.records.change_state(recording.id, Status.ERRORED)


def log(settings: Settings, recording_id: UUID, text: str) -> Path:
    directory = evidence_dir(settings, str(recording_id))
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "recorder.log").open("a") as file:
        file.write(text)
    return directory


def stored(settings: Settings) -> dict[str, float]:
    """The parts in the store, and when they came."""
    return {file.name: file.stat().st_mtime_ns for file in (settings.data_dir / "store").glob("*/*")}


def test_what_is_stored_should_not_be_brought_again_until_there_is_more(farm: Farm, ended: Recording) -> None:
    uploader = EvidenceUploader(farm.settings, farm.redis)
    uploader.run_once()
    first = stored(farm.settings)
    assert len(first) == 1
    for each in (uploader, EvidenceUploader(farm.settings, farm.redis)):
        each.run_once()
    assert stored(farm.settings) == first
    # A transfer was tried again.
    log(farm.settings, ended.id, "more\n")
    EvidenceUploader(farm.settings, farm.redis).run_once()
    after = stored(farm.settings)
    assert after.keys() == first.keys()
    assert after != first


def test_active_recording_should_be_carried_for_its_faults_and_not_for_its_log() -> None:
    both = Uploaded("part", Version(faults=5, log=5))
    grown = Version(faults=5, log=9)
    assert not needs_upload(Version(log=3), None, is_active=True)
    assert not needs_upload(grown, both, is_active=True)
    assert needs_upload(grown, both, is_active=False)
    assert needs_upload(Version(faults=6, log=5), both, is_active=True)
    assert needs_upload(Version(faults=1), None, is_active=True)


def test_store_that_fails_should_lose_nothing_and_be_tried_again(
    farm: Farm, ended: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[UUID | str] = []

    def fail(_: Store, recording_id: UUID | str, *__: object) -> None:
        refused.append(recording_id)
        raise StorageError("unreachable", "no")

    uploader = EvidenceUploader(farm.settings, farm.redis)
    with monkeypatch.context() as broken:
        broken.setattr(Store, "put", fail)
        uploader.run_once()
        uploader.run_once()
    assert refused == [ended.id]
    assert evidence_dir(farm.settings, str(ended.id)).exists()
    other = farm.add(meeting_id="other")
    log(farm.settings, other.id, "\n")
    farm.records.change_state(other.id, Status.ERRORED)
    uploader.run_once(force=True)
    assert len(stored(farm.settings)) == 2


def test_evidence_of_a_recording_that_redis_has_lost_should_stay(farm: Farm, ended: Recording) -> None:
    farm.redis.flushall()
    EvidenceUploader(farm.settings, farm.redis).run_once()
    assert evidence_dir(farm.settings, str(ended.id)).exists()


def test_recording_that_redis_has_lost_should_be_asked_for_rarely(farm: Farm, ended: Recording) -> None:
    farm.redis.flushall()
    farm.redis.config_resetstat()
    uploader = EvidenceUploader(farm.settings, farm.redis)
    for _ in range(59):
        uploader.run_once()
    statistics: Any = farm.redis.info("commandstats")
    assert statistics["cmdstat_hgetall"]["calls"] == 1
    farm.records.add(ended)
    uploader.run_once()
    assert len(stored(farm.settings)) == 1


def test_record_that_cannot_be_read_should_not_keep_others_back(
    farm: Farm, ended: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    newer = farm.add(id=UUID(int=1), meeting_id="newer", url="http://page.test/?key=secret")
    directory = log(farm.settings, newer.id, "it comes first\n")
    farm.redis.hset(record_key(newer.id), "codec", '"of a newer version"')
    uploader = EvidenceUploader(farm.settings, farm.redis)
    for _ in range(59):
        uploader.run_once()
    assert [file.parent.name for file in (farm.settings.data_dir / "store").glob("*/*")] == [str(ended.id)]
    told = [line for line in caplog.messages if str(newer.id) in line]
    assert len(told) == 1
    assert "not uploading" in told[0]
    assert "(codec)" in told[0]
    assert "of a newer version" not in caplog.text
    assert directory.exists()
    # The node is of the newer version again.
    farm.redis.hset(record_key(newer.id), "codec", '"H264"')
    farm.records.change_state(newer.id, Status.ERRORED)
    uploader.run_once()
    assert len(stored(farm.settings)) == 2


def test_evidence_of_a_recording_deleted_before_it_was_brought_should_be_deleted(
    farm: Farm, ended: Recording
) -> None:
    farm.records.delete(ended)
    assert farm.records.was_deleted(ended.id)
    EvidenceUploader(farm.settings, farm.redis).run_once()
    assert not evidence_dir(farm.settings, str(ended.id)).exists()
    assert stored(farm.settings) == {}


def test_evidence_brought_while_its_recording_is_deleted_should_be_taken_back(
    farm: Farm, ended: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Store.put

    def put_late(*what: object) -> object:
        farm.records.delete(ended)
        return put(*what)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "put", put_late)
    EvidenceUploader(farm.settings, farm.redis).run_once()
    assert stored(farm.settings) == {}
    assert StoredEvidence(farm.redis, open_store(farm.settings)).parts(ended.id) == []


def test_old_evidence_should_be_deleted_from_the_store(
    farm: Farm, ended: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, farm.settings)
    monkeypatch.setenv("FARM_RETENTION", "1h")
    EvidenceUploader(farm.settings, farm.redis).run_once()
    sweep()
    evidence = StoredEvidence(farm.redis, open_store(farm.settings))
    assert len(evidence.parts(ended.id)) == 1
    monkeypatch.setattr("recording_farm.farm.jobs.retention.now", lambda: now() + timedelta(hours=2))
    sweep()
    assert (stored(farm.settings), evidence.parts(ended.id)) == ({}, [])
    assert not evidence_dir(farm.settings, str(ended.id)).exists()
    EvidenceUploader(farm.settings, farm.redis).run_once()
    assert stored(farm.settings) == {}


@pytest.fixture
def many(farm: Farm) -> list[Recording]:
    """Seven recordings whose evidence is in the store, the oldest first."""
    made = [farm.add(id=UUID(int=number), meeting_id=str(number)) for number in range(7)]
    for recording in made:
        log(farm.settings, recording.id, "\n")
        farm.records.change_state(recording.id, Status.ERRORED)
    EvidenceUploader(farm.settings, farm.redis).run_once()
    assert len(stored(farm.settings)) == 7
    return made


def make_stuck(settings: Settings, recording: Recording) -> Path:
    """Have the store refuse to delete a recording's evidence: a directory is in its place, and not empty."""
    (file,) = (settings.data_dir / "store" / str(recording.id)).iterdir()
    file.unlink()
    (file / "in the way").mkdir(parents=True)
    return file


def test_evidence_that_cannot_be_deleted_should_keep_no_other_from_it(
    farm: Farm, many: list[Recording]
) -> None:
    evidence = StoredEvidence(farm.redis, open_store(farm.settings))
    stuck, other, *_ = many
    file = make_stuck(farm.settings, stuck)
    moment = now()
    assert delete_old_evidence(evidence, moment, 2) == 1
    assert evidence.parts(other.id) == []
    assert len(evidence.parts(stuck.id)) == 1
    # It is not the first any more, though it stays the oldest.
    assert delete_old_evidence(evidence, moment + timedelta(minutes=1), 5) == 5
    shutil.rmtree(file)
    assert delete_old_evidence(evidence, moment + timedelta(minutes=2), 1) == 1
    assert farm.redis.keys("farm:evidence*") == []


def test_part_that_cannot_be_deleted_should_keep_no_other_from_it(
    farm: Farm, many: list[Recording], tmp_path: Path
) -> None:
    evidence = StoredEvidence(farm.redis, open_store(farm.settings))
    make_stuck(farm.settings, many[0])
    (stuck,) = evidence.parts(many[0].id)
    (tmp_path / "evidence.zip").write_bytes(b"")
    assert evidence.put(many[0].id, "the-last", tmp_path / "evidence.zip")
    with pytest.raises(StorageError):
        evidence.delete(many[0].id)
    assert evidence.parts(many[0].id) == [stuck]


def test_store_that_deletes_nothing_should_not_be_asked_for_all(
    farm: Farm, many: list[Recording], caplog: pytest.LogCaptureFixture
) -> None:
    evidence = StoredEvidence(farm.redis, open_store(farm.settings))
    for recording in many[:6]:
        make_stuck(farm.settings, recording)
    moment = now()
    assert delete_old_evidence(evidence, moment, 100) == 0
    assert len(caplog.messages) == 5
    assert delete_old_evidence(evidence, moment + timedelta(minutes=1), 100) == 1
    assert evidence.parts(many[6].id) == []


@pytest.mark.usefixtures("ended")
def test_only_one_node_should_carry_from_a_directory_that_nodes_share(farm: Farm) -> None:
    for node in ("node-1", "node-2"):
        EvidenceUploader(farm.settings.model_copy(update={"node": node}), farm.redis).run_once()
    (name,) = stored(farm.settings)
    assert name.startswith("evidence-node-1-")


def test_evidence_that_is_too_large_should_lose_the_oldest_and_the_screenshots_first(tmp_path: Path) -> None:
    (tmp_path / "recorder.log").write_bytes(b"old\n" + b"x" * (2 << 20))
    for number in (1, 2, 10):
        place = tmp_path / f"fault-{number:03}"
        place.mkdir()
        (place / "fault.json").write_bytes(b"{}")
        (place / "page.png").write_bytes(b"p" * 1000)
        time.sleep(0.01)
    carried = b"".join(zip_pieces(files_to_upload(tmp_path, most_bytes=(2 << 20) + 2006)))
    with zipfile.ZipFile(io.BytesIO(carried)) as archive:
        assert archive.namelist() == [
            "recorder.log", "fault-010/fault.json", "fault-010/page.png", "fault-002/fault.json",
            "fault-002/page.png", "fault-001/fault.json",
        ]  # fmt: skip
        assert archive.getinfo("recorder.log").file_size == 2 << 20
    assert version_of(tmp_path).faults == (tmp_path / "fault-010" / "page.png").stat().st_mtime_ns


@pytest.mark.parametrize(("node", "begins"), [("node-1", "node-1-"), ("..", "node-"), (".-a.b", "a.b-")])
def test_part_should_have_a_name_that_is_no_path(node: str, begins: str) -> None:
    part = new_part(node)
    assert part.startswith(begins)
    assert part != new_part(node)


def test_carrier_that_hangs_should_not_keep_its_node_from_ending() -> None:
    hangs = """
import time
from recording_farm.farm.host.processes import stop_event
stop_event(within=1)
print(flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", hangs], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert process.wait(30) == -signal.SIGALRM
