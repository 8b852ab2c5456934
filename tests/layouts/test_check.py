"""`farm layouts`, run as people run it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recording_farm.layouts.check import Checked, Outcome
from recording_farm.layouts.cli import main
from recording_farm.layouts.pictures import read_png, write_png
from recording_farm.layouts.suite import State
from testkit.layouts.rooms import ROOM, draw_room

# Each runs the command several times, and each of those opens stages.
pytestmark = pytest.mark.timeout(600)

SUITE = """
viewport: 640x360
masks: [canvas]
states:
  - name: room
    url: room.html
  - name: portrait
    url: room.html
    viewport: 360x640
"""
CHANGE = "document.querySelector('.plate').style.marginLeft = '2px'"


Run = Callable[..., "subprocess.CompletedProcess[str]"]


def program(
    *arguments: str | Path, module: str = "recording_farm.layouts"
) -> "subprocess.CompletedProcess[str]":
    """Run the command as a program, which takes a second to import what it needs."""
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=150,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.fixture
def layouts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process."""

    def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        words = list(map(str, arguments))
        monkeypatch.setattr(sys, "argv", ["layouts", *words])
        code: str | int | None = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return run


@pytest.fixture
def refused(layouts: Run) -> Callable[..., str]:
    """Run the command in this process and return what it says when it ends with 2."""

    def run(*arguments: str | Path) -> str:
        ended = layouts(*arguments)
        assert ended.returncode == 2
        return ended.stderr

    return run


def outcomes(said: str) -> dict[str, Any]:
    return {state["name"]: state["outcome"] for state in json.loads(said)["states"]}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite without baselines."""
    directory = tmp_path / "suite"
    directory.mkdir()
    (directory / "room.html").write_bytes(ROOM.read_bytes())
    (directory / "suite.yaml").write_text(SUITE)
    return directory


def test_layouts_should_be_checked_approved_and_found_changed(suite: Path, layouts: Run) -> None:
    new = program("check", suite)
    assert new.returncode == 1, new.stderr
    assert new.stderr.count("no baseline yet; look at the picture, then approve it") == 2
    assert f"if these are meant: farm layouts approve {suite}" in new.stderr
    assert new.stdout == ""

    approved = layouts("approve", suite)
    assert approved.returncode == 0, approved.stderr
    assert approved.stderr.splitlines() == ["approved room", "approved portrait"]
    assert {file.name for file in (suite / "baseline").iterdir()} == {"room.png", "portrait.png"}

    same = layouts("check", suite, "--json")
    assert same.returncode == 0, same.stderr
    assert outcomes(same.stdout) == {"room": "same", "portrait": "same"}
    again = layouts("approve", suite)
    assert again.returncode == 2
    assert "run check first" in again.stderr

    (suite / "suite.yaml").write_text(SUITE.replace("name: room", f'name: room\n    script: "{CHANGE}"'))
    before = (suite / "baseline" / "room.png").read_bytes()
    changed = layouts("check", suite, "--only", "room", "--json", "--report", suite / "elsewhere")
    assert changed.returncode == 1, changed.stderr
    (state,) = json.loads(changed.stdout)["states"]
    assert state["outcome"] == "different"
    assert state["pixels"] > 50
    assert state["regions"][0]["x"] < 30
    assert "<title>Layouts of suite: 1 different</title>" in (suite / "elsewhere/index.html").read_text()
    assert (suite / "baseline" / "room.png").read_bytes() == before

    assert layouts("approve", suite, "--report", suite / "elsewhere").returncode == 0
    assert (suite / "baseline" / "room.png").read_bytes() != before


@pytest.mark.long
def test_recording_should_be_compared_at_a_time(suite: Path, tmp_path: Path, layouts: Run) -> None:
    file = tmp_path / "room.mp4"
    page = suite / "room.html"
    # Without what makes its plates appear for a minute, and so without the policy that names its parts.
    page.write_text(
        ROOM.read_text().replace("plate late", "plate").replace("Content-Security-Policy", "none")
    )
    recorded = subprocess.run(
        [
            *(sys.executable, "-m", "recording_farm.farm.cli", "record", page.as_uri(), "--out", str(file)),
            *("--seconds", "3", "--size", "640x360", "--contract", "plain"),
        ],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert recorded.returncode == 0, recorded.stderr
    # In a recording everything moves: what is not the layout's is masked.
    masks = "masks: [canvas, time, .bell, {x: 0, y: 290, width: 640, height: 70}]"
    (suite / "suite.yaml").write_text(SUITE.replace("masks: [canvas]", masks))
    assert layouts("check", suite, "--only", "room").returncode == 1
    assert layouts("approve", suite).returncode == 0

    at = ("--only", "room", "--recording", file, "--at")
    same = layouts("check", suite, *at, "2.5")
    assert same.returncode == 0, same.stderr
    late = layouts("check", suite, *at, "60")
    assert late.returncode == 2
    assert "before 60 s" in late.stderr

    baseline = suite / "baseline" / "room.png"
    picture = read_png(baseline)
    assert picture is not None
    plates = picture.crop((0, 0, 300, 290))
    picture.paste(plates, (2, 0))
    write_png(picture, baseline)
    moved = layouts("check", suite, *at, "2.5")
    assert moved.returncode == 1, moved.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--only", "garden"), "the suite has no state garden"),
        (("--recording", "a.mp4"), "--recording and --at go together"),
        (("--at", "1"), "--recording and --at go together"),
        (("--recording", "a.mp4", "--at", "1"), "name it with --only"),
        (("--recording", "a.mp4", "--at", "soon", "--only", "room"), "not a number of seconds"),
        (("--recording", "a.mp4", "--at", "1/0", "--only", "room"), "not a number of seconds"),
        (("--recording", "a.mp4", "--at", "-1", "--only", "room"), "not a time in a file"),
        (("--recording", "a.mp4", "--at", "1", "--only", "room"), "a.mp4 cannot be read"),
    ],
)
def test_what_cannot_be_done_should_end_with_2(
    suite: Path, arguments: tuple[str, ...], complaint: str, refused: Callable[..., str]
) -> None:
    assert complaint in refused("check", suite, *arguments)


def test_mask_that_finds_nothing_should_be_reported_and_end_with_2(suite: Path, layouts: Run) -> None:
    said = "viewport: 640x360\nmasks: [.no-such-element]\nstates:\n  - {name: still, url: still.html}\n"
    (suite / "suite.yaml").write_text(said)
    (suite / "still.html").write_text("<!doctype html><h1>Still</h1>")
    checked = layouts("check", suite, "--json")
    assert checked.returncode == 2, checked.stderr
    assert json.loads(checked.stdout)["states"][0]["idle_masks"] == [".no-such-element"]
    assert "the mask '.no-such-element' matches nothing in any state" in checked.stderr
    assert "masked nothing: " in (suite / "report" / "index.html").read_text()
    # What is there in one of the states is no fault.
    (suite / "suite.yaml").write_text(
        said.replace(".no-such-element", "h1") + "  - {name: other, url: other.html}\n"
    )
    (suite / "other.html").write_text("<!doctype html><p>Still")
    checked = layouts("check", suite, "--jobs", "1")
    assert checked.returncode == 1, checked.stderr
    assert checked.stderr.count("masked nothing: 'h1'") == 1


def test_parts_that_do_not_load_should_be_reported_in_text_and_report(suite: Path, layouts: Run) -> None:
    (suite / "suite.yaml").write_text("viewport: 320x180\nstates:\n  - {name: page, url: page.html}\n")
    (suite / "page.html").write_text("<!doctype html><h1>Logo</h1><img src=logo.png>")
    warning = f"image file://{suite}/logo.png failed (ERR_FILE_NOT_FOUND)"

    checked = layouts("check", suite)

    assert checked.returncode == 1, checked.stderr
    assert f"  warning  {warning}" in checked.stderr
    assert f"<li>{warning}</li>" in (suite / "report" / "index.html").read_text()


def test_warnings_should_be_in_json() -> None:
    checked = Checked(State(name="a", url="a"), Outcome.SAME, "", warnings=("image a.png answered 404",))

    assert checked.as_json()["warnings"] == ["image a.png answered 404"]


def test_bad_suite_should_end_with_2(suite: Path, refused: Callable[..., str]) -> None:
    (suite / "suite.yaml").write_text("states:\n - {name: ../a, url: b}")
    assert f"{suite}/suite.yaml:2: states.0.name: " in refused("check", suite)


def test_state_that_cannot_be_pictured_should_leave_the_others(suite: Path, layouts: Run) -> None:
    (suite / "suite.yaml").write_text(SUITE + "  - {name: gone, url: gone.html}\n")
    (suite / "baseline").mkdir()
    (suite / "baseline" / "portrait.png").write_text("no picture")
    write_png(draw_room(), suite / "baseline" / "room.png")

    told = layouts("check", suite, "--json")

    assert told.returncode == 2, told.stderr
    states = {state["name"]: state for state in json.loads(told.stdout)["states"]}
    assert states["gone"]["outcome"] == "failed"
    assert "ERR_FILE_NOT_FOUND" in states["gone"]["message"]
    assert states["portrait"]["outcome"] == "failed"
    assert "portrait.png is no picture" in states["portrait"]["message"]
    assert states["room"]["outcome"] == "different"
    assert states["room"]["message"] == "it is 640x360 and its baseline 320x180"


def test_help_should_be_of_the_command(tmp_path: Path, layouts: Run, refused: Callable[..., str]) -> None:
    assert "approve" in program("layouts", "--help", module="recording_farm.farm.cli").stdout
    assert program("layouts", "burn", module="recording_farm.farm.cli").returncode == 2
    assert "--recording" in layouts("check", "--help").stdout
    assert refused("check", tmp_path / "nothing")
    assert os.listdir(tmp_path) == []
