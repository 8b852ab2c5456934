"""Fidelity: is every frame of the page in the file once, and sound with its picture?"""

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from benchmarks.recordings import record
from recording_farm.encoder.formats import Codec, Format
from recording_farm.farm.recording.commands import Command
from testkit.fidelity.measure import PROMISED, measure
from testkit.machine.load import StealWatch, Stolen

SECONDS = 60
TIMES = 3
# Frame numbers that are further apart than this are those before and behind the pause.
JUMP = 30
# A fault may come of so much time that the hypervisor took away this close to it; less costs no frame.
NEAR_NS = 150_000_000
STOLEN_SECONDS = 0.02


def run(directory: Path) -> Iterator[str]:
    """Record a minute three times in a row in each format."""
    for codec in Codec:
        for number in range(1, TIMES + 1):
            stolen = Stolen.from_now()
            with StealWatch() as watch:
                file, starts = asyncio.run(record(directory, Format(codec), SECONDS))
            share = stolen.share()
            fidelity = measure(file).after(1)
            began = starts.takes[0].monotonic_us * 1000
            times = fidelity.fault_times
            excused = sum(
                watch.seconds_near(began + round(time * 1e9), NEAR_NS) >= STOLEN_SECONDS for time in times
            )
            verdict = "; ".join(fidelity.faults(PROMISED)) or "as promised"
            yield (
                f"{codec.value} {number}: {fidelity.summary()}; phase {starts.phases_us} µs; "
                f"steal {share:.1%}; {excused} of {len(times)} faults beside stolen time; {verdict}"
            )


def run_pause(directory: Path) -> Iterator[str]:
    """Record 20 s, pause for 5 s, and record 20 s more."""
    schedule = [(22.0, Command.PAUSE), (5.0, Command.RESUME)]
    for codec in Codec:
        stolen = Stolen.from_now()
        file, starts = asyncio.run(record(directory, Format(codec), 40, schedule))
        share = stolen.share()
        fidelity = measure(file).after(1)
        jumps = [b - a for a, b in pairwise(fidelity.numbers) if b - a > JUMP]
        missing = fidelity.missing - sum(jump - 1 for jump in jumps)
        yield (
            f"{codec.value}: {len(fidelity.numbers)} frames, {missing} missing, {fidelity.doubled} doubled, "
            f"pause of {[jump / 30 for jump in jumps]} s left out; A/V mean "
            f"{1e3 * fidelity.mean_offset:+.1f} ms, worst {1e3 * fidelity.worst_offset:.1f} ms; "
            f"{fidelity.duration:.3f} s; phases {starts.phases_us} µs; steal {share:.1%}"
        )
