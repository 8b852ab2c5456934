"""A worker that shuts down while Redis is away; the end-to-end tests have its other shutdowns."""

import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psutil
import pytest
import redis
from rq import Worker
from rq.registry import StartedJobRegistry

from recording_farm.farm.db.clients import connect
from recording_farm.farm.queues.recordings import enqueue_recording, node_recordings_queue
from recording_farm.farm.queues.transfers import transfers_queue
from recording_farm.farm.queues.webhooks import SEND_JOB, webhooks_queue
from recording_farm.farm.recording.model import Status
from recording_farm.farm.recording.records import Records
from recording_farm.farm.spool.ending import load_ending
from recording_farm.farm.spool.spool import spool_of
from recording_farm.farm.webhooks.registry import STATUS_UPDATE
from testkit.machine.processes import below
from testkit.network.ports import free_port
from testkit.network.wire import wire_to
from testkit.pages import FIDELITY_PAGE, serve_pages
from testkit.recordings import new_recording
from testkit.redis_servers import Server, faulty_redis, running
from testkit.settings import settings_with
from testkit.waiting import wait_until
from testkit.webhooks import webhooks_of
from testkit.workers import running_worker

pytestmark = pytest.mark.long

RESUME = "farm.jobs.entry.resume_unqueued"
LEFT = "farm: Redis is away or rejects writes; unfinished recordings are in the spool"


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


def wait_for_pools(client: redis.Redis) -> None:
    """Wait until slots and the finishing worker take jobs; they have looked through the spool then."""
    queues = node_recordings_queue(client, "node-1"), transfers_queue(client, "node-1")
    wait_until(lambda: all(Worker.all(queue=queue) for queue in queues))


def blocked_spool(data_dir: Path) -> Path:
    """A FIFO in the spool: a job that looks through the spool waits until somebody writes there."""
    fifo = data_dir / "spool" / str(uuid4()) / "recording.json"
    fifo.parent.mkdir(parents=True)
    os.mkfifo(fifo)
    return fifo


@contextmanager
def reader_of(fifo: Path) -> Iterator[None]:
    """A job reads the FIFO, and waits until this context ends."""
    descriptors: list[int] = []

    def has_reader() -> bool:
        with suppress(OSError):
            descriptors.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return bool(descriptors)

    wait_until(has_reader, 60)
    try:
        yield
    finally:
        os.close(descriptors[0])


def test_worker_should_not_wait_for_ever_for_a_redis_that_goes_away_before_the_last_finish(
    tmp_path: Path,
) -> None:
    with (
        redis_server(tmp_path / "redis") as (_, address, client),
        wire_to(urlsplit(address).port or 0) as wire,
        running_worker(
            client, f"redis://127.0.0.1:{wire.port}/0", tmp_path / "data", FARM_NODE="node-1"
        ) as worker,
    ):
        wait_for_pools(client)
        queue, fifo = transfers_queue(client, "node-1"), blocked_spool(tmp_path / "data")
        queue.enqueue(RESUME)
        queue.enqueue(RESUME)
        with reader_of(fifo):
            wire.cut_before(lambda sent: begins_last_work(sent, "transfers"))
            worker.send_signal(signal.SIGTERM)
        shutil.rmtree(fifo.parent)  # recordings in the spool would have a minute
        assert worker.wait(60) == 1
    assert LEFT in (tmp_path / "data" / "worker.log").read_text()


def test_worker_should_not_wait_for_ever_for_a_redis_that_goes_away_before_the_last_webhooks(
    tmp_path: Path,
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        redis_server(tmp_path / "redis") as (_, address, client),
        wire_to(urlsplit(address).port or 0) as wire,
        running_worker(
            client, f"redis://127.0.0.1:{wire.port}/0", tmp_path / "data", FARM_WEBHOOK_SENDERS="1"
        ) as worker,
    ):
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        webhooks_of(client, tmp_path / "data").create(
            "acme", name="silent", url=url, events=(STATUS_UPDATE,), enabled=True
        )
        Records(client).add(new_recording(organization_id="acme"))
        queue = webhooks_queue(client)
        wait_until(lambda: StartedJobRegistry(queue=queue).get_job_ids(cleanup=False), 30)
        queue.enqueue(SEND_JOB)  # the sender has not answered yet, so this is for the shutdown
        wire.cut_before(lambda sent: begins_last_work(sent, "webhooks"))
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 1
    assert LEFT in (tmp_path / "data" / "worker.log").read_text()


def begins_last_work(sent: bytes, queue: str) -> bool:
    """Whether a client takes a job without waiting for one; only the last workers do."""
    return b"\r\nLMOVE\r\n" in sent and f"\r\nrq:queue:{queue}".encode() in sent


def test_second_signal_should_end_the_last_work_at_once_too(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path / "redis") as (_, address, client),
        running_worker(client, address, tmp_path / "data", FARM_NODE="node-1") as worker,
    ):
        wait_for_pools(client)
        queue, fifo = transfers_queue(client, "node-1"), blocked_spool(tmp_path / "data")
        queue.enqueue(RESUME)
        queue.enqueue(RESUME)
        with reader_of(fifo):
            worker.send_signal(signal.SIGTERM)
        with reader_of(fifo):
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
        signaled = time.monotonic()
        spool = spool_of(recording, settings)
        wait_until(lambda: load_ending(spool))
        assert time.monotonic() - signaled > 2
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
