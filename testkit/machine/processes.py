"""Which programs run: the tests' stages', and those below a process; and how a program of the tests ends."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil


def below(
    pid: int | None = None, *, name: str | None = None, word: str | None = None
) -> list[psutil.Process]:
    """What runs below a process, at any depth; below this one if none is given.

    A program may end while it is looked at: one that has ended, or waits for its parent, is left out.

    Args:
        name: what the program is called, as `ps` shows it
        word: a word of its command line
    """
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):
            if (
                process.status() != psutil.STATUS_ZOMBIE
                and name in {None, process.name()}
                and (word is None or word in process.cmdline())
            ):
                found.append(process)
    return found


def words_of(process: psutil.Process) -> list[str]:
    """The command line; empty for a process that has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def stage_programs() -> list[str]:
    """The command lines of all running programs that belong to a stage of this test run, or record one.

    Stages that wait for a recording do not count: the farm that is shared by the tests has some.
    """
    stages = f"{tempfile.gettempdir()}/farm-stage-"
    waiting = _waiting_stages()
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            said = [*words, *process.environ().values()]
        except psutil.Error:
            continue
        if any(stages in word and not any(one in word for one in waiting) for word in said):
            found.append(" ".join(words)[:200])
    return found


def _waiting_stages() -> list[str]:
    waiting = []
    for directory in Path(tempfile.gettempdir()).glob("farm-stage-*"):
        with suppress(OSError, ValueError, psutil.Error):
            owner = int((directory / "owner").read_text().split()[0])
            if psutil.Process(owner).name() == "farm warm":
                waiting.append(str(directory))
    return waiting


def wait_until_none(timeout: float = 10) -> list[str]:
    """Wait until no such program runs; returns those that still do after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while (found := stage_programs()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def end_on_sigterm() -> None:
    """Have SIGTERM end this program like an error does: every block is left, and ends what it has started."""

    def end(sign: int, _: FrameType | None) -> None:
        signal.signal(sign, signal.SIG_IGN)  # a second one would break off the ending
        sys.exit(128 + sign)

    signal.signal(signal.SIGTERM, end)


def encoder(pid: int | None = None) -> psutil.Process:
    """The ffmpeg below a process, this one if none is given, that records: it uses the processor most."""
    return max(below(pid, name="ffmpeg"), key=lambda process: sum(process.cpu_times()[:2]))


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; one that has ended and waits for its parent counts as ended."""
    left = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process)
        except psutil.NoSuchProcess:
            pass
    return left


def programs_of(directory: Path) -> list[psutil.Process]:
    """All programs that were started for the stage in `directory`."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(directory) in word for word in [*process.cmdline(), *process.environ().values()]):
                found.append(process)
        except psutil.Error:
            pass
    return alive(found)


# Programs of other tests' fixtures, which run for the whole session.
CHILDREN_BEFORE: set[psutil.Process] = set()


def our_children() -> list[psutil.Process]:
    """All children of this process that the running test has started, with theirs, zombies too."""
    children = [child for child in psutil.Process().children() if child not in CHILDREN_BEFORE]
    return [*children, *(grandchild for child in children for grandchild in child.children(recursive=True))]


async def run(*argv: str, env: Mapping[str, str], timeout: float = 20) -> tuple[int, bytes, str]:
    """Run a program; its code, its output and what it complained about."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        env={"PATH": os.environ["PATH"], **env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout):
            output, complaints = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output, complaints.decode(errors="replace")
