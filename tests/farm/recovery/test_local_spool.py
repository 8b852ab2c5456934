"""Transfers whose jobs were lost, and storage that takes too long."""

import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.jobs.settle import settle
from recording_farm.farm.jobs.transfer_attempt import run_transfer
from recording_farm.farm.queues.transfers import enqueue_transfer, transfers_queue, uploads_queue
from recording_farm.farm.recording.model import Status
from recording_farm.farm.recording.records import record_key
from recording_farm.farm.recording.transfers import STORE, Transfer, TransferState, transfer_to
from recording_farm.farm.recovery.local_spool import recover_transfers
from recording_farm.farm.spool.spool import spool_of
from recording_farm.farm.worker.slot import SpoolWorker
from testkit.farm import Farm
from testkit.network.wire import wire_to
from testkit.recordings import new_recording
from testkit.settings import set_environment, settings_with
from testkit.storage.buckets import s3_at
from testkit.storage.targets import target_at


@pytest.fixture
def settings(redis_address: str, redis_client: redis.Redis, tmp_path: Path) -> Settings:  # noqa: ARG001
    return settings_with(tmp_path / "data", redis_address, allow_private_addresses="127.0.0.0/8")


def test_transfer_whose_job_was_lost_should_be_queued_again(farm: Farm, film: Path) -> None:
    target = target_at("http://127.0.0.1:9")
    recording = farm.stored(new_recording(), film, target)
    queue = uploads_queue(farm.redis, farm.settings.node)

    def queued_with(transfer: Transfer) -> int:
        queue.empty()  # type: ignore[no-untyped-call]
        farm.records.set_transfer(recording.id, transfer)
        return recover_transfers(farm.settings, farm.redis)

    later, overdue = now() + timedelta(minutes=5), now() - timedelta(minutes=2)
    assert queued_with(Transfer(target="s3", next_try=later)) == 0
    assert queued_with(Transfer(target="s3", next_try=now())) == 0
    assert queued_with(Transfer(target="s3", state=TransferState.GIVEN_UP)) == 0
    assert queued_with(Transfer(target="s3", next_try=overdue)) == 1
    assert [tuple(job.args) for job in queue.jobs] == [(str(recording.id), "s3")]
    # What waits in the queue may be just that.
    assert recover_transfers(farm.settings, farm.redis) == 0
    assert queued_with(Transfer(target="s3", state=TransferState.RUNNING)) == 1


def test_transfer_should_be_done_when_redis_has_lost_that_and_only_the_store_has_the_file(
    farm: Farm, film: Path, s3_endpoint: str
) -> None:
    bucket = s3_at(s3_endpoint).create_bucket(Bucket="rolled-back")
    where = f"s3://rolled-back?endpoint={s3_endpoint}&region=us-east-1"
    farm = farm.with_settings(store_url=where, store_access_key="key", store_secret="secret")
    recording = farm.ended(new_recording(), film)
    farm.records.set_transfer(recording.id, Transfer(target=STORE, state=TransferState.RUNNING))
    record = farm.redis.dump(record_key(recording.id))
    assert record is not None
    farm.records.set_transfer(recording.id, Transfer(target=STORE))
    run_transfer(recording.id, STORE, farm.settings, farm.redis)
    settle(recording.id, farm.settings, farm.redis)
    assert not spool_of(recording, farm.settings).directory.exists()
    farm.redis.flushall()
    farm.redis.restore(record_key(recording.id), 0, record)
    farm.redis.sadd("farm:unfinished", str(recording.id))
    assert recover_transfers(farm.settings, farm.redis) == 1
    (job,) = transfers_queue(farm.redis, farm.settings.node).jobs
    assert tuple(job.args) == (str(recording.id), STORE)
    run_transfer(recording.id, STORE, farm.settings, farm.redis)
    settle(recording.id, farm.settings, farm.redis)
    assert farm.records.get(None, recording.id).status is Status.UPLOADED
    assert bucket.Object(f"{recording.id}/{recording.files[0].name}").content_length == film.stat().st_size


def test_storage_that_is_too_slow_should_not_be_waited_for(
    farm: Farm, film: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recording_farm.farm.queues.transfers._TRANSFER_SECONDS", 3)
    monkeypatch.setattr("recording_farm.farm.queues.transfers.MIN_TRANSFER_RATE", 1 << 40)
    set_environment(monkeypatch, farm.settings)
    monkeypatch.setenv("FARM_ALLOW_PRIVATE_ADDRESSES", "all")
    port = urlsplit(s3_endpoint).port
    assert port is not None
    with wire_to(port) as wire:
        wire.silent_after(0)
        recording = farm.stored(new_recording(), film, target_at(f"http://127.0.0.1:{wire.port}"))
        enqueue_transfer(farm.redis, recording, "s3", farm.settings.node)
        queue = uploads_queue(farm.redis, farm.settings.node)
        began = time.monotonic()
        SpoolWorker([queue], connection=farm.redis).work(burst=True, logging_level="WARNING")
        # boto3 by itself would wait for a minute each time it tries.
        assert time.monotonic() - began < 30
    transfer = transfer_to(farm.records.get(None, recording.id).transfers, "s3")
    assert transfer is not None
    assert transfer.state is TransferState.WAITING
    assert transfer.error is not None
    assert transfer.error.code == "too_slow"
