"""`python -m benchmarks` as a program."""

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from testkit.machine.processes import below
from testkit.waiting import wait_until


@pytest.mark.long
def test_benchmark_that_is_ended_should_end_the_farm_that_it_started(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        benchmark = subprocess.Popen([sys.executable, "-m", "benchmarks", "service"], stdout=log, stderr=log)
    started: list[psutil.Process] = []
    try:
        wait_until(lambda: below(benchmark.pid, name="Xorg"))
        started = below(benchmark.pid)
        benchmark.send_signal(signal.SIGTERM)
        assert benchmark.wait(60) == 128 + signal.SIGTERM
        assert [process for process in started if process.is_running()] == []
    finally:
        benchmark.kill()
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()
