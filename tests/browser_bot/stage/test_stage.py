import asyncio
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import pytest

import recording_farm
from recording_farm.browser_bot.errors import ProgramNotFoundError, StageError
from recording_farm.browser_bot.stage import browser, display
from recording_farm.browser_bot.stage import stage as stage_module
from recording_farm.browser_bot.stage.cleanup import clean_up_stages
from recording_farm.browser_bot.stage.stage import open_stage
from recording_farm.browser_bot.stage.x_connection import connected
from testkit.browser_bot.audio import listen
from testkit.machine.processes import alive, our_children, programs_of
from testkit.waiting import until

OWNER = """
import asyncio
from recording_farm.browser_bot.stage.stage import open_stage

async def main():
    async with open_stage(320, 180, 30) as stage:
        print(stage.directory, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""
TONE = """async () => { const audio = new AudioContext(); const tone = audio.createOscillator();
    tone.connect(audio.destination); tone.start(); while (audio.currentTime < 0.3) await new Promise(
    resolve => setTimeout(resolve, 20)); }"""


def left_in(stages: Path) -> list[object]:
    """Everything that stages have left: their directories, programs and our children, zombies too."""
    return [*stages.iterdir(), *programs_of(stages), *our_children()]


async def nothing_left(stages: Path) -> None:
    """Wait a moment until nothing is left, or fail telling what is."""
    with suppress(AssertionError):
        await until(lambda: not left_in(stages), 5, "nothing is left")
    assert left_in(stages) == []


async def test_stage_should_leave_nothing_also_when_its_user_fails(stages: Path) -> None:
    async def fail() -> None:
        async with open_stage(320, 180, 30) as stage:
            names = {program.name() for program in programs_of(stage.directory)}
            assert {"Xorg", "pulseaudio", "chromium"} <= names
            raise ValueError("of the user's own")

    with pytest.raises(ValueError, match="of the user's own"):
        await fail()
    await nothing_left(stages)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_pointer_should_be_outside_of_what_is_recorded(stages: Path) -> None:  # noqa: ARG001
    async with open_stage(1280, 720, 30) as stage, connected(stage.display) as connection:
        pointer = await connection.run(connection.xcb.core.QueryPointer(connection.root).reply)
    assert pointer.root_x >= 1280
    assert pointer.root_y >= 720


@pytest.mark.long
async def test_opening_should_leave_nothing_when_cancelled_at_any_moment(stages: Path) -> None:
    async def hold() -> None:
        async with open_stage(320, 180, 30):
            await asyncio.sleep(60)

    for moment in range(10):
        opening = asyncio.ensure_future(hold())
        # The stage stands after 0.6 to 1.5 s, as busy as the machine is.
        await asyncio.sleep(moment * 0.11)
        opening.cancel()
        with suppress(asyncio.CancelledError):
            await opening
        await nothing_left(stages)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_killed_owner_should_leave_a_directory_for_the_sweep_and_no_programs(stages: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER),
        cwd=Path(recording_farm.__file__).parents[1],
        env=os.environ | {"TMPDIR": str(stages)},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert owner.stdout is not None
        directory = Path((await asyncio.wait_for(owner.stdout.readline(), 30)).decode().strip())
        programs = psutil.Process(owner.pid).children(recursive=True) + programs_of(directory)
        names = {program.name() for program in programs}
        assert {"Xorg", "pulseaudio", "chromium"} < names
        assert any("node" in name for name in names)
        # What Chromium makes for itself goes with the stage.
        assert any("org.chromium" in path.name for path in (directory / "home").iterdir())
        assert clean_up_stages(stages) == 0
    finally:
        owner.kill()
        await owner.wait()
    await until(lambda: not alive(programs), 5, "all programs have died")
    await until(lambda: not programs_of(directory), 5, "none started meanwhile")
    assert clean_up_stages(stages) == 1
    assert left_in(stages) == []


async def test_two_stages_should_not_hear_each_other(stages: Path) -> None:
    first, second = open_stage(320, 180, 30), open_stage(320, 180, 30)
    one, other = await asyncio.gather(first.__aenter__(), second.__aenter__())
    try:
        assert one.display.name != other.display.name
        await one.browser.page.evaluate(TONE)
        here, there = await asyncio.gather(listen(one.audio, 0.4), listen(other.audio, 0.4))
        assert float(np.abs(here).max()) > 0.3
        assert len(there) > 0
        assert float(np.abs(there).max()) == 0
    finally:
        await asyncio.gather(first.__aexit__(None, None, None), second.__aexit__(None, None, None))
    await nothing_left(stages)


async def test_death_of_a_part_should_be_noticed_and_the_rest_closed(stages: Path) -> None:
    async with open_stage(320, 180, 30) as stage:
        death = asyncio.ensure_future(stage.died())
        await asyncio.sleep(0)
        os.kill(stage.audio.daemon.pid, 9)
        assert "PulseAudio ended with -9" in str(await asyncio.wait_for(death, 2))
        os.kill(stage.display.server.pid, 9)
        assert "Xorg ended with -9" in str(await asyncio.wait_for(stage.display.server.died(), 2))
    await nothing_left(stages)


async def test_missing_chromium_should_be_named_and_leave_nothing(stages: Path) -> None:
    with pytest.raises(ProgramNotFoundError, match="apt-get install chromium"):
        async with open_stage(320, 180, 30, chromium=stages / "missing"):
            pass
    await nothing_left(stages)


async def test_chromium_that_does_not_start_should_be_reported_in_its_words(
    stages: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho cannot see the screen >&2\nexit 7\n")
    broken.chmod(0o700)
    with pytest.raises(StageError, match=r"(?s)Chromium did not start: .*cannot see the screen"):
        async with open_stage(320, 180, 30, chromium=broken):
            pass
    await nothing_left(stages)


@pytest.mark.parametrize(
    ("module", "writing"),
    [(stage_module, "write_owner"), (display, "xorg_configuration"), (browser, "write_launcher")],
    ids=["stage", "display", "browser"],
)
async def test_full_disk_should_be_reported_as_a_failing_part(
    stages: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, writing: str
) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, writing, full)
    with pytest.raises(StageError, match="No space left on device"):
        async with open_stage(320, 180, 30):
            pass
    await nothing_left(stages)


async def test_temporary_directory_that_is_gone_should_be_a_fault_of_the_stage(
    stages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(stages / "gone"))
    with pytest.raises(StageError, match="No such file or directory"):
        async with open_stage(320, 180, 30):
            pass
    assert left_in(stages) == []


async def test_slow_closing_should_not_end_a_driver_that_was_handed_on(
    stages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_stage(320, 180, 30) as stage:
        driver, pid = stage.driver.transfer(), stage.browser.driver_pid
        monkeypatch.setattr(browser, "CLOSE_TIMEOUT", 0)
    # Chromium's crash handlers see by themselves that it is gone.
    await until(lambda: not programs_of(stage.directory), 5, "nothing is left")
    async with open_stage(320, 180, 30, driver=driver) as other:
        assert other.browser.driver_pid == pid
        assert await other.browser.is_responsive()
    await nothing_left(stages)


@pytest.mark.usefixtures("stages")
async def test_stage_that_cannot_be_watched_should_count_as_dead() -> None:
    async with open_stage(320, 180, 30) as stage:
        stage.display.authority.unlink()
        assert "cannot monitor" in str(await asyncio.wait_for(stage.died(), 10))
