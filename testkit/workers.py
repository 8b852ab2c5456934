"""A real `farm worker` over the tests' Redis."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import redis
from rq import Worker

from recording_farm.farm.queues.webhooks import webhooks_queue
from testkit.machine.processes import below


@contextmanager
def running_worker(
    client: redis.Redis, redis_address: str, data_dir: Path, *, within: Sequence[str] = (), **settings: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `farm worker`, ready to send webhooks; it is ended with SIGTERM and leaves no process.

    `within` are the words of a program that becomes it.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FARM_")},
        "FARM_DATA_DIR": str(data_dir),
        "FARM_REDIS_URL": redis_address,
        "FARM_SLOTS": "1",
        "FARM_MAX_LOAD": "1",
        "FARM_ALLOW_PRIVATE_ADDRESSES": "all",
        **settings,
    }
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [*within, sys.executable, "-m", "recording_farm.farm.cli", "worker"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
        )  # fmt: skip
    tree: list[psutil.Process] = []
    try:
        _wait_until_ready(client, process, data_dir)
        tree = psutil.Process(process.pid).children(recursive=True)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process.kill()
            _, alive = psutil.wait_procs(tree, timeout=10)
    assert alive == []


def _wait_until_ready(client: redis.Redis, process: "subprocess.Popen[bytes]", data_dir: Path) -> None:
    deadline = time.monotonic() + 60
    while not Worker.all(queue=webhooks_queue(client)):
        assert process.poll() is None, (data_dir / "worker.log").read_text()
        assert time.monotonic() < deadline, "the worker was not ready"
        time.sleep(0.05)


def process_connected_to(port: int) -> psutil.Process:
    """The other process that has a connection to a port of this machine at which this one listens."""
    for connection in psutil.net_connections("tcp"):
        if connection.raddr == ("127.0.0.1", port) and connection.pid not in {None, os.getpid()}:
            return psutil.Process(connection.pid)
    raise AssertionError(f"no process has a connection to the port {port}")


def encoders(worker: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """The encoders of a node."""
    return below(worker.pid, name="ffmpeg")
