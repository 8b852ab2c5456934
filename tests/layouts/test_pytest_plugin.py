"""The fixture in another project's tests, run by a pytest of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from testkit.layouts.rooms import ROOM

ROOT = Path(__file__).parents[2]
TEST = """
import asyncio
import pytest

def test_room(layout_snapshot):
    layout_snapshot("room.html", viewport="640x360", masks=["canvas"], script={script!r})

@pytest.mark.parametrize("size", ["a/b"])
def test_named(layout_snapshot, size):
    layout_snapshot("room.html", "named", viewport="640x360", masks=["canvas"])
    layout_snapshot("room.html", viewport="640x360", masks=["canvas"])

def test_in_a_loop(layout_snapshot):
    async def main():
        layout_snapshot("room.html", "named", viewport="640x360", masks=["canvas"])
    asyncio.run(main())
"""


def run_pytest(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"),
            *("-o", "asyncio_default_fixture_loop_scope=function", *arguments, "."),
        ],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


@pytest.mark.long
@pytest.mark.timeout(600)
def test_snapshot_should_be_approved_kept_and_found_changed(tmp_path: Path) -> None:
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "room.html").write_bytes(ROOM.read_bytes())
    test = suite / "test_room.py"
    test.write_text(TEST.format(script=""))

    missing = run_pytest(suite)
    assert missing.returncode == 1, missing.stdout
    assert "pytest --layouts-approve test_room.py::test_room" in missing.stdout

    approved = run_pytest(suite, "--layouts-approve")
    assert approved.returncode == 0, approved.stdout
    names = {file.name for file in (suite / "baseline").iterdir()}
    assert names == {"test_room.png", "named.png", "test_named-a-b.png"}

    test.write_text(TEST.format(script="document.querySelector('.plate').style.marginLeft = '2px'"))
    changed = run_pytest(suite, "--basetemp", str(tmp_path / "kept"))
    assert changed.returncode == 1, changed.stdout
    assert "1 failed, 2 passed" in changed.stdout
    assert "test_room: " in changed.stdout
    (report,) = (tmp_path / "kept").glob("test_room0/layouts/index.html")
    assert f"report: {report}" in changed.stdout


def test_plugin_should_cost_a_suite_nothing_that_does_not_use_it(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\ndef test_nothing():\n    assert 'recording_farm.layouts.pytest_plugin' in sys.modules\n"
        "    assert not {'playwright', 'PIL', 'recording_farm.layouts.render'} & sys.modules.keys()\n"
    )

    result = run_pytest(tmp_path)

    assert result.returncode == 0, result.stdout
