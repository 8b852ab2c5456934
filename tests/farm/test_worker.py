"""A worker that is told to end while Redis is away; how it ends else, the end-to-end tests show."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from farm.ending import kept_ending
from farm.queues import enqueue_recording
from farm.recordings import Status
from farm.records import Records
from farm.redis_clients import connect
from farm.spool import spool_of
from tests.conftest import MakeRecording, settings_with
from tests.pages import FIDELITY_PAGE, serve_pages
from tests.ports import free_port
from tests.redis_servers import Server, running, wait_until
from tests.workers import running_worker

LEFT = "farm: Redis is away; what is not finished lies in the spool"


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


def test_worker_should_end_its_recording_properly_while_redis_is_away(
    make_recording: MakeRecording, tmp_path: Path
) -> None:
    settings = settings_with(tmp_path / "data", None)
    with (
        serve_pages(FIDELITY_PAGE.parent) as pages,
        redis_server(tmp_path / "redis") as (server, address, client),
        running_worker(client, address, settings.data_dir, FARM_DRAIN_SECONDS="2") as worker,
    ):
        records, recording = Records(client), make_recording(url=f"{pages}/page.html")
        records.add(recording)
        enqueue_recording(client, recording)
        wait_until(lambda: records.get(None, recording.id).status is Status.RECORDING)
        server.kill()
        worker.send_signal(signal.SIGTERM)
        told = time.monotonic()
        spool = spool_of(recording, settings)
        wait_until(lambda: kept_ending(spool))
        assert time.monotonic() - told > 2
        worker.send_signal(signal.SIGTERM)  # nobody has a minute to wait for Redis here
        assert worker.wait(30) == 1
    ending = kept_ending(spool)
    assert ending is not None
    assert (ending.status, ending.error and ending.error.code) == (Status.UPLOADING, "node_shut_down")
    assert len(spool.takes()) == 1
