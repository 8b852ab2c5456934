"""Soak: one long recording. Does memory grow, do sound and picture drift apart, is every frame there?"""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from pathlib import Path
from statistics import linear_regression, mean, median

import psutil

from benchmarks.recordings import record
from recording_farm.encoder.formats import Format
from recording_farm.encoder.journal import Lag
from testkit.fidelity.measure import Fidelity, measure
from testkit.machine.load import Stolen

HOUR = 3600.0
HOURS = 2.0
STEP_EVENTS = 10
"""The page flashes and beeps once a second."""

NORMAL = 1.4826
"""The standard deviation of normal noise by its median deviation."""

SHARED = "shared pictures"
"""Memory without a file that programs share: pictures between X, ffmpeg and Chromium.

It grows in steps and not for ever: a stall of the machine adds to the pictures that wait for the encoder, up
to `VIDEO_QUEUE_FRAMES`, and the memory of each stays.
"""

SAMPLE_SECONDS = 10.0
MAX_LAGS = 10
WARM_UP = 0.2
"""The share of the time in which programs may still fill their caches; memory is watched after it."""


@dataclass(frozen=True)
class Sample:
    """How much memory each program used, and all as `SHARED`, in bytes, so many seconds after the start."""

    at: float
    memory: Mapping[str, int]

    @property
    def own(self) -> int:
        """That of all programs together, without what they share."""
        return sum(memory for program, memory in self.memory.items() if program != SHARED)


@dataclass(frozen=True)
class Drift:
    """How much later the sound is after each hour, and the standard error of that."""

    ms_an_hour: float
    error: float


def drift_of(offsets: Sequence[float]) -> Drift:
    """The drift in offsets (seconds) that are a second apart.

    A machine that stands still for a moment moves single events by far more than a clock that is wrong in
    minutes. So the offset is the median of ten seconds, and the slope is the median of the slopes between any
    two of these (Theil and Sen); the error is that of a regression with the median deviation from the line.
    """
    steps = [median(offsets[at : at + STEP_EVENTS]) for at in range(0, len(offsets), STEP_EVENTS)]
    pairs = combinations(enumerate(steps), 2)
    slope = median((b - a) / (j - i) for (i, a), (j, b) in pairs)
    line = median(step - slope * i for i, step in enumerate(steps))
    spread = NORMAL * median(abs(step - slope * i - line) for i, step in enumerate(steps))
    error = spread * sqrt(12 / len(steps) ** 3)
    return Drift(*(1e3 * each * HOUR / STEP_EVENTS for each in (slope, error)))


@dataclass(frozen=True)
class Soak:
    """What a long recording showed."""

    fidelity: Fidelity
    samples: Sequence[Sample]
    lags: Sequence[Lag]

    @property
    def drift(self) -> "Drift":
        """How much later the sound comes as time goes by."""
        return drift_of(list(self.fidelity.offsets))

    def growth(self, program: str | None = None) -> float:
        """By how many bytes an hour the memory of a program, or of all, grew once all was warm."""
        warm = self.warm
        used = [sample.own if program is None else sample.memory.get(program, 0) for sample in warm]
        return linear_regression([sample.at for sample in warm], used).slope * HOUR

    @property
    def warm(self) -> Sequence[Sample]:
        """What was sampled once all was warm."""
        return self.samples[round(len(self.samples) * WARM_UP) :]


def run(directory: Path, hours: float = HOURS) -> Iterator[str]:
    """Record the page for so long, and tell what became of it."""
    stolen = Stolen.from_now()
    soak = soak_for(directory, hours * HOUR)
    yield f"{soak.fidelity.summary()} of {hours * HOUR:.0f} s wanted; steal {stolen.share():.1%}"
    yield f"drift {soak.drift.ms_an_hour:+.1f} ms an hour, give or take {soak.drift.error:.1f}"
    lags = ", ".join(f"{lag.us / 1e3:.1f} ms" for lag in soak.lags[:MAX_LAGS])
    yield f"frames were late by {lags or 'what is not known'}, {len(soak.lags)} values in all"
    yield f"memory without what is shared {_memory(soak, None)}"
    for program in sorted({name for sample in soak.warm for name in sample.memory}):
        yield f"… {program} {_memory(soak, program)}"


def _memory(soak: Soak, program: str | None) -> str:
    used = [sample.own if program is None else sample.memory.get(program, 0) for sample in soak.warm]
    tenth = max(1, len(used) // 10)
    return (
        f"{mean(used[:tenth]) / 1e6:.0f} MB, at the end {mean(used[-tenth:]) / 1e6:.0f} MB, "
        f"at most {max(used) / 1e6:.0f} MB; {soak.growth(program) / 1e6:+.1f} MB an hour"
    )


def soak_for(directory: Path, seconds: float) -> Soak:
    """Record the page for so long while the memory of all programs is watched, and measure the file."""
    file, samples, lags = asyncio.run(_record_and_sample(directory, seconds))
    return Soak(measure(file).after(1), samples, lags)


async def _record_and_sample(directory: Path, seconds: float) -> tuple[Path, list[Sample], list[Lag]]:
    began = time.monotonic()
    recording = asyncio.create_task(record(directory, Format(), seconds))
    samples: list[Sample] = []
    while True:
        await asyncio.wait((recording,), timeout=SAMPLE_SECONDS)
        if recording.done():
            file, starts = recording.result()
            # The last one may be of programs that were just ending.
            return file, samples[:-1], [lag for take in starts.journals for lag in take.lags]
        samples.append(Sample(time.monotonic() - began, await asyncio.to_thread(_memory_of_all)))


def _memory_of_all() -> Mapping[str, int]:
    """The proportional share (PSS) of each program by its name, and by `SHARED` what they share."""
    memory: dict[str, int] = defaultdict(int)
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            name = "recorder" if process.pid == os.getpid() else process.name()
            pss, shared = _pss_of(process.pid)
        except (psutil.Error, OSError):
            continue  # it has just ended
        memory[name] += pss - shared
        memory[SHARED] += shared
    return memory


def _pss_of(pid: int) -> tuple[int, int]:
    """Bytes of a process in all, and of these what it shares without a file; proc(5). Raises OSError."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {name: int(size.split()[0]) for name, _, size in (line.partition(":") for line in lines)}
    return 1024 * kilobytes["Pss"], 1024 * kilobytes["Pss_Shmem"]
