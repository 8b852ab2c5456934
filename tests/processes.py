"""Which programs of the tests' stages run."""

import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil


def stage_programs() -> list[str]:
    """The command lines of all running programs that belong to a stage of this test run, or record one.

    Stages that wait for a recording do not count: the farm that is shared by the tests has some.
    """
    stages = f"{tempfile.gettempdir()}/farm-stage-"
    waiting = _waiting_stages()
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if any(stages in word and not any(one in word for one in waiting) for word in words):
            found.append(" ".join(process.cmdline())[:200])
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
