"""The watchdog of a running take: decides from samples, five a second, what is wrong with it.

A sample that comes late, because the machine or the recorder stood still, says nothing about ffmpeg. So a
hang is counted in samples, and of the time between two of them no more counts than two of them should take.
And an ffmpeg that would run if there was a processor for it does not hang: it is too slow, if that lasts.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise

SAMPLE_SECONDS = 0.2
MAX_US = round(2 * SAMPLE_SECONDS * 1_000_000)
FALTERING_SAMPLES = 2
"""ffmpeg tells its progress each 0.1 s; on a busy machine 0.88 s passed without once, in which no sample was
taken either. With twice as many busy programs as processors not one sample of 200 was idle. Five are 1.0 to
1.2 s after the hang, and a take in reserve then begins in 0.1 s."""

HANGING_SAMPLES = 5
SPINNING_SAMPLES = 150
"""No machine is so busy for 30 s; an ffmpeg that runs all the time and gets nowhere hangs, too."""

SLOW = 0.9
"""Too slow is what was below this speed in each fifth of ten seconds: one stall touches two of them at
most."""

FIFTHS = 5
FIFTH_SAMPLES = 10
JUMP_US = 100_000
"""The kernel slews a clock by 0.5 ms in a second at most (adjtimex); more at once is somebody who sets it."""


@dataclass(frozen=True)
class Sample:
    """The time (CLOCK_MONOTONIC), how far the wall clock is ahead of it, and what is encoded; all in µs.

    Whether ffmpeg waits for a processor is known only where nothing was encoded since the last sample.
    """

    monotonic_us: int
    wall_ahead_us: int
    encoded_us: int
    waits_for_processor: bool = False


class Finding(Enum):
    """What is the matter with a take."""

    FALTERING = auto()
    """It may be about to hang."""
    HANGING = auto()
    TOO_SLOW = auto()
    CLOCK_JUMPED = auto()


class Watchdog:
    """Checks the samples of one take, in order."""

    def __init__(self, first: Sample) -> None:
        """`first` is the sample of the take as it has begun."""
        self._last = first
        self._idle_samples = 0
        self._still_samples = 0
        self._counted_us = 0
        self._history = deque([(0, first.encoded_us)], maxlen=FIFTHS * FIFTH_SAMPLES + 1)

    def check(self, sample: Sample) -> Finding | None:
        """What is the matter; None if nothing is."""
        last, self._last = self._last, sample
        still = sample.encoded_us == last.encoded_us
        self._still_samples = self._still_samples + 1 if still else 0
        self._idle_samples = self._idle_samples + 1 if still and not sample.waits_for_processor else 0
        self._counted_us += min(sample.monotonic_us - last.monotonic_us, MAX_US)
        self._history.append((self._counted_us, sample.encoded_us))
        if abs(sample.wall_ahead_us - last.wall_ahead_us) > JUMP_US:
            return Finding.CLOCK_JUMPED
        if self._idle_samples >= HANGING_SAMPLES or self._still_samples >= SPINNING_SAMPLES:
            return Finding.HANGING
        if self.is_slow:
            return Finding.TOO_SLOW
        return Finding.FALTERING if self._idle_samples >= FALTERING_SAMPLES else None

    @property
    def speed(self) -> float:
        """How much of the last ten seconds, or as long as it runs, was encoded."""
        (began, before), (now, encoded) = self._history[0], self._history[-1]
        return (encoded - before) / (now - began) if now > began else 0.0

    @property
    def is_slow(self) -> bool | None:
        """Whether it did not keep up for the last ten seconds; None as long as it has not run for so long."""
        if len(self._history) <= FIFTHS * FIFTH_SAMPLES:
            return None
        marks = [self._history[fifth * FIFTH_SAMPLES] for fifth in range(FIFTHS + 1)]
        fifths = pairwise(marks)
        return all(encoded - before < SLOW * (now - began) for (began, before), (now, encoded) in fifths)
