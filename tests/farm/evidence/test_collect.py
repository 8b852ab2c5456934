"""Evidence of faults, taken from a real stage that works, hangs or is gone."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from recording_farm.browser_bot.errors import PageLostError, StageError
from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.stage.stage import open_stage
from recording_farm.encoder.errors import (
    ClockJumpedError,
    EncoderError,
    EncoderHungError,
    EncoderTooSlowError,
)
from recording_farm.farm.errors import NotFoundError
from recording_farm.farm.evidence.collect import FILES, collect, fault_directories
from recording_farm.farm.evidence.dead_recorder import describe_defect

PAGE = "data:text/html,<body>here</body><script>console.log('seen'); console.log('START_RECORDING')</script>"
MAX_SECONDS = 6


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    spool = tmp_path / "spool"
    spool.mkdir()
    for number in (2, 10):
        lines = [f"{number}: line {line}\n" for line in range(150)]
        (spool / f"take-{number:03}.log").write_text("".join(lines))
    return spool


async def test_fault_should_leave_everything_there_is_to_see(tmp_path: Path, spool: Path) -> None:
    async with open_stage(320, 180, 30) as stage:
        bot = Bot(stage.browser, PageContract.CONSOLE)
        await bot.join(PAGE, seconds=10, tries=1)
        await collect(tmp_path / "evidence", stage, bot, spool, PageLostError("the page has crashed"))
    (place,) = fault_directories(tmp_path / "evidence")
    assert place.name == "fault-001"
    assert place.stat().st_mode & 0o777 == 0o700
    assert {file.name for file in place.iterdir()} == set(FILES)
    fault = json.loads((place / "fault.json").read_text())
    assert (fault["kind"], fault["message"]) == ("PageLostError", "the page has crashed")
    assert (place / "page.png").read_bytes().startswith(b"\x89PNG")
    assert "page log: 'seen'" in (place / "page.log").read_text()
    assert "X.Org X Server" in (place / "display.log").read_text()
    said = (place / "ffmpeg.log").read_text().splitlines()
    assert (len(said), said[-1], said[49]) == (200, "10: line 149", "take-010.log:")
    assert said[48] == "2: line 149"
    resources = json.loads((place / "resources.json").read_text())
    assert {"Xorg", "pulseaudio", "chromium"} <= {process["name"] for process in resources["stage"]}
    assert resources["processor_seconds"]["steal"] >= 0
    assert 0 < resources["memory"]["available"] < resources["memory"]["total"]
    assert 0 < resources["disk"]["free"] < resources["disk"]["total"]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (ClockJumpedError("by an hour"), "ClockJumped"),
        (EncoderHungError("ffmpeg hangs"), "EncoderHung"),
        (EncoderTooSlowError("at speed 0.5"), "EncoderTooSlow"),
        (EncoderError("ffmpeg ended"), "EncoderError"),
        (StageError("Xorg ended"), "StageError"),
        (NotFoundError("no such recording"), "NotFound"),
    ],
)
async def test_kind_of_a_fault_should_stay_what_version_0_1_wrote(
    tmp_path: Path, spool: Path, fault: Exception, kind: str
) -> None:
    await collect(tmp_path, None, None, spool, fault)
    (place,) = fault_directories(tmp_path)
    assert json.loads((place / "fault.json").read_text())["kind"] == describe_defect(fault)["kind"] == kind


async def test_evidence_should_be_had_without_disturbing_the_page(tmp_path: Path, spool: Path) -> None:
    async with open_stage(320, 180, 30) as stage:
        bot = Bot(stage.browser, PageContract.CONSOLE)
        await bot.join(PAGE, seconds=10, tries=1)
        await collect(tmp_path, stage, bot, spool, StageError("ffmpeg ended"), screenshot=False)
    (place,) = fault_directories(tmp_path)
    assert {file.name for file in place.iterdir()} == {*FILES} - {"page.png"}


@pytest.mark.long
@pytest.mark.parametrize("victim", ["browser", "driver", "everything"])
async def test_stage_that_hangs_should_not_keep_the_evidence(
    tmp_path: Path, spool: Path, victim: str
) -> None:
    loop = asyncio.get_running_loop()
    async with open_stage(320, 180, 30) as stage:
        bot = Bot(stage.browser, PageContract.CONSOLE)
        await bot.join(PAGE, seconds=10, tries=1)
        pids = {"browser": [stage.browser.pid], "driver": [stage.browser.driver_pid]}
        for pid in pids.get(victim, [process.pid for process in stage.usage()]):
            os.kill(pid, signal.SIGSTOP)
        began = loop.time()
        await collect(tmp_path / "evidence", stage, bot, spool, PageLostError("hung"))
        assert loop.time() - began < MAX_SECONDS
    (place,) = fault_directories(tmp_path / "evidence")
    assert {file.name for file in place.iterdir()} == {*FILES} - {"page.png"}
    states = {process["state"] for process in json.loads((place / "resources.json").read_text())["stage"]}
    assert "T" in states


async def test_evidence_should_be_had_without_a_stage_or_of_one_that_is_gone(
    tmp_path: Path,
) -> None:
    async with open_stage(320, 180, 30) as stage:
        bot = Bot(stage.browser, PageContract.CONSOLE)
    fault = StageError("Xorg ended")
    for there in (stage, None):
        await collect(tmp_path, there, bot if there else None, tmp_path / "no-spool", fault)
    gone, none = fault_directories(tmp_path)
    assert {file.name for file in none.iterdir()} == {"fault.json", "ffmpeg.log"}
    assert {"fault.json", "page.log"} <= {file.name for file in gone.iterdir()}


async def test_evidence_that_cannot_be_written_should_be_no_fault_of_its_own(
    tmp_path: Path, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "evidence").write_text("a file is in its way")
    await collect(tmp_path / "evidence", None, None, spool, StageError("Xorg ended"))
    assert "cannot save evidence" in caplog.text


async def test_evidence_should_be_kept_of_the_twenty_latest_faults(tmp_path: Path, spool: Path) -> None:
    for number in range(1, 24):
        await collect(tmp_path, None, None, spool, StageError(f"fault {number}"))
    kept = [
        json.loads((place / "fault.json").read_text())["message"] for place in fault_directories(tmp_path)
    ]
    assert kept == [f"fault {number}" for number in range(4, 24)]
