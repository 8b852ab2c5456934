"""A stage that a module's tests share, directories short enough for sockets, and nothing left behind."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from recording_farm.browser_bot.stage.stage import Stage, open_stage
from testkit.browser_bot.sites import Site, open_site
from testkit.browser_bot.stages import HEIGHT, WIDTH, blank
from testkit.machine.processes import CHILDREN_BEFORE


@pytest.fixture(autouse=True)
def _children_before() -> None:
    CHILDREN_BEFORE.clear()
    CHILDREN_BEFORE.update(psutil.Process().children())


@pytest.fixture
def short_path() -> Iterator[Path]:
    """An empty directory whose name is short enough for sockets in it, which pytest's own is not."""
    directory = Path(tempfile.mkdtemp(prefix="fb-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def stages(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The directory where this test's stages are made, and nothing else is."""
    tmp_path_factory.getbasetemp()  # pytest makes it when it is first asked for it
    monkeypatch.setattr(tempfile, "tempdir", str(short_path))
    return short_path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stage() -> AsyncIterator[Stage]:
    """A small stage for the tests of a module whose loop is the module's."""
    async with open_stage(WIDTH, HEIGHT, 30) as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def stage(shared_stage: Stage) -> Stage:
    """The same with a new page."""
    return await blank(shared_stage)


@pytest_asyncio.fixture(loop_scope="module")
async def site() -> AsyncIterator[Site]:
    """A server for the pages of one test."""
    async with open_site() as site:
        yield site
