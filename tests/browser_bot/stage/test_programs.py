import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import psutil
import pytest

from recording_farm.browser_bot.errors import ProgramNotFoundError
from recording_farm.browser_bot.stage import programs
from recording_farm.browser_bot.stage.programs import chromium_path, program_path, start_program, xorg_path
from testkit.machine.processes import alive, our_children
from testkit.waiting import until

PATH = {"PATH": os.environ["PATH"]}

PARENT = """
import asyncio, os, sys
from pathlib import Path
from recording_farm.browser_bot.stage.programs import start_program

async def main():
    environment = {"PATH": os.environ["PATH"]}
    program = await start_program("sleep", ["sleep", "60"], log=Path(sys.argv[1]), env=environment)
    print(program.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_child_should_die_with_its_killed_parent(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, str(tmp_path / "log")),
        cwd=Path(programs.__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert parent.stdout is not None
        child = psutil.Process(int(await asyncio.wait_for(parent.stdout.readline(), 20)))
        # First it is setpriv, which makes itself into the program.
        await until(lambda: child.name() == "sleep", 5, "the child runs")
    finally:
        parent.kill()
        await parent.wait()
    await until(lambda: not alive([child]), 5, "the child has died")


async def test_stop_should_kill_a_group_that_ignores_sigterm(tmp_path: Path) -> None:
    stubborn = ["bash", "-c", "trap '' TERM; echo ready; sleep 60 & wait; sleep 60"]
    program = await start_program("stubborn", stubborn, log=tmp_path / "log", env=PATH)
    await until(lambda: program.log_tail() == "ready", 5, "it runs")
    await until(lambda: len(our_children()) == 2, 5, "its child runs")
    assert all(os.getpgid(process.pid) == program.pid for process in our_children())
    await program.stop(grace=0.2)
    assert program.process.returncode == -signal.SIGKILL
    await until(lambda: our_children() == [], 5, "its child has died")
    await program.stop()


async def test_stop_should_kill_even_when_it_is_cancelled(tmp_path: Path) -> None:
    program = await start_program(
        "stubborn", ["bash", "-c", "trap '' TERM; echo ready; sleep 60"], log=tmp_path / "log", env=PATH
    )
    await until(lambda: program.log_tail() == "ready", 5, "it runs")
    stopping = asyncio.ensure_future(program.stop(grace=30))
    await asyncio.sleep(0.1)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert await asyncio.wait_for(program.process.wait(), 5) == -signal.SIGKILL


async def test_stop_should_let_a_program_end_properly(tmp_path: Path) -> None:
    polite = ["bash", "-c", "trap 'echo bye; exit 0' TERM; echo ready; sleep 60 & wait"]
    program = await start_program("polite", polite, log=tmp_path / "log", env=PATH)
    await until(lambda: program.log_tail() == "ready", 5, "it runs")
    await program.stop()
    assert program.process.returncode == 0
    assert program.log_tail() == "ready\nbye"


async def test_child_should_get_the_given_environment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the parent")
    program = await start_program("env", ["env"], log=tmp_path / "log", env=PATH | {"GIVEN": "1"})
    await program.process.wait()
    assert sorted((tmp_path / "log").read_text().splitlines()) == ["GIVEN=1", f"PATH={PATH['PATH']}"]


async def test_death_should_be_reported_with_the_last_words(tmp_path: Path) -> None:
    program = await start_program(
        "crier", ["bash", "-c", "seq 12; echo oh no >&2; exit 3"], log=tmp_path / "log", env=PATH
    )
    assert str(await program.died()) == "crier ended with 3: 4\n5\n6\n7\n8\n9\n10\n11\n12\noh no"


async def test_program_should_not_inherit_open_files(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w"):
        program = await start_program("ls", ["ls", "/proc/self/fd"], log=tmp_path / "log", env=PATH)
        await program.process.wait()
    # Input, output, complaints, and the directory that ls itself reads.
    assert program.log_tail().split() == ["0", "1", "2", "3"]


@pytest.mark.parametrize(("name", "package"), [("pulseaudio", "pulseaudio"), ("nosuch", "no-such")])
def test_missing_program_should_be_named_with_its_package(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramNotFoundError, match=f"{name} is not installed.*apt-get install {package}"):
        program_path(name, package)


def test_missing_chromium_and_xorg_should_be_named_with_their_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    monkeypatch.setattr(programs, "XORG_PATHS", ())
    with pytest.raises(ProgramNotFoundError, match="apt-get install chromium"):
        chromium_path()
    with pytest.raises(ProgramNotFoundError, match="xserver-xorg-video-dummy"):
        xorg_path()
    with pytest.raises(ProgramNotFoundError, match="FARM_CHROMIUM"):
        chromium_path(tmp_path / "missing")


def test_chromium_should_be_the_configured_one_then_the_systems_then_playwrights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configured = Path(shutil.which("true") or "")
    assert chromium_path(configured) == configured
    downloaded = tmp_path / "chromium-1234/chrome-linux64/chrome"
    downloaded.parent.mkdir(parents=True)
    downloaded.touch(mode=0o700)
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    assert chromium_path() == Path(shutil.which("chromium") or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chromium_path() == downloaded
