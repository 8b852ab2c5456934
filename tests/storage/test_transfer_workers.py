"""Transfers by a real worker: killed, hanging, and several at once."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import psutil
import pytest
import redis

from farm.queues import enqueue_finish
from farm.recordings import Recording, Status
from farm.records import Records
from farm.settings import Settings
from farm.transfers import TransferState, transfer_to
from tests.conftest import MakeRecording
from tests.storage.ended import ended
from tests.storage.wire import Wire, wire_to
from tests.workers import running_worker

MIB = 1 << 20
PART_BYTES = 8 * MIB
THREADS = 4


@pytest.fixture
def s3(s3_endpoint: str) -> Any:
    resource = boto3.resource(
        "s3",
        endpoint_url=s3_endpoint,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    resource.Bucket("workers").create()
    yield resource
    resource.Bucket("workers").objects.all().delete()
    resource.Bucket("workers").delete()


def target_at(port: int) -> dict[str, Any]:
    return {
        "type": "s3",
        "bucket": "workers",
        "access_key": "key",
        "secret": "secret",
        "endpoint": f"http://127.0.0.1:{port}",
    }


def wait_until(condition: Callable[[], bool], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def wait_for(records: Records, recording: Recording, status: Status, timeout: float = 90) -> Recording:
    deadline = time.monotonic() + timeout
    while (present := records.get(None, recording.id)).status is not status:
        assert time.monotonic() < deadline, present.transfers
        time.sleep(0.02)
    return present


def sender_to(wire: Wire) -> psutil.Process:
    """The process that sends through a wire."""
    for connection in psutil.net_connections("tcp"):
        if (
            connection.raddr
            and connection.raddr.port == wire.port
            and connection.pid not in {None, os.getpid()}
        ):
            return psutil.Process(connection.pid)
    raise AssertionError("nobody sends through the wire")


@pytest.mark.parametrize("victim", ["horse", "worker", "farm"])
def test_killed_upload_should_go_on_where_it_was(
    settings: Settings, records: Records, redis_client: redis.Redis, make_recording: MakeRecording,
    long_film: Path, s3: Any, s3_endpoint: str, victim: str, tmp_path: Path,
) -> None:  # fmt: skip
    film = tmp_path / "film.mp4"
    film.hardlink_to(long_film)
    assert settings.redis_url is not None
    port = urlsplit(s3_endpoint).port
    assert port is not None
    with wire_to(port) as wire:
        recording = ended(records, settings, make_recording(), film, target_at(wire.port))
        farm = (redis_client, settings.redis_url, settings.data_dir)
        with running_worker(*farm, FARM_NODE=settings.node) as worker:
            enqueue_finish(redis_client, recording, settings.node)
            wait_until(lambda: wire.passed > 60 * MIB)
            if victim == "horse":
                sender_to(wire).kill()
            elif victim == "worker":
                rq_worker = sender_to(wire).parent()
                assert rq_worker is not None
                rq_worker.kill()
            else:
                tree = [*psutil.Process(worker.pid).children(recursive=True), psutil.Process(worker.pid)]
                for process in tree:
                    process.send_signal(signal.SIGKILL)
                psutil.wait_procs(tree, timeout=10)
            if victim != "farm":
                after = wait_for(records, recording, Status.UPLOADED)
        if victim == "farm":
            with running_worker(*farm, FARM_NODE=settings.node):
                after = wait_for(records, recording, Status.UPLOADED)
        sent = wire.passed
    transfer = transfer_to(after.transfers, "s3")
    assert transfer is not None
    assert (transfer.state, transfer.attempts) == (TransferState.DONE, 2)
    uploaded = s3.Object("workers", recording.output_file_name)
    assert uploaded.content_length == 200 * MIB
    # Nothing twice but the parts that were on their way, and the requests' own headers.
    assert sent < 200 * MIB + THREADS * PART_BYTES + MIB


def test_shutdown_should_not_wait_for_an_upload_that_hangs(
    settings: Settings, records: Records, redis_client: redis.Redis, make_recording: MakeRecording,
    film: Path, s3: Any, s3_endpoint: str,
) -> None:  # fmt: skip
    assert settings.redis_url is not None
    port = urlsplit(s3_endpoint).port
    assert port is not None
    with wire_to(port) as wire:
        wire.silent_after(9 * MIB)
        recording = ended(records, settings, make_recording(), film, target_at(wire.port))
        farm = (redis_client, settings.redis_url, settings.data_dir)
        with running_worker(*farm, FARM_NODE=settings.node):
            enqueue_finish(redis_client, recording, settings.node)
            wait_until(lambda: wire.passed > 9 * MIB)
            began = time.monotonic()
        assert time.monotonic() - began < 10
        wire.mend()
    with wire_to(port) as wire:
        direct = ended(records, settings, make_recording(meeting_id="next"), film, target_at(port))
        with running_worker(*farm, FARM_NODE=settings.node):
            enqueue_finish(redis_client, direct, settings.node)
            wait_for(records, direct, Status.UPLOADED)
    assert s3.Object("workers", direct.output_file_name).content_length == film.stat().st_size
    # The link of the first one works all the while.
    state = transfer_to(records.get(None, recording.id).transfers, "store")
    assert state is not None
    assert state.state is TransferState.DONE


def test_storage_that_hangs_should_not_delay_other_recordings(
    settings: Settings, records: Records, redis_client: redis.Redis, make_recording: MakeRecording,
    film: Path, s3: Any, s3_endpoint: str,
) -> None:  # fmt: skip
    assert settings.redis_url is not None
    port = urlsplit(s3_endpoint).port
    assert port is not None
    with wire_to(port) as wire:
        wire.silent_after(0)
        farm = (redis_client, settings.redis_url, settings.data_dir)
        with running_worker(*farm, FARM_NODE=settings.node, FARM_TRANSFERS="2"):
            hanging = ended(records, settings, make_recording(meeting_id="a"), film, target_at(wire.port))
            enqueue_finish(redis_client, hanging, settings.node)
            wait_until(lambda: "RUNNING" in {each.state for each in records.get(None, hanging.id).transfers})
            began = time.monotonic()
            for meeting in ("b", "c"):
                recording = ended(
                    records, settings, make_recording(meeting_id=meeting), film, target_at(port)
                )
                enqueue_finish(redis_client, recording, settings.node)
                wait_for(records, recording, Status.UPLOADED)
            assert time.monotonic() - began < 15
    assert s3.Object("workers", recording.output_file_name).content_length == film.stat().st_size
