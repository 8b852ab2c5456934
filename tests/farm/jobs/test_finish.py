"""Finishing again after what was known of it is lost; that it finishes, the end-to-end tests show."""

import json
from pathlib import Path
from uuid import uuid4

import pytest

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.jobs.finish import finish
from recording_farm.farm.progressive.names import cut_name
from recording_farm.farm.recording.model import FileKind, Recording, Status
from recording_farm.farm.recording.outputs import Output, OutputKind, OutputState
from recording_farm.farm.recording.records import Records, record_key
from recording_farm.farm.recording.transfers import Transfer
from recording_farm.farm.recovery import local_spool
from recording_farm.farm.recovery.local_spool import recover_unqueued, remove_made_takes
from recording_farm.farm.spool.manifest import manifest_path
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.record_copy import save_record
from recording_farm.farm.spool.spool import spool_of
from testkit.farm import Farm
from testkit.recordings import new_recording
from testkit.settings import set_environment


@pytest.fixture
def recording(farm: Farm, tmp_path: Path) -> Recording:
    """One whose file and manifest are in its outbox, and Redis knows nothing of them."""
    film = tmp_path / "film.mp4"
    film.write_bytes(b"film")
    recording = farm.ended(new_recording(), film)
    (video, manifest) = recording.files
    file = Outbox.of(spool_of(recording, farm.settings)).path_of(manifest)
    described = {"name": video.name, "content_type": "video/mp4", "bytes": 4, "sha256": video.sha256}
    file.unlink()
    file.write_text(json.dumps({"files": [described | {"duration_us": 61_400_000}], "quality": {"takes": 2}}))
    return farm.records.update(recording.id, files=(), file_size=None)


@pytest.fixture
def _here(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, settings)


@pytest.mark.usefixtures("_here")
def test_finished_files_should_not_be_lost_when_redis_forgets_them_and_the_takes_are_gone(
    farm: Farm, recording: Recording
) -> None:
    finish(str(recording.id))
    after = farm.records.get(None, recording.id)
    assert after.status is Status.UPLOADED
    assert [each.kind for each in after.files] == [FileKind.VIDEO, FileKind.MANIFEST]
    assert (after.file_size, after.recording_duration, after.quality) == (4, 61, {"takes": 2})
    stored = farm.settings.data_dir / "store" / str(recording.id) / after.files[0].name
    assert stored.read_bytes() == b"film"


@pytest.mark.usefixtures("_here")
def test_recording_should_be_uploaded_when_redis_has_lost_that_and_only_the_store_has_its_files(
    farm: Farm, recording: Recording
) -> None:
    record = farm.redis.dump(record_key(recording.id))
    assert record is not None
    finish(str(recording.id))
    after = farm.records.get(None, recording.id)
    assert (after.status, spool_of(recording, farm.settings).directory.exists()) == (Status.UPLOADED, False)
    farm.redis.flushall()
    farm.redis.restore(record_key(recording.id), 0, record)
    farm.redis.sadd("farm:unfinished", str(recording.id))
    assert farm.records.unfinished() == [recording]
    assert recover_unqueued(farm.settings, farm.redis) == 1
    finish(str(recording.id))
    again = farm.records.get(None, recording.id)
    assert (again.status, again.files, again.quality) == (Status.UPLOADED, after.files, after.quality)
    stored = farm.settings.data_dir / "store" / str(recording.id) / again.files[0].name
    assert stored.read_bytes() == b"film"


@pytest.mark.usefixtures("_here")
def test_takes_should_stay_until_live_outputs_have_read_them(farm: Farm, recording: Recording) -> None:
    output = Output(id=uuid4(), kind=OutputKind.HLS)
    farm.records.add_output(recording, output, "output", "sealed")
    spool = spool_of(recording, farm.settings)
    take = spool.directory / "take-000.mp4"
    take.write_bytes(b"take")
    with spool.followed():
        finish(str(recording.id))
        assert take.exists()
        assert farm.records.get(None, recording.id).status is Status.UPLOADING
        farm.records.set_output(recording, output.model_copy(update={"state": OutputState.ENDED}))
        finish(str(recording.id))
    assert not take.exists()
    assert farm.records.get(None, recording.id).status is Status.UPLOADED


@pytest.mark.usefixtures("_here")
def test_takes_should_be_deleted_soon_while_a_file_waits_for_a_customer(
    farm: Farm, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.records.set_transfer(recording.id, Transfer(target="s3"), only_new=True)
    spool = spool_of(recording, farm.settings)
    save_record(spool, farm.records.get(None, recording.id), {})
    take = spool.directory / "take-000.mp4"
    take.write_bytes(b"take")
    finish(str(recording.id))
    assert farm.records.get(None, recording.id).status is Status.UPLOADING
    remove_made_takes(farm.settings)
    assert take.exists()  # the uploads that end now need the disk
    monkeypatch.setattr(local_spool, "_MADE_SECONDS", -1)
    with spool.followed():
        remove_made_takes(farm.settings)
        assert take.exists()
    remove_made_takes(farm.settings)
    assert not take.exists()


@pytest.mark.parametrize("texts", [True, False], ids=["archive", "video"])
def test_cut_should_be_deleted_with_the_takes_unless_it_is_the_file(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, *, texts: bool
) -> None:
    recording = new_recording(status=Status.UPLOADING, timed_texts=texts)
    spool = spool_of(recording, farm.settings)
    spool.make()
    save_record(spool, recording, {})
    outbox = Outbox.of(spool)
    outbox.make()
    manifest_path(outbox.directory, recording).write_text("{}")
    cut = outbox.directory / cut_name(recording)
    cut.write_bytes(b"film")
    remove_made_takes(farm.settings)
    assert cut.exists()
    monkeypatch.setattr(local_spool, "_MADE_SECONDS", -1)
    remove_made_takes(farm.settings)
    assert cut.exists() is not texts


@pytest.mark.parametrize("data", [b"", b"\0" * 100 + b"no player would open it"], ids=["empty", "broken"])
def test_takes_that_no_file_can_be_made_of_should_be_set_aside_unless_they_are_empty(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    recording = farm.add()
    farm.records.change_state(recording.id, Status.RECORDING, started_time=now(), node=farm.settings.node)
    recording = farm.records.change_state(recording.id, Status.UPLOADING, stopped_time=now())
    spool = spool_of(recording, farm.settings)
    spool.make()
    (spool.directory / "take-000.mp4").write_bytes(data)
    set_environment(monkeypatch, farm.settings)
    finish(str(recording.id))
    after = Records(farm.redis).get(None, recording.id)
    assert after.status is Status.ERRORED
    assert after.error is not None
    assert after.error.code == "nothing_recorded"
    assert not spool.directory.exists()
    left = farm.settings.superseded_dir / str(recording.id) / "take-000.mp4"
    assert left.exists() == bool(data)
    assert any("set aside on the node" in (entry.fault or "") for entry in after.timeline) == bool(data)
