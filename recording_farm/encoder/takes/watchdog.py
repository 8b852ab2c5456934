"""The watchdog of a running take: finds hangs and slowness in its samples, five a second.

A late sample, from a machine or recorder that stood still, says nothing about ffmpeg. So a hang is counted
in samples, and the time between two samples counts as two intervals at most. An ffmpeg that waits for a
processor does not hang; if that lasts, it is too slow.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise

SAMPLE_SECONDS = 0.2
MAX_US = round(2 * SAMPLE_SECONDS * 1_000_000)
FALTERING_SAMPLES = 2
"""ffmpeg reports its progress each 0.1 s; on a busy machine 0.88 s once passed without, and without a sample
too. With twice as many busy programs as processors not one sample of 200 was idle. Five are 1.0 to
1.2 s after the hang, and a take in reserve then begins in 0.1 s."""

HANGING_SAMPLES = 5
SPINNING_SAMPLES = 150
"""No machine is so busy for 30 s; an ffmpeg that runs all the time and gets nowhere hangs, too."""

SLOW = 0.9
"""A take is too slow if it was below this speed in each fifth of ten seconds: one stall touches two of them
at most."""

FIFTHS = 5
FIFTH_SAMPLES = 10
JUMP_US = 100_000
"""The kernel slews a clock by 0.5 ms in a second at most (adjtimex); a larger step was set."""


@dataclass(frozen=True)
class Sample:
    """The time (CLOCK_MONOTONIC), the lead of the wall clock, and the encoded time; all in µs.

    `waits_for_processor` is set only if nothing was encoded since the last sample.
    """

    monotonic_us: int
    wall_ahead_us: int
    encoded_us: int
    waits_for_processor: bool = False


class Finding(Enum):
    """A fault of a take."""

    FALTERING = auto()
    """It may be about to hang."""
    HANGING = auto()
    TOO_SLOW = auto()
    CLOCK_JUMPED = auto()


class Watchdog:
    """Checks the samples of one take, in order."""

    def __init__(self, first: Sample) -> None:
        """`first` is the sample at the start of the take."""
        self._last = first
        self._idle_samples = 0
        self._still_samples = 0
        self._counted_us = 0
        self._history = deque([(0, first.encoded_us)], maxlen=FIFTHS * FIFTH_SAMPLES + 1)

    def check(self, sample: Sample) -> Finding | None:
        """The fault that the sample shows; None if there is none."""
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
        """The encoded share of the last ten seconds, or of a shorter run."""
        (began, before), (now, encoded) = self._history[0], self._history[-1]
        return (encoded - before) / (now - began) if now > began else 0.0

    @property
    def is_slow(self) -> bool | None:
        """Whether it was too slow for the last ten seconds; None in a shorter run."""
        if len(self._history) <= FIFTHS * FIFTH_SAMPLES:
            return None
        marks = [self._history[fifth * FIFTH_SAMPLES] for fifth in range(FIFTHS + 1)]
        fifths = pairwise(marks)
        return all(encoded - before < SLOW * (now - began) for (began, before), (now, encoded) in fifths)
