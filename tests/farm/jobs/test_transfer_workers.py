"""Transfers by a real worker: killed, hanging, and several at once."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from recording_farm.farm.queues.transfers import enqueue_finish
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.transfers import TransferState, transfer_to
from testkit.farm import Farm
from testkit.network.wire import wire_to
from testkit.recordings import new_recording
from testkit.storage.buckets import bucket_at, s3_at
from testkit.waiting import wait_until
from testkit.workers import process_connected_to, running_worker

pytestmark = pytest.mark.long

MIB = 1 << 20
PART_BYTES = 8 * MIB
THREADS = 4


@pytest.fixture
def s3(s3_endpoint: str) -> Iterator[Any]:
    with bucket_at(s3_endpoint, "workers"):
        yield s3_at(s3_endpoint)


@dataclass(frozen=True)
class Node:
    """A node with no worker yet, and the port of the S3 server that its recordings go to."""

    farm: Farm
    s3_port: int

    def running_worker(self, **settings: str) -> AbstractContextManager["subprocess.Popen[bytes]"]:
        return running_worker(
            self.farm.redis,
            self.farm.settings.redis_address,
            self.farm.settings.data_dir,
            FARM_NODE=self.farm.settings.node,
            **settings,
        )

    def finish(self, recording: Recording, film: Path, port: int) -> Recording:
        """Have a recording that has ended go to the S3 server behind `port`."""
        target = {
            "type": "s3",
            "bucket": "workers",
            "access_key": "key",
            "secret": "secret",
            "endpoint": f"http://127.0.0.1:{port}",
        }
        recording = self.farm.ended(recording, film, target)
        enqueue_finish(self.farm.redis, recording, self.farm.settings.node)
        return recording

    def wait_for(self, recording: Recording, status: Status, timeout: float = 90) -> Recording:
        deadline = time.monotonic() + timeout
        while (present := self.farm.records.get(None, recording.id)).status is not status:
            assert time.monotonic() < deadline, present.transfers
            time.sleep(0.02)
        return present


@pytest.fixture
def node(farm: Farm, s3_endpoint: str) -> Node:
    port = urlsplit(s3_endpoint).port
    assert port is not None
    return Node(farm, port)


@pytest.mark.parametrize("victim", ["horse", "worker", "farm"])
def test_killed_upload_should_go_on_where_it_was(
    node: Node, long_film: Path, s3: Any, victim: str, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    film.hardlink_to(long_film)
    with wire_to(node.s3_port) as wire:
        with node.running_worker() as worker:
            recording = node.finish(new_recording(), film, wire.port)
            wait_until(lambda: wire.passed > 60 * MIB)
            if victim == "horse":
                process_connected_to(wire.port).kill()
            elif victim == "worker":
                rq_worker = process_connected_to(wire.port).parent()
                assert rq_worker is not None
                rq_worker.kill()
            else:
                tree = [*psutil.Process(worker.pid).children(recursive=True), psutil.Process(worker.pid)]
                for process in tree:
                    # They also end with their parents.
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                psutil.wait_procs(tree, timeout=10)
            if victim != "farm":
                after = node.wait_for(recording, Status.UPLOADED)
        if victim == "farm":
            with node.running_worker():
                after = node.wait_for(recording, Status.UPLOADED)
        sent = wire.passed
    transfer = transfer_to(after.transfers, "s3")
    assert transfer is not None
    assert (transfer.state, transfer.attempts) == (TransferState.DONE, 2)
    uploaded = s3.Object("workers", recording.output_file_name)
    assert uploaded.content_length == 200 * MIB
    # Nothing twice but the parts that were on their way, and the requests' own headers.
    assert sent < 200 * MIB + THREADS * PART_BYTES + MIB


def test_shutdown_should_not_wait_for_an_upload_that_hangs(node: Node, film: Path, s3: Any) -> None:
    with wire_to(node.s3_port) as wire:
        wire.silent_after(9 * MIB)
        with node.running_worker():
            recording = node.finish(new_recording(), film, wire.port)
            wait_until(lambda: wire.passed > 9 * MIB)
            began = time.monotonic()
        # The upload would be cut off after minutes.
        assert time.monotonic() - began < 30
    with node.running_worker():
        direct = node.finish(new_recording(meeting_id="next"), film, node.s3_port)
        node.wait_for(direct, Status.UPLOADED)
    assert s3.Object("workers", direct.output_file_name).content_length == film.stat().st_size
    # The link of the first one works all the while.
    state = transfer_to(node.farm.records.get(None, recording.id).transfers, "store")
    assert state is not None
    assert state.state is TransferState.DONE


def test_storage_that_hangs_should_not_delay_other_recordings(node: Node, film: Path, s3: Any) -> None:
    with wire_to(node.s3_port) as wire, node.running_worker(FARM_TRANSFERS="2"):
        wire.silent_after(0)
        hanging = node.finish(new_recording(meeting_id="a"), film, wire.port)
        wait_until(
            lambda: "RUNNING" in {each.state for each in node.farm.records.get(None, hanging.id).transfers}
        )
        began = time.monotonic()
        for meeting in ("b", "c"):
            recording = node.finish(new_recording(meeting_id=meeting), film, node.s3_port)
            node.wait_for(recording, Status.UPLOADED)
        assert time.monotonic() - began < 15
    assert s3.Object("workers", recording.output_file_name).content_length == film.stat().st_size
