"""Directories short enough for sockets, and nothing left behind in any of them."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.browser_bot.helpers import CHILDREN_BEFORE


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
