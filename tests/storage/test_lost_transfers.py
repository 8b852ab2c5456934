"""Transfers whose jobs were lost, and storage that takes too long."""

import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from farm import queues
from farm.queues import enqueue_transfer, uploads_queue
from farm.recordings import now
from farm.records import Records
from farm.recovery import recover_transfers
from farm.settings import Settings
from farm.slot import SpoolWorker
from farm.transfers import Transfer, TransferState, transfer_to
from tests.conftest import MakeRecording, settings_with
from tests.storage.ended import stored
from tests.storage.test_transfer_job import target_at
from tests.storage.wire import wire_to


@pytest.fixture
def settings(redis_address: str, redis_client: redis.Redis, tmp_path: Path) -> Settings:  # noqa: ARG001
    return settings_with(tmp_path / "data", redis_address, allow_private_addresses="127.0.0.0/8")


def test_transfer_whose_job_was_lost_should_be_queued_again(
    settings: Settings, records: Records, redis_client: redis.Redis, make_recording: MakeRecording, film: Path
) -> None:
    target = target_at("http://127.0.0.1:9")
    recording = stored(records, settings, redis_client, make_recording(), film, target)
    queue = uploads_queue(redis_client, settings.node)

    def queued_with(transfer: Transfer) -> int:
        queue.empty()  # type: ignore[no-untyped-call]
        records.set_transfer(recording.id, transfer)
        return recover_transfers(settings, redis_client)

    later, overdue = now() + timedelta(minutes=5), now() - timedelta(minutes=2)
    assert queued_with(Transfer(target="s3", next_try=later)) == 0
    assert queued_with(Transfer(target="s3", next_try=now())) == 0
    assert queued_with(Transfer(target="s3", state=TransferState.GIVEN_UP)) == 0
    assert queued_with(Transfer(target="s3", next_try=overdue)) == 1
    assert [job.args for job in queue.jobs] == [(str(recording.id), "s3")]
    # What waits in the queue may be just that.
    assert recover_transfers(settings, redis_client) == 0
    assert queued_with(Transfer(target="s3", state=TransferState.RUNNING)) == 1


def test_storage_that_is_too_slow_should_not_be_waited_for(
    settings: Settings,
    records: Records,
    redis_client: redis.Redis,
    make_recording: MakeRecording,
    film: Path,
    s3_endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queues, "_TRANSFER_SECONDS", 3)
    monkeypatch.setattr(queues, "SLOWEST_TRANSFER", 1 << 40)
    monkeypatch.setenv("FARM_REDIS_URL", str(settings.redis_url))
    monkeypatch.setenv("FARM_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("FARM_NODE", settings.node)
    monkeypatch.setenv("FARM_ALLOW_PRIVATE_ADDRESSES", "all")
    port = urlsplit(s3_endpoint).port
    assert port is not None
    with wire_to(port) as wire:
        wire.silent_after(0)
        recording = stored(
            records,
            settings,
            redis_client,
            make_recording(),
            film,
            target_at(f"http://127.0.0.1:{wire.port}"),
        )
        enqueue_transfer(redis_client, recording, "s3", settings.node)
        queue = uploads_queue(redis_client, settings.node)
        began = time.monotonic()
        SpoolWorker([queue], connection=redis_client).work(burst=True, logging_level="WARNING")
        # boto3 by itself would wait for a minute each time it tries.
        assert time.monotonic() - began < 30
    transfer = transfer_to(records.get(None, recording.id).transfers, "s3")
    assert transfer is not None
    assert transfer.state is TransferState.WAITING
    assert transfer.error is not None
    assert transfer.error.code == "too_slow"
