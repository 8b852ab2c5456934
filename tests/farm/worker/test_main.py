"""A worker that is told to end while Redis is away; how it ends else, the end-to-end tests show."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import redis
from rq.job import JobStatus

from recording_farm.farm.db.clients import connect
from recording_farm.farm.queues.recordings import enqueue_recording
from recording_farm.farm.queues.transfers import transfers_queue
from recording_farm.farm.recording.model import Status
from recording_farm.farm.recording.records import Records
from recording_farm.farm.spool.ending import load_ending
from recording_farm.farm.spool.spool import spool_of
from testkit.machine.processes import below
from testkit.network.ports import free_port
from testkit.network.wire import wire_to
from testkit.pages import FIDELITY_PAGE, serve_pages
from testkit.recordings import new_recording
from testkit.redis_servers import Server, faulty_redis, running
from testkit.settings import settings_with
from testkit.waiting import wait_until
from testkit.workers import running_worker

pytestmark = pytest.mark.long

LEFT = "farm: Redis is away or takes no writes; unfinished recordings are in the spool"


@contextmanager
def redis_server(directory: Path) -> Iterator[tuple[Server, str, redis.Redis]]:
    """A Redis of the test's own, which it may break; its address and a client."""
    port = free_port()
    address = f"redis://127.0.0.1:{port}/0"
    words = ("--port", str(port), "--bind", "127.0.0.1", "--save", "")
    with running(directory, *words) as server, connect(address) as client:
        wait_until(client.ping)
        yield server, address, client


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hangs"])
def test_idle_worker_should_end_within_seconds_while_redis_is_away(
    sign: signal.Signals, tmp_path: Path
) -> None:
    with (
        redis_server(tmp_path / "redis") as (server, address, client),
        running_worker(client, address, tmp_path / "data") as worker,
    ):
        server.send_signal(sign)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 1
    assert LEFT in (tmp_path / "data" / "worker.log").read_text()


@pytest.mark.parametrize("queue", ["transfers", "webhooks"])
def test_worker_should_not_wait_for_ever_for_a_redis_that_goes_away_at_the_very_end(
    queue: str, tmp_path: Path
) -> None:
    def begins_the_last_work(sent: bytes) -> bool:
        # All else that takes jobs waits for them, with BLMOVE.
        return b"\r\nLMOVE\r\n" in sent and f"\r\nrq:queue:{queue}".encode() in sent

    with (
        redis_server(tmp_path / "redis") as (_, address, client),
        wire_to(urlsplit(address).port or 0) as wire,
        running_worker(client, f"redis://127.0.0.1:{wire.port}/0", tmp_path / "data") as worker,
    ):
        wire.cut_before(begins_the_last_work)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 1
    assert LEFT in (tmp_path / "data" / "worker.log").read_text()


def test_second_signal_should_end_the_last_work_at_once_too(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path / "redis") as (_, address, client),
        running_worker(client, address, tmp_path / "data", FARM_NODE="node-1") as worker,
    ):
        queue = transfers_queue(client, "node-1")
        first, last = queue.enqueue("time.sleep", 4), queue.enqueue("time.sleep", 60)
        wait_until(lambda: first.get_status() is JobStatus.STARTED, 60)
        worker.send_signal(signal.SIGTERM)
        wait_until(lambda: last.get_status() is JobStatus.STARTED, 60)
        tree = below(worker.pid)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 1
        _, alive = psutil.wait_procs(tree, timeout=10)
        assert alive == []


def test_worker_should_end_its_recording_properly_while_redis_is_away(tmp_path: Path) -> None:
    settings = settings_with(tmp_path / "data", None)
    with (
        serve_pages(FIDELITY_PAGE.parent) as pages,
        redis_server(tmp_path / "redis") as (server, address, client),
        running_worker(client, address, settings.data_dir, FARM_DRAIN_SECONDS="2") as worker,
    ):
        records, recording = Records(client), new_recording(url=f"{pages}/page.html")
        records.add(recording)
        enqueue_recording(client, recording)
        wait_until(lambda: records.get(None, recording.id).status is Status.RECORDING)
        server.kill()
        worker.send_signal(signal.SIGTERM)
        told = time.monotonic()
        spool = spool_of(recording, settings)
        wait_until(lambda: load_ending(spool))
        assert time.monotonic() - told > 2
        worker.send_signal(signal.SIGTERM)  # nobody has a minute to wait for Redis here
        assert worker.wait(30) == 1
    ending = load_ending(spool)
    assert ending is not None
    assert (ending.status, ending.error and ending.error.code) == (Status.UPLOADING, "node_shut_down")
    assert len(spool.takes()) == 1


def test_idle_worker_should_end_within_seconds_while_redis_is_full(tmp_path: Path) -> None:
    with faulty_redis(tmp_path / "redis") as server, connect(server.address) as client:
        with running_worker(client, server.address, tmp_path / "data") as worker:
            server.break_it("full")
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(30) == 1
        assert LEFT in (tmp_path / "data" / "worker.log").read_text()
