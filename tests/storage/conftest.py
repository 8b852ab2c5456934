"""Real servers of each kind of storage, started on a free port and stopped."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

STARTUP_SECONDS = 30


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server with nothing in it."""
    port = free_port()
    log = (tmp_path_factory.mktemp("s3") / "log").open("wb")
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
    )
    try:
        endpoint = f"http://127.0.0.1:{port}"
        wait_for_http(endpoint, server)
        yield endpoint
    finally:
        server.terminate()
        server.wait(10)
        log.close()


def wait_for_http(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server has ended"
        try:
            httpx.get(url, timeout=1)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A file of 20 MiB and a bit: three parts, each with other bytes."""
    file = tmp_path / "film.mp4"
    file.write_bytes(b"".join(bytes([number]) * (1 << 20) for number in range(20)) + b"end")
    return file
