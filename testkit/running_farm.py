"""A whole farm as a user runs it, and pages to record."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from testkit.machine.processes import below, encoder
from testkit.network.ports import free_port
from testkit.pages import FIDELITY_PAGE, serve_pages

START_SECONDS = 60
RECORDED = 3.0
"""Seconds that are recorded before something breaks, and after."""
SMALL = {"width": 320, "height": 180}
"""A picture that costs a third of the usual one, for recordings of which no frame is looked at."""


def faults_of(recording: dict[str, Any]) -> list[str]:
    """What broke while it was recorded, in words; not that the machine was too slow for the encoder."""
    return [
        entry["fault"] for entry in recording["timeline"] if entry["event"] == "fault" and not _is_slow(entry)
    ]


def takes_of(recording: dict[str, Any]) -> int:
    """The takes in its file, less those that were begun because the machine was too slow for the encoder."""
    takes: int = recording["quality"]["takes"]
    return takes - sum(_is_slow(entry) for entry in recording["timeline"])


def takes_began(recording: dict[str, Any]) -> list[datetime]:
    """When each of its takes began."""
    return [
        datetime.fromisoformat(entry["time"])
        for entry in recording["timeline"]
        if entry["event"] == "take_began"
    ]


def _is_slow(entry: dict[str, Any]) -> bool:
    return "of real time" in (entry["fault"] or "")


@pytest.fixture(scope="session")
def pages() -> Iterator[str]:
    """Where the tests' pages are served."""
    with serve_pages(FIDELITY_PAGE.parent) as url:
        yield url


@dataclass(frozen=True)
class RunningFarm:
    """A running `farm up`: its process, data directory and client."""

    process: "subprocess.Popen[bytes]"
    data_dir: Path
    client: httpx.Client

    @property
    def address(self) -> str:
        """Where its API is, without a slash at the end."""
        return str(self.client.base_url).rstrip("/")

    def start(self, **wanted: Any) -> dict[str, Any]:
        """Start a recording of the meeting `demo`, with a small picture, or as `wanted`."""
        defaults = {"meeting_id": "demo", "video_config": SMALL}
        return self.answer(self.client.post("/v2/recordings", json=defaults | wanted))

    def order(self, recording_id: str, action: str) -> dict[str, Any]:
        """Stop, pause or resume."""
        return self.answer(self.client.put(f"/v2/recordings/{recording_id}", json={"action": action}))

    def wait_for(self, recording_id: str, *states: str, timeout: float = 90) -> dict[str, Any]:
        """Wait until a recording is in one of `states`."""
        deadline = time.monotonic() + timeout
        while True:
            recording = self.answer(self.client.get(f"/v2/recordings/{recording_id}"))
            if recording["status"] in states:
                return recording
            assert recording["status"] != "ERRORED", recording["error"]
            assert time.monotonic() < deadline, recording
            time.sleep(0.1)

    def wait_for_take(self, recording_id: str, number: int, timeout: float) -> dict[str, Any]:
        """Wait until the take of that number, counted from 1, has begun."""
        deadline = time.monotonic() + timeout
        while True:
            recording = self.wait_for(recording_id, "RECORDING", timeout=timeout)
            if len(takes_began(recording)) >= number:
                return recording
            assert time.monotonic() < deadline, (recording["timeline"], self.log()[-3000:])
            time.sleep(0.1)

    def download(self, recording: dict[str, Any], target: Path) -> Path:
        """Fetch a recording's file by its link."""
        with self.client.stream("GET", str(recording["download_url"]), auth=None) as answer:
            assert answer.status_code == 200
            target.write_bytes(b"".join(answer.iter_bytes()))
        return target

    def processes(self, name: str) -> list[psutil.Process]:
        """The farm's processes of a program."""
        return below(self.process.pid, name=name)

    def recorder(self) -> psutil.Process:
        """The process that records: the parent of its encoder."""
        parent = encoder(self.process.pid).parent()
        assert parent is not None
        return parent

    def answer(self, response: httpx.Response) -> dict[str, Any]:
        """The data of a successful answer."""
        body = response.json()
        assert body["success"], body
        data: dict[str, Any] = body["data"]
        return data

    def log(self) -> str:
        """What the farm said."""
        return (self.data_dir / "farm.log").read_text()


@contextmanager
def running_farm(data_dir: Path, words: Sequence[str] = (), **settings: str) -> Iterator[RunningFarm]:
    """Run `farm up`, on a free port if `FARM_PORT` is not among the settings; it is ended with SIGTERM.

    `words` are those of a program that becomes it.
    """
    port = settings.pop("FARM_PORT", None) or str(free_port())
    data_dir.mkdir(parents=True, exist_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FARM_")},
        "FARM_DATA_DIR": str(data_dir),
        "FARM_PORT": port,
        "FARM_API_KEYS": "acme:key",
        "FARM_ALLOW_PRIVATE_ADDRESSES": "all",
        # Each slot has a stage of its own waiting, which costs as much as one that is used.
        "FARM_SLOTS": "1",
        # The tests share the machine with each other.
        "FARM_MAX_LOAD": "1",
        **settings,
    }
    with (data_dir / "farm.log").open("ab") as log:
        process = subprocess.Popen(
            [*words, sys.executable, "-m", "recording_farm.farm.cli", "-v", "up"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
        )  # fmt: skip
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("acme", "key"), timeout=30) as client:
        farm = RunningFarm(process, data_dir, client)
        try:
            wait_until_healthy(farm)
            yield farm
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def wait_until_healthy(farm: RunningFarm) -> None:
    """Wait until the API answers and has its Redis."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert farm.process.poll() is None, farm.log()
        try:
            if farm.client.get("/healthz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"the farm was not ready: {farm.log()}")


@pytest.fixture(scope="session")
def _farm_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFarm]:
    with running_farm(tmp_path_factory.mktemp("farm"), FARM_SLOTS="2", FARM_JOIN_SECONDS="3") as farm:
        yield farm


@pytest.fixture
def shared_farm(_farm_of_all: RunningFarm) -> Iterator[RunningFarm]:
    """One farm for the tests that do not break it."""
    yield _farm_of_all
    # What a test that failed has left running must not fail all others.
    waiting_or_running = {"status": "INVOKED,RECORDING,PAUSED"}
    for recording in _farm_of_all.client.get("/v2/recordings", params=waiting_or_running).json()["data"]:
        _farm_of_all.order(recording["id"], "stop")
