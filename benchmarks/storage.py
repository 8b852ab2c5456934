"""S3: how fast a file of 1 GiB arrives, beside public tools, and how much memory its process takes.

Tools that are not there are left out. rclone comes with `make setup-tests`; for Amazon's own:
`python3 -m venv DIR && DIR/bin/pip install awscli`, and DIR/bin on the PATH.
"""

import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import randbytes
from statistics import median

from testkit.machine.load import Stolen
from testkit.network.ports import free_port
from testkit.storage.servers import S3_KEY, S3_SECRET, running, strict_s3_server, wait_for_http

SIZE = 1 << 30
SMALL_SIZE = 10_000_000
ROUNDS = 5
TIMEOUT = 300
_INTERVAL_SECONDS = 0.02
_WRITTEN_BYTES = 1 << 20

_OURS = """
import sys
from pathlib import Path
from recording_farm.farm.storage.backend import Checkpoint
from recording_farm.farm.storage.backends.s3 import S3Backend
from recording_farm.farm.storage.backends.s3_client import S3Bucket
endpoint, key, secret, source, target = sys.argv[1:]
place = S3Backend(S3Bucket("films", key, secret, "us-east-1", endpoint))
place.upload(Path(source), target, Checkpoint(Path(source).with_suffix(".checkpoint")), "video/mp4")
"""


@dataclass(frozen=True)
class Tool:
    """A program that uploads `source` to the object `target`."""

    name: str
    command: list[str]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """How long one upload took in all, and of that how long the processor worked; the most memory it had."""

    seconds: float
    cpu_seconds: float
    peak_mebibytes: float


def run(directory: Path) -> Iterator[str]:
    """Upload the same file with each tool in turn, to a server that discards it and to one that does not."""
    film, small = directory / "film.bin", directory / "small.bin"
    _write(film, SIZE)
    _write(small, SMALL_SIZE)
    for name, command in (
        ("a server that keeps nothing", _sink),
        ("rclone's server", strict_s3_server),
    ):
        data = directory / name.replace(" ", "-")
        (data / "films").mkdir(parents=True)
        with _server(command, data) as endpoint:
            yield from _compared(f"1 GiB to {name}", endpoint, film, ROUNDS)
            yield from _compared(f"10 MB to {name}", endpoint, small, ROUNDS)


def _compared(what: str, endpoint: str, source: Path, rounds: int) -> Iterator[str]:
    stolen = Stolen.from_now()
    tools = list(_tools(endpoint, source))
    runs: dict[str, list[Run]] = {tool.name: [] for tool in tools}
    for _ in range(rounds):
        for tool in tools:
            runs[tool.name].append(_timed(tool))
    medians = {name: median(each.seconds for each in taken) for name, taken in runs.items()}
    best = min((seconds, name) for name, seconds in medians.items() if name != "farm" or len(medians) == 1)
    for name, taken in runs.items():
        yield (
            f"{what}, {name}: median {medians[name]:.2f} s of {rounds} "
            f"({', '.join(f'{each.seconds:.2f}' for each in taken)}), "
            f"processor {median(each.cpu_seconds for each in taken):.2f} s, "
            f"at most {max(each.peak_mebibytes for each in taken):.0f} MiB"
        )
    share = best[0] / medians["farm"]
    yield f"{what}: {share:.0%} of the speed of the best other tool, {best[1]}; steal {stolen.share():.1%}"


def _tools(endpoint: str, source: Path) -> Iterator[Tool]:
    ours = [sys.executable, "-c", _OURS, endpoint, S3_KEY, S3_SECRET, str(source), "ours.bin"]
    yield Tool("farm", ours, {})
    remote = f":s3,provider=Other,access_key_id={S3_KEY},secret_access_key={S3_SECRET},endpoint='{endpoint}':"
    rclone = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if rclone is not None:
        arguments = [
            "--config",
            os.devnull,
            "copyto",
            "--ignore-times",
            str(source),
            f"{remote}films/rclone.bin",
        ]
        yield Tool("rclone", [rclone, *arguments], {})
    aws = shutil.which("aws")
    if aws is not None:
        environment = {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_ACCESS_KEY_ID": S3_KEY,
            "AWS_SECRET_ACCESS_KEY": S3_SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        }
        command = [aws, "--endpoint-url", endpoint, "s3", "cp", "--no-progress", str(source)]
        yield Tool("aws s3 cp", [*command, "s3://films/aws.bin"], environment)


def _timed(tool: Tool) -> Run:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with subprocess.Popen(
        tool.command, stdout=subprocess.DEVNULL, env={**os.environ, **tool.environment}
    ) as process:
        peak = _peak_while_running(process.pid, began + TIMEOUT)
        seconds = time.monotonic() - began
        if process.wait(1) != 0:
            raise RuntimeError(f"{tool.name} failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(seconds, cpu_seconds, peak / 1024)


def _peak_while_running(pid: int, deadline: float) -> int:
    """The most memory (KiB) that a process has until it ends: the kernel's VmHWM, read again and again."""
    ended = os.pidfd_open(pid)
    peak = 0
    try:
        while not select.select([ended], [], [], _INTERVAL_SECONDS)[0]:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
            peak = max(peak, int(found[1]) if found else 0)
    finally:
        os.close(ended)
    return peak


def _write(file: Path, size: int) -> None:
    with file.open("wb") as output:
        for left in range(size, 0, -_WRITTEN_BYTES):
            output.write(randbytes(min(left, _WRITTEN_BYTES)))


def _sink(port: int, _data: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.s3_sink", str(port)]


@contextmanager
def _server(command: Callable[[int, Path], list[str]], data: Path) -> Iterator[str]:
    port = free_port()
    with running(command(port, data), data.with_suffix(".log")) as server:
        endpoint = f"http://127.0.0.1:{port}"
        wait_for_http(endpoint, server)
        yield endpoint
