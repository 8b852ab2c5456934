"""The clock of a take: when Chromium composes frames, and at which phase the display may be grabbed.

Chromium composes a frame at each multiple of the frame period on CLOCK_MONOTONIC (whole microseconds,
measured over 45 s: phase 0). x11grab grabs once a period too, counted from when it opened the display. The
distance between the two is the take's phase; it stays what it was at the start. Grabbing too soon after
composing sees a half-made frame or the one before, and frames are doubled and lost.
"""

import time
from dataclasses import dataclass

READINGS = 5
PROMPT_NS = 50_000


@dataclass(frozen=True)
class Window:
    """Where in the period (µs after composing) grabs are safe: `first` to `last`, best at `aim`."""

    first: int
    last: int

    @property
    def aim(self) -> int:
        """The middle, furthest from both ends."""
        return (self.first + self.last) // 2

    def __contains__(self, phase: int) -> bool:
        """Whether grabs at this phase are safe."""
        return self.first <= phase <= self.last


def safe_window(period_us: int) -> Window:
    """The phases that are safe for a period.

    At 33333 µs 8 to 27 ms were measured safe over 24 takes; shorter periods keep the same shares of it.
    """
    return Window(min(8_000, period_us * 24 // 100), period_us - min(6_000, period_us * 18 // 100))


def phase(monotonic_us: int, period_us: int) -> int:
    """How long after the last composing instant a moment is, in µs."""
    return monotonic_us % period_us


def monotonic_of_wall(wall_us: int) -> int:
    """The CLOCK_MONOTONIC time of a recent wall-clock time, both in µs.

    ffmpeg stamps by the wall clock, Chromium composes by the monotonic one; they are compared now, which
    holds as long as nobody sets the wall clock in between.
    """
    return wall_us - wall_ahead_us()


def wall_ahead_us() -> int:
    """How far the wall clock is ahead of CLOCK_MONOTONIC, in µs.

    The two cannot be read at once; of a few readings the one counts that took least.
    """
    readings = []
    for _ in range(READINGS):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        readings.append((after - before, wall - (before + after) // 2))
        if after - before < PROMPT_NS:
            break
    return min(readings)[1] // 1000


def wait_us(now_us: int, delay_us: int, aim_us: int, period_us: int) -> int:
    """How long to wait so that what happens `delay_us` after the wait comes at the phase `aim_us`."""
    return (aim_us - now_us - delay_us) % period_us
