"""A whole farm, and third-party programs that use it as they do the service they were made for.

`make compat` installs and tries them all. Each is used unchanged. `docs/compatibility.md` has the results.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from testkit.pages import serve_pages
from testkit.running_farm import RunningFarm, running_farm

HERE = Path(__file__).parent
NODE_MODULES = HERE / "node_modules"
PAGE_SECRET = "a secret of the meetings' own, long enough for HS256"


@pytest.fixture(scope="session", autouse=True)
def _is_set_up() -> None:
    for installed in (NODE_MODULES / ".package-lock.json", HERE / ".venv/bin/openapi-python-client"):
        if not installed.exists():
            pytest.exit(f"{installed.relative_to(HERE.parent)} is missing; run compat/setup first", 2)


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An origin of its own, with a page for each browser client."""
    directory = tmp_path_factory.mktemp("pages")
    for name, script in (
        ("realtimekit", "@cloudflare/realtimekit/dist/browser.js"),
        ("dyte", "@dytesdk/web-core/dist/index.iife.js"),
    ):
        (directory / f"{name}.js").write_bytes((NODE_MODULES / script).read_bytes())
        (directory / f"{name}.html").write_text(f"<!doctype html><script src={name}.js></script>")
    with serve_pages(directory) as url:
        yield url


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory, pages: str) -> Iterator[RunningFarm]:
    """A farm whose API pages of that origin may use."""
    data_dir = tmp_path_factory.mktemp("farm") / "data"
    with running_farm(data_dir, FARM_PAGE_SECRET=PAGE_SECRET, FARM_CORS_ORIGINS=pages) as farm:
        yield farm


def address_of(farm: RunningFarm) -> str:
    """Where its API is, without a slash at the end."""
    return str(farm.client.base_url).rstrip("/")


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Wait until something is so. Raises TimeoutError, naming it."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


def download(recording: dict[str, Any], directory: Path) -> Path:
    """Its file, brought by its link."""
    file = directory / str(recording["output_file_name"])
    file.write_bytes(httpx.get(recording["download_url"], timeout=60).raise_for_status().content)
    return file


def node(*arguments: str, **environment: str) -> str:
    """What a program of Node's prints; it is run in this folder."""
    done = subprocess.run(
        arguments, cwd=HERE, env={**os.environ, **environment}, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
