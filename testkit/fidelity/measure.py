"""Reads a recording of `page.html`: the frame numbers in it, and how far each beep is from its flash."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

import av
import numpy as np
from numpy.typing import NDArray

Luma = NDArray[np.uint8]

BITS = 20
BRIGHT = 128
SAMPLE_RATE = 48_000
# The beep is 0.8 of full scale and begins at its peak; encoders smear its attack over part of a millisecond.
BEEP_LEVEL = 0.25
BEEP_GAP = 0.5


@dataclass(frozen=True)
class Limits:
    """How many frames may be missing or doubled, and what events may be off, in mean and each (seconds)."""

    frames: int
    mean: float
    worst: float


PROMISED = Limits(frames=0, mean=0.010, worst=0.020)
"""What the project promises of a quiet machine; `benchmarks` holds against it."""


@dataclass(frozen=True)
class Fidelity:
    """What a recording has of the page. Times in seconds.

    `events` has the number of each frame that begins a flash, and how much later its beep is (negative where
    the sound comes first).
    """

    numbers: list[int]
    times: list[float]
    events: dict[int, float]
    duration: float

    def after(self, seconds: float) -> "Fidelity":
        """The same without the beginning."""
        kept = [(n, t) for n, t in zip(self.numbers, self.times, strict=True) if t >= seconds]
        return Fidelity([n for n, _ in kept], [t for _, t in kept], self.events, self.duration)

    @property
    def offsets(self) -> list[float]:
        """How much later than its flash each beep is."""
        return list(self.events.values())

    @property
    def doubled(self) -> int:
        """Frames that show the same number as the one before."""
        return sum(b == a for a, b in pairwise(self.numbers))

    @property
    def missing(self) -> int:
        """Numbers that no frame shows although a later one does."""
        return sum(max(0, b - a - 1) for a, b in pairwise(self.numbers))

    @property
    def fault_times(self) -> list[float]:
        """When frames are missing or doubled, in seconds of the file."""
        changes = zip(pairwise(self.numbers), self.times[1:], strict=True)
        return [time for (a, b), time in changes if b != a + 1]

    def faults(self, limits: "Limits") -> list[str]:
        """What is wrong with it; nothing, if it keeps to the limits."""
        found = []
        if self.missing + self.doubled > limits.frames:
            found.append(f"{self.missing} frames missing, {self.doubled} doubled")
        if len(self.offsets) < int(self.duration) - 1:
            found.append(f"{len(self.offsets)} events in {self.duration:.1f} s")
        elif abs(self.mean_offset) > limits.mean or self.worst_offset > limits.worst:
            found.append(f"A/V mean {self.mean_offset:+.3f} s, worst {self.worst_offset:.3f} s")
        return found

    @property
    def mean_offset(self) -> float:
        """The mean of all events' offsets."""
        return mean(self.offsets)

    @property
    def median_offset(self) -> float:
        """The offset in the middle: one late flash does not change it."""
        return median(self.offsets)

    @property
    def worst_offset(self) -> float:
        """The largest distance of any one event."""
        return max(abs(offset) for offset in self.offsets)

    def summary(self) -> str:
        """One line of figures."""
        return (
            f"{len(self.numbers)} frames, {self.missing} missing, {self.doubled} doubled; "
            f"{len(self.offsets)} events, A/V mean {1e3 * self.mean_offset:+.1f} ms, "
            f"from {1e3 * min(self.offsets):+.1f} to {1e3 * max(self.offsets):+.1f} ms; {self.duration:.3f} s"
        )


def measure(file: Path) -> Fidelity:
    """Decode the whole file and read it."""
    numbers, times, flashes, video_end = _read_picture(file)
    beeps = _read_beeps(file)
    events = {number: beep - flash for flash, number in flashes for beep in beeps if abs(beep - flash) < 0.4}
    return Fidelity(numbers, times, events, video_end)


def _read_picture(file: Path) -> tuple[list[int], list[float], list[tuple[float, int]], float]:
    numbers: list[int] = []
    times: list[float] = []
    flashes: list[tuple[float, int]] = []
    lit = False
    with av.open(str(file)) as source:
        stream = source.streams.video[0]
        for frame in source.decode(stream):
            luma: Luma = frame.to_ndarray(format="gray").astype(np.uint8, copy=False)
            time = float(_start(frame))
            numbers.append(number_in(luma))
            times.append(time)
            flash = luma[luma.shape[0] // 4, luma.shape[1] // 2] > BRIGHT
            # A flash that was on when the recording began has no beginning in it.
            if flash and not lit and len(times) > 1:
                flashes.append((time, numbers[-1]))
            lit = bool(flash)
        end = float(source.duration or 0) / av.time_base
    return numbers, times, flashes, end


def _start(frame: av.VideoFrame | av.AudioFrame) -> Fraction:
    assert frame.pts is not None
    assert frame.time_base is not None
    return frame.pts * frame.time_base


def number_in(luma: Luma) -> int:
    height, width = luma.shape
    row = luma[height * 5 // 8]
    bar = width / BITS
    return sum(1 << (BITS - 1 - bit) for bit in range(BITS) if row[int((bit + 0.5) * bar)] > BRIGHT)


def _read_beeps(file: Path) -> list[float]:
    beeps: list[float] = []
    with av.open(str(file)) as source:
        stream = source.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        for frame in source.decode(stream):
            start = _start(frame)
            samples = np.concatenate([part.to_ndarray()[0] for part in resampler.resample(frame)])
            for index in np.flatnonzero(np.abs(samples) > BEEP_LEVEL):
                time = float(start + Fraction(int(index), SAMPLE_RATE))
                if not beeps or time - beeps[-1] > BEEP_GAP:
                    beeps.append(time)
    return beeps


if __name__ == "__main__":
    import sys

    for name in sys.argv[1:]:
        print(name, measure(Path(name)).after(1).summary())
