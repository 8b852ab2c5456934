"""`farm demo`: starts a farm, records its built-in meeting through the REST API, and stops the farm."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from recording_farm.encoder.media.probe import probe
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.errors import RecordingFailedError

SECONDS = 20
MEETING = "demo"
START_TIMEOUT = 60.0
STATE_TIMEOUT = 60.0
POLL_SECONDS = 0.2
_MANY_LOST = 0.01
"""Share of lost frames from which the demo explains them."""
_TOO_SLOW = "(the machine was too busy: docs/troubleshooting.md, section Lost frames)"
# These would make the demo depend on other services, or store its file elsewhere.
_NOT_FOR_THE_DEMO = (
    *("FARM_MEETING_URL", "FARM_PUBLIC_URL", "FARM_REDIS_URL"),
    *("FARM_TLS_CERTIFICATE", "FARM_TLS_KEY"),
    *("FARM_STORE_URL", "FARM_STORE_ENCRYPTION", "FARM_RETENTION"),
)


def run_demo(settings: Settings, seconds: int = SECONDS) -> None:
    """Record `seconds` of the built-in meeting and print the result.

    Raises RecordingFailedError without a file.
    """
    console = Console()
    key = secrets.token_urlsafe(16)
    port = settings.port if _is_free(settings.port) else _free_port()
    with (
        _farm(settings, port, key),
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", auth=("demo", key), timeout=30, trust_env=False
        ) as client,
    ):
        with _progress(console) as progress:
            recording = _record(client, seconds, progress)
        link = recording["download_url"]
        with client.stream("GET", link, headers={"range": "bytes=0-0"}) as answer:
            if answer.status_code != 206:
                raise RecordingFailedError(f"the link answers {answer.status_code}")
    path = settings.data_dir / "store" / recording["id"] / recording["output_file_name"]
    _print_result(console, path, recording, link)


@contextmanager
def _farm(settings: Settings, port: int, key: str) -> Iterator[None]:
    """Run `farm up` on `port` with this one key; its log goes to the data directory."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = settings.data_dir / "demo.log"
    # The demo's environment overrides the user's, except for the data directory.
    environment = {
        **os.environ,
        "FARM_DATA_DIR": str(settings.data_dir),
        "FARM_PORT": str(port),
        "FARM_HOST": "127.0.0.1",
        "FARM_API_KEYS": f"demo:{key}",
    }
    for name in _NOT_FOR_THE_DEMO:
        environment.pop(name, None)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "recording_farm.farm.cli", "up"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, port, log)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RecordingFailedError(f"the farm did not start: {_last_lines(log)}")
        try:
            if httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(POLL_SECONDS)
    raise RecordingFailedError(f"the farm was not ready after {START_TIMEOUT:.0f} s: {_last_lines(log)}")


def _record(client: httpx.Client, seconds: int, progress: Progress) -> dict[str, Any]:
    """Start and stop one recording; returns it once it is UPLOADED."""
    task = progress.add_task("opening the meeting", total=seconds)
    started = _data(client.post("/v2/recordings", json={"meeting_id": MEETING}))
    recording = _wait_for(client, started["id"], {"RECORDING"})
    progress.update(task, description="recording")
    began = time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds:
        progress.update(task, completed=elapsed)
        time.sleep(min(POLL_SECONDS, seconds - elapsed))
    progress.update(task, completed=seconds, description="finishing")
    _data(client.put(f"/v2/recordings/{recording['id']}", json={"action": "stop"}))
    recording = _wait_for(client, recording["id"], {"UPLOADED"})
    progress.update(task, description="done")
    return recording


def _wait_for(client: httpx.Client, recording_id: str, states: set[str]) -> dict[str, Any]:
    deadline = time.monotonic() + STATE_TIMEOUT
    while time.monotonic() < deadline:
        recording = _data(client.get(f"/v2/recordings/{recording_id}"))
        if recording["status"] in states:
            return recording
        if recording["status"] == "ERRORED":
            raise RecordingFailedError(f"recording {recording_id} failed: {recording['error']['message']}")
        time.sleep(POLL_SECONDS)
    raise RecordingFailedError(f"recording {recording_id} did not become {'/'.join(sorted(states))} in time")


def _data(answer: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    if not body["success"]:
        raise RecordingFailedError(f"the API answered {answer.status_code}: {body['error']['message']}")
    data: dict[str, Any] = body["data"]
    return data


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description:<20}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _print_result(console: Console, path: Path, recording: dict[str, Any], link: str) -> None:
    media = probe(path)
    quality = recording["quality"]
    captured, lost = quality["frames_captured"], quality["frames_lost"]
    rows = {
        "file": str(path),
        "streams": ", ".join(stream.in_words() for stream in media.streams),
        "duration": f"{media.duration_us / 1e6:.2f} s",
        "size": f"{media.bytes / 1e6:.2f} MB",
        "frames": f"{captured} captured, {lost} lost",
        "link": link,
    }
    for name, value in rows.items():
        console.print(f"{name:<9} {value}", soft_wrap=True, highlight=False, markup=False)
    if lost > _MANY_LOST * (captured + lost):
        console.print(f"          {_TOO_SLOW}", soft_wrap=True, markup=False)
    console.print("          (the link works while a farm runs here: .venv/bin/farm up)", markup=False)


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe_socket:
        probe_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe_socket.bind(("127.0.0.1", port))
        except OSError:
            return False
        return port != 0


def _free_port() -> int:
    with closing(socket.socket()) as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        port: int = probe_socket.getsockname()[1]
        return port


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:])
