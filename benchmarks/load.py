"""Load: what one recording costs, and whether two at once keep every frame."""

import asyncio
import os
import resource
import subprocess
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from benchmarks.peer import record_their_way
from benchmarks.recordings import record
from recording_farm.encoder.formats import Codec, Format
from testkit.fidelity.measure import measure
from testkit.machine.load import Stolen

SECONDS = 40
WARM_UP = 10.0
WATCHED = 25.0

T = TypeVar("T")


@dataclass(frozen=True)
class Usage:
    """What a process tree used: shares of a core by program, and its memory in MB (shared pages once)."""

    cores: dict[str, float]
    megabytes: float

    def summary(self) -> str:
        """One line of figures."""
        parts = ", ".join(f"{name} {share:.2f}" for name, share in sorted(self.cores.items()))
        return f"{sum(self.cores.values()):.2f} of a core ({parts}), {self.megabytes:.0f} MB"


def run(directory: Path) -> Iterator[str]:
    """One recording in each format, with all its programs, beside what the machine is worth at the moment."""
    yield f"reference, 8 s of 720p30 by x264 veryfast on one thread: {_reference():.2f} s of a core"
    for codec in Codec:
        stolen = Stolen.from_now()
        _, usage = asyncio.run(watch_usage(record(directory, Format(codec), SECONDS)))
        share = stolen.share()
        yield f"one recording, 1280x720 at 30 fps, {codec.value}: {usage.summary()}; steal {share:.1%}"
    stolen = Stolen.from_now()
    _, usage = asyncio.run(watch_usage(record_their_way(directory / "peer.mp4", SECONDS)))
    yield f"the same the peers' way, H264: {usage.summary()}; steal {stolen.share():.1%}"


def _reference() -> float:
    """Processor time of a fixed piece of work: where cores are shared, it differs from hour to hour."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    source = "testsrc2=size=1280x720:rate=30:duration=8,format=yuv420p"
    encoder = ["-c:v", "libx264", "-preset", "veryfast", "-threads", "1"]
    command = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", source, *encoder, "-f", "null", "-"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run_two(directory: Path) -> Iterator[str]:
    """Two recordings at once."""
    for codec in Codec:
        stolen = Stolen.from_now()
        files = asyncio.run(_record_two(directory, codec))
        share = stolen.share()
        for number, file in enumerate(files, 1):
            summary = measure(file).after(1).summary()
            yield f"{codec.value}, {number} of 2 at once: {summary}; steal {share:.1%}"


async def watch_usage(work: Coroutine[Any, Any, T]) -> tuple[T, Usage]:
    """Do something that takes longer than warming up and watching, and what it used meanwhile."""
    recording = asyncio.create_task(work)
    await asyncio.sleep(WARM_UP)
    before, began = _cpu_seconds(), time.monotonic()
    await asyncio.sleep(WATCHED)
    after, elapsed = _cpu_seconds(), time.monotonic() - began
    megabytes = sum(process.memory_full_info().pss for process in _tree()) / 1e6
    result = await recording
    names = {name for _, name in after}
    return result, Usage(
        {
            name: sum(
                seconds - before.get((pid, name), 0.0) for (pid, n), seconds in after.items() if n == name
            )
            / elapsed
            for name in names
        },
        megabytes,
    )


def _tree() -> list[psutil.Process]:
    return [psutil.Process(), *psutil.Process().children(recursive=True)]


def _cpu_seconds() -> dict[tuple[int, str], float]:
    seconds = {}
    for process in _tree():
        times = process.cpu_times()
        name = "recorder" if process.pid == os.getpid() else process.name()
        seconds[process.pid, name] = times.user + times.system
    return seconds


async def _record_two(directory: Path, codec: Codec) -> list[Path]:
    places = [directory / str(number) for number in range(2)]
    for place in places:
        place.mkdir(exist_ok=True)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(record(place, Format(codec), SECONDS)) for place in places]
    return [task.result()[0] for task in tasks]
