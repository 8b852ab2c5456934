"""Transfers over real storage: what becomes of the files, and of their recording."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.errors import WrongStateError
from recording_farm.farm.evidence.directory import evidence_dir
from recording_farm.farm.jobs import transfer as transfer_job
from recording_farm.farm.jobs.settle import settle
from recording_farm.farm.jobs.transfer_attempt import run_transfer
from recording_farm.farm.queues.transfers import transfers_queue, uploads_queue
from recording_farm.farm.recording.links import Links
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.outputs import OutputState, stream_output
from recording_farm.farm.recording.transfers import GIVE_UP_AFTER, STORE, Transfer, TransferState, transfer_to
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import spool_of
from recording_farm.farm.storage.store import Store, open_store
from testkit.farm import Farm
from testkit.machine.disks import small_disk
from testkit.recordings import new_recording, sealed_target
from testkit.settings import settings_with
from testkit.storage.buckets import bucket_at
from testkit.storage.targets import target_at


@pytest.fixture
def settings(redis_address: str, redis_client: redis.Redis, tmp_path: Path) -> Settings:  # noqa: ARG001
    return settings_with(tmp_path / "data", redis_address, allow_private_addresses="127.0.0.0/8")


@pytest.fixture
def bucket(s3_endpoint: str) -> Iterator[Any]:
    """An empty bucket, to which `target_at` leads."""
    with bucket_at(s3_endpoint, "transfers") as bucket:
        yield bucket


def transfer_all(farm: Farm, recording: Recording) -> Recording:
    """Every transfer once, as the workers would."""
    for transfer in recording.transfers:
        run_transfer(recording.id, transfer.target, farm.settings, farm.redis)
    settle(recording.id, farm.settings, farm.redis)
    return farm.records.get(None, recording.id)


def transfer_of(recording: Recording, target: str) -> Transfer:
    transfer = transfer_to(recording.transfers, target)
    assert transfer is not None
    return transfer


def links(farm: Farm) -> Links:
    return Links(farm.settings, open_store(farm.settings), load_secret_key(farm.settings))


def test_files_should_arrive_everywhere_and_the_spool_be_cleared(
    farm: Farm, film: Path, bucket: Any, s3_endpoint: str
) -> None:
    recording = farm.ended(new_recording(), film, target_at(s3_endpoint))
    after = transfer_all(farm, recording)
    assert after.status is Status.UPLOADED
    name, year = recording.output_file_name, recording.invoked_time.year
    assert [(transfer.target, transfer.state, transfer.attempts) for transfer in after.transfers] == [
        ("store", "DONE", 1),
        ("s3", "DONE", 1),
    ]
    assert transfer_of(after, "s3").location == f"s3://transfers/demo/{year}/{name}"
    with closing(open_store(farm.settings).open(recording.id, name)) as stored:
        assert stored.size == film.stat().st_size
    uploaded = bucket.Object(f"demo/{year}/{name}").get()
    assert uploaded["Body"].read() == film.read_bytes()
    assert (uploaded["ContentType"], uploaded["Metadata"]) == ("video/mp4", {"course": "1"})
    assert bucket.Object(f"demo/{year}/{Path(name).with_suffix('.json')}").get()["Body"].read() == b"{}"
    assert not spool_of(recording, farm.settings).directory.exists()
    assert links(farm).video(after) is not None


def test_customers_fault_should_not_keep_the_file_from_the_store(
    farm: Farm, film: Path, s3_endpoint: str
) -> None:
    recording = farm.ended(new_recording(), film, target_at(s3_endpoint, bucket="nowhere"))
    after = transfer_all(farm, recording)
    transfer = transfer_of(after, "s3")
    assert after.status is Status.UPLOADING
    assert (transfer.state, transfer.attempts) == (TransferState.WAITING, 1)
    assert transfer.error is not None
    assert (transfer.error.code, transfer.error.message) == ("no_bucket", "there is no bucket nowhere")
    assert transfer.next_try is not None
    # The link works already, and the files are kept for the next try.
    assert links(farm).video(after) is not None
    assert Outbox.of(spool_of(recording, farm.settings)).path_of(recording.files[0]).exists()
    # The next try is queued for then, on the node that has the files.
    queue = uploads_queue(farm.redis, farm.settings.node)
    (job_id,) = queue.scheduled_job_registry.get_job_ids()
    assert queue.scheduled_job_registry.get_scheduled_time(job_id) >= transfer.next_try
    assert transfers_queue(farm.redis, farm.settings.node).is_empty()
    # Before its time a try does nothing.
    run_transfer(recording.id, "s3", farm.settings, farm.redis)
    assert transfer_of(farm.records.get(None, recording.id), "s3").attempts == 1


def test_transfer_that_is_given_up_should_leave_the_recording_uploaded(
    farm: Farm, film: Path, s3_endpoint: str
) -> None:
    recording = farm.ended(new_recording(), film, target_at(s3_endpoint, bucket="nowhere"))
    a_day_ago = now() - GIVE_UP_AFTER
    recording = farm.records.set_transfer(
        recording.id, Transfer(target="s3", attempts=20, first_tried=a_day_ago)
    )
    after = transfer_all(farm, recording)
    transfer = transfer_of(after, "s3")
    assert (after.status, transfer.state, transfer.attempts) == ("UPLOADED", "GIVEN_UP", 21)
    assert transfer.error is not None
    assert not spool_of(recording, farm.settings).directory.exists()
    assert links(farm).video(after) is not None


def test_farm_that_is_to_keep_no_copy_should_keep_none(
    farm: Farm, film: Path, bucket: Any, s3_endpoint: str
) -> None:
    target = target_at(s3_endpoint, path="")
    recording = farm.ended(new_recording(), film, target, keep_copy=False)
    after = transfer_all(farm, recording)
    assert after.status is Status.UPLOADED
    assert [transfer.target for transfer in after.transfers] == ["s3"]
    assert bucket.Object(recording.output_file_name).content_length == film.stat().st_size
    assert links(farm).video(after) is None
    assert not (farm.settings.data_dir / "store").exists()
    assert not spool_of(recording, farm.settings).directory.exists()


def test_store_should_take_the_file_that_the_customers_storage_never_took(
    farm: Farm, film: Path, s3_endpoint: str
) -> None:
    target = target_at(s3_endpoint, bucket="nowhere")
    recording = farm.ended(new_recording(), film, target, keep_copy=False)
    a_day_ago = now() - GIVE_UP_AFTER
    recording = farm.records.set_transfer(
        recording.id, Transfer(target="s3", attempts=20, first_tried=a_day_ago)
    )
    given_up = transfer_all(farm, recording)
    (job,) = transfers_queue(farm.redis, farm.settings.node).jobs
    assert tuple(job.args) == (str(recording.id), STORE)
    after = transfer_all(farm, given_up)
    assert after.status is Status.UPLOADED
    assert [(transfer.target, transfer.state) for transfer in after.transfers] == [
        ("s3", "GIVEN_UP"),
        ("store", "DONE"),
    ]
    assert links(farm).video(after) is not None


def test_store_that_is_full_should_keep_the_file_in_the_spool(farm: Farm, film: Path, tmp_path: Path) -> None:
    (tmp_path / "no-directory").write_text("")
    broken = farm.with_settings(store_url=f"file://{tmp_path}/no-directory")
    recording = broken.ended(new_recording(), film)
    a_week_ago = now() - timedelta(days=7)
    farm.records.set_transfer(recording.id, Transfer(target=STORE, attempts=99, first_tried=a_week_ago))
    after = transfer_all(broken, recording)
    assert (after.status, transfer_of(after, STORE).state) == ("UPLOADING", "WAITING")
    assert Outbox.of(spool_of(recording, farm.settings)).path_of(recording.files[0]).exists()
    farm.records.set_transfer(recording.id, Transfer(target=STORE, attempts=100))
    assert transfer_all(farm, recording).status is Status.UPLOADED


def test_store_whose_disk_is_full_should_take_the_file_when_there_is_room(farm: Farm, film: Path) -> None:
    recording = farm.ended(new_recording(), film)
    with small_disk(farm.settings.data_dir / "store", 8):
        after = transfer_all(farm, recording)
        transfer = transfer_of(after, STORE)
        assert (after.status, transfer.state) == ("UPLOADING", "WAITING")
        assert transfer.error is not None
        assert transfer.error.code == "full"
        assert [file for file in (farm.settings.data_dir / "store").rglob("*") if file.is_file()] == []
    farm.records.set_transfer(recording.id, Transfer(target=STORE))
    assert transfer_all(farm, recording).status is Status.UPLOADED


def test_address_that_is_not_allowed_should_be_refused_at_the_transfer_too(
    farm: Farm, film: Path, s3_endpoint: str
) -> None:
    strict = farm.with_settings(allow_private_addresses="")
    recording = strict.ended(new_recording(), film, target_at(s3_endpoint))
    transfer = transfer_of(transfer_all(strict, recording), "s3")
    assert transfer.error is not None
    assert transfer.error.code == "address_refused"


def test_keys_sealed_with_another_secret_should_be_said_clearly(
    farm: Farm, film: Path, s3_endpoint: str
) -> None:
    recording = farm.ended(new_recording(), film, target_at(s3_endpoint))
    other = farm.with_settings(secret_key="another secret of this farm", allow_private_addresses="all")
    transfer = transfer_of(transfer_all(other, recording), "s3")
    assert transfer.error is not None
    assert transfer.error.code == "farm_settings"
    assert "FARM_SECRET_KEY" in transfer.error.message


def test_two_workers_at_one_transfer_should_send_once(farm: Farm, film: Path, s3_endpoint: str) -> None:
    recording = farm.ended(new_recording(), film, target_at(s3_endpoint))
    with Outbox.of(spool_of(recording, farm.settings)).claimed("transfer-s3") as mine:
        assert mine
        run_transfer(recording.id, "s3", farm.settings, farm.redis)
    assert transfer_of(farm.records.get(None, recording.id), "s3").attempts == 0


def test_files_should_come_from_the_store_once_the_spool_is_cleared(
    farm: Farm, film: Path, bucket: Any, s3_endpoint: str
) -> None:
    recording = transfer_all(farm, farm.ended(new_recording(), film, target_at(s3_endpoint, path="")))
    bucket.objects.all().delete()
    farm.records.set_transfer(recording.id, Transfer(target="s3"))
    run_transfer(recording.id, "s3", farm.settings, farm.redis)
    settle(recording.id, farm.settings, farm.redis)
    assert bucket.Object(recording.output_file_name).content_length == film.stat().st_size
    assert not spool_of(recording, farm.settings).directory.exists()
    assert farm.records.get(None, recording.id).status is Status.UPLOADED


def test_file_that_is_damaged_in_the_store_should_not_be_sent_on(
    farm: Farm, film: Path, s3_endpoint: str
) -> None:
    recording = farm.ended(new_recording(), film, target_at(s3_endpoint))
    run_transfer(recording.id, STORE, farm.settings, farm.redis)
    spool_of(recording, farm.settings).remove()
    stored = farm.settings.data_dir / "store" / str(recording.id) / recording.output_file_name
    stored.unlink()
    stored.write_bytes(b"other" * 100)
    run_transfer(recording.id, "s3", farm.settings, farm.redis)
    transfer = transfer_of(farm.records.get(None, recording.id), "s3")
    assert transfer.error is not None
    assert transfer.error.code == "damaged"


def test_two_uploads_at_once_should_fetch_each_file_once(
    farm: Farm, film: Path, bucket: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = farm.stored(new_recording(), film)
    fetched: list[str] = []
    fetch = Store.fetch

    def slow_fetch(store: Store, recording_id: UUID, name: str, target: Path) -> None:
        fetched.append(name)
        time.sleep(0.3)
        fetch(store, recording_id, name, target)

    monkeypatch.setattr(Store, "fetch", slow_fetch)
    names = ("s3", "s3-2")
    for name in names:
        path = {"path": name}
        sealed = sealed_target(farm.settings, recording, target_at(s3_endpoint, **path), name).sealed
        farm.records.set_transfer(recording.id, Transfer(target=name), sealed=sealed)
    with ThreadPoolExecutor() as pool:
        for done in [
            pool.submit(run_transfer, recording.id, each, farm.settings, farm.redis) for each in names
        ]:
            done.result()
    transfers = farm.records.get(None, recording.id).transfers
    assert [(transfer.state, transfer.attempts) for transfer in transfers] == [("DONE", 1)] * 3
    assert sorted(fetched) == sorted(file.name for file in recording.files)
    assert len(list(bucket.objects.all())) == 4


def test_nothing_should_be_left_of_a_recording_that_is_deleted_while_it_is_uploaded(
    farm: Farm, film: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recording_farm.farm.jobs.transfer.load_settings", lambda: farm.settings)
    recording = farm.stored(new_recording(), film)
    target = target_at(s3_endpoint, bucket="nowhere")
    sealed = sealed_target(farm.settings, recording, target).sealed
    farm.records.set_transfer(recording.id, Transfer(target="s3"), sealed=sealed)
    transfer_job.transfer(str(recording.id), "s3")
    spool = spool_of(recording, farm.settings)
    assert Outbox.of(spool).path_of(recording.files[0]).exists()
    farm.records.delete(recording)
    transfer_job.transfer(str(recording.id), "s3")
    assert not spool.directory.exists()
    assert not evidence_dir(farm.settings, str(recording.id)).exists()


def test_files_that_redis_has_forgotten_should_be_kept(
    farm: Farm, film: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recording_farm.farm.jobs.transfer.load_settings", lambda: farm.settings)
    recording = farm.ended(new_recording(), film, target_at(s3_endpoint))
    farm.redis.flushall()
    transfer_job.transfer(str(recording.id), "s3")
    assert Outbox.of(spool_of(recording, farm.settings)).path_of(recording.files[0]).exists()


def test_recording_should_not_be_uploaded_before_its_live_outputs_have_ended(farm: Farm, clip: Path) -> None:
    output = stream_output("rtmp://a.example/live/key").model_copy(update={"state": OutputState.LIVE})
    recording = farm.ended(new_recording(outputs=(output,)), clip)
    with spool_of(recording, farm.settings).followed():
        assert transfer_all(farm, recording).status is Status.UPLOADING
    # Its recorder is dead: nobody will tell of the output.
    settle(recording.id, farm.settings, farm.redis)
    assert farm.records.get(None, recording.id).status is Status.UPLOADED
    with pytest.raises(WrongStateError):
        farm.records.set_output(recording, output.model_copy(update={"state": OutputState.ENDED}))
    another = farm.ended(new_recording(outputs=(output,), meeting_id="b"), clip)
    with spool_of(another, farm.settings).followed():
        farm.records.set_output(another, output.model_copy(update={"state": OutputState.ENDED}))
        assert transfer_all(farm, another).status is Status.UPLOADED


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"clip")
    return file
