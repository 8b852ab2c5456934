"""A whole farm, and third-party programs that use it as they do the service they were made for.

`make compat` installs and tries them all. Each is used unchanged. `docs/compatibility.md` has the results.
"""

from collections.abc import Iterator

import pytest

from compat.programs import HERE, NODE_MODULES
from compat.service import PAGE_SECRET
from testkit.pages import serve_pages
from testkit.running_farm import RunningFarm, running_farm


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
