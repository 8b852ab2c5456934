import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recording_farm.browser_bot.stage.autogroup import LOW, NORMAL, lower_session_of, nice_of

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(), reason="the kernel has no autogroups"
)

STEPS = """
import sys
from recording_farm.browser_bot.stage.autogroup import begin_session, raise_session
for step in sys.stdin:
    {"begin": begin_session, "raise": raise_session}[step.strip()]()
    print(flush=True)
"""


@contextmanager
def program(*, leads_session: bool = False) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", STEPS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=leads_session,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def does(process: "subprocess.Popen[str]", step: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    print(step, file=process.stdin, flush=True)
    assert process.stdout.readline() == "\n"


def test_session_should_be_low_until_it_is_raised() -> None:
    ours = nice_of(os.getpid())
    with program() as process:
        does(process, "begin")
        assert (os.getsid(process.pid), nice_of(process.pid)) == (process.pid, LOW)
        does(process, "raise")
        assert nice_of(process.pid) == NORMAL
    assert nice_of(os.getpid()) == ours


def test_session_that_the_farm_did_not_begin_should_not_be_raised() -> None:
    with program(leads_session=True) as terminal:
        lower_session_of(terminal.pid)
        assert nice_of(terminal.pid) == LOW
        does(terminal, "raise")
        assert nice_of(terminal.pid) == LOW


def test_own_session_and_one_that_has_ended_should_not_be_lowered() -> None:
    ours = nice_of(os.getpid())
    lower_session_of(os.getpid())
    with program(leads_session=True) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        lower_session_of(process.pid)
    assert nice_of(os.getpid()) == ours
