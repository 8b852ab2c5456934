"""The programs in examples/ run as they are."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from recording_farm.api.docs.webhook_examples import webhook_examples
from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.webhooks.registry import new_secret
from recording_farm.farm.webhooks.signature import load_signing_key, signature_headers
from testkit.api.serving import served_in_thread
from testkit.network.ports import free_port
from testkit.running_farm import RunningFarm
from testkit.waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = {".py": sys.executable, ".mjs": "node"}


def command(name: str, *words: str) -> list[str]:
    path = EXAMPLES / name
    return [PROGRAMS[path.suffix], str(path), *words]


def environment(**values: str) -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **values}


def run(name: str, *words: str, directory: Path, **values: str) -> str:
    """What an example prints."""
    done = subprocess.run(
        command(name, *words),
        cwd=directory,
        env=environment(**values),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "name", ["start_and_download.py", pytest.param("start_and_download.mjs", marks=pytest.mark.long)]
)
def test_start_and_download_should_write_the_file(
    shared_farm: RunningFarm, tmp_path: Path, name: str
) -> None:
    printed = run(
        name, "demo", "2",
        directory=tmp_path, API_URL=shared_farm.address, API_KEY="acme:key",
    )  # fmt: skip
    size = (tmp_path / "demo.mp4").stat().st_size
    assert size > 0
    assert printed.endswith(f"s, {size} bytes\n")


@pytest.mark.long
def test_official_sdk_should_record(shared_farm: RunningFarm, tmp_path: Path) -> None:
    printed = run(
        "cloudflare_sdk.py", "demo", "2", directory=tmp_path, API_URL=shared_farm.address, API_KEY="key"
    )
    assert printed.startswith("UPLOADED http")


@contextmanager
def receiving(name: str, port: int, **values: str) -> Iterator["subprocess.Popen[str]"]:
    """An example that receives webhooks at a port."""
    process = subprocess.Popen(
        command(name, str(port)), env=environment(**values), stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answers(port: int) -> bool:
    try:
        return httpx.post(f"http://127.0.0.1:{port}/", content=b"{}").status_code == 401
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("name", ["verify_webhook.py", "verify_webhook.mjs"])
def test_receiver_should_accept_what_the_farm_signs_and_nothing_else(settings: Settings, name: str) -> None:
    port, secret = free_port(), new_secret()
    body = json.dumps(webhook_examples()["UPLOADED"])
    signed = signature_headers(
        load_signing_key(settings), secret, webhook_id="w", delivery_id="d", body=body, present=now()
    )
    with (
        served_in_thread(settings) as farm,
        receiving(name, port, API_URL=farm, WEBHOOK_SECRET=secret) as process,
    ):
        wait_until(lambda: answers(port), what=name)
        receiver = f"http://127.0.0.1:{port}/"
        assert httpx.post(receiver, content=f"{body} ", headers=signed).status_code == 401
        assert httpx.post(receiver, content=body, headers=signed).status_code == 200
        assert process.stdout is not None
        assert process.stdout.readline().split()[1] == "UPLOADED"


@pytest.mark.long
def test_page_should_be_recorded_without_a_service(pages: str, tmp_path: Path) -> None:
    printed = run("record_page.py", f"{pages}/page.html", "page.mp4", "2", directory=tmp_path)
    assert "page.mp4" in printed
    assert (tmp_path / "page.mp4").stat().st_size > 0


@pytest.mark.long
def test_suite_of_layouts_should_be_as_approved(tmp_path: Path) -> None:
    done = subprocess.run(
        ["farm", "layouts", "check", str(EXAMPLES / "layouts"), "--report", str(tmp_path)],
        env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
