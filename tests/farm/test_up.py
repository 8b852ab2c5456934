"""`farm up` and its embedded Redis; the rest of it the end-to-end tests show."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil


def test_redis_that_dies_should_be_started_again_with_what_it_held(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {
        **os.environ,
        "FARM_DATA_DIR": str(tmp_path / "data"),
        "FARM_PORT": str(port),
        "FARM_SLOTS": "1",
        "FARM_API_KEYS": "acme:acme-key",
        "FARM_ALLOW_PRIVATE_ADDRESSES": "all",
    }
    farm = subprocess.Popen(
        [sys.executable, "-m", "farm.cli", "up"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("acme", "acme-key")) as client:
            wait_until_ready(client)
            config = {"max_seconds": 60}
            assert client.put("/v2/recording_config", json=config).status_code == 200
            time.sleep(1.5)  # Redis writes to its disk each second
            children = psutil.Process(farm.pid).children()
            (server,) = [child for child in children if child.name() == "redis-server"]
            server.kill()
            server.wait(5)
            wait_until_ready(client)
            assert client.get("/v2/recording_config").json()["data"] == config
    finally:
        farm.send_signal(signal.SIGTERM)
        farm.wait(60)
    assert farm.returncode == 0


def wait_until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            if client.get("/healthz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)
