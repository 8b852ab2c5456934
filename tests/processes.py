"""Which programs of the tests' stages run."""

import tempfile
import time

import psutil


def stage_programs() -> list[str]:
    """The command lines of all running programs that belong to a stage of this test run, or record one."""
    stages = f"{tempfile.gettempdir()}/farm-stage-"
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if any(stages in word for word in words):
            found.append(" ".join(process.cmdline())[:200])
    return found


def wait_until_none(timeout: float = 10) -> list[str]:
    """Wait until no such program runs; returns those that still do after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while (found := stage_programs()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found
