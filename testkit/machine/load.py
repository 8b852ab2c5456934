"""How much of the machine the tests had: a virtual one can have its processors taken away."""

import os
import threading
import time
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")
WATCH_SECONDS = 0.05


@dataclass(frozen=True)
class Stolen:
    """Counts from its making what the hypervisor has taken (`steal` in proc(5))."""

    ticks: int
    began: float

    @classmethod
    def from_now(cls) -> "Stolen":
        """Begin to count."""
        return cls(_ticks(), time.monotonic())

    def seconds(self) -> float:
        """How much time was taken away, of all processors together."""
        return (_ticks() - self.ticks) / os.sysconf("SC_CLK_TCK")

    def share(self) -> float:
        """The share of all processors' time that was taken away."""
        return self.seconds() / ((time.monotonic() - self.began) * (os.cpu_count() or 1))


class StealWatch:
    """Notes, while it is open, when the hypervisor took time away (ns of CLOCK_MONOTONIC) and how much."""

    def __init__(self) -> None:
        """Begin with none noted."""
        self.moments_ns: list[int] = []
        self.ticks: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "StealWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def seconds_near(self, moment_ns: int, within_ns: int) -> float:
        """How much time was taken away about that moment, of all processors together."""
        first = bisect_left(self.moments_ns, moment_ns - within_ns)
        last = bisect_right(self.moments_ns, moment_ns + within_ns)
        return sum(self.ticks[first:last]) / os.sysconf("SC_CLK_TCK")

    def _watch(self) -> None:
        present = _ticks()
        while not self._over.wait(WATCH_SECONDS):
            before, present = present, _ticks()
            if present > before:
                self.moments_ns.append(time.monotonic_ns())
                self.ticks.append(present - before)


def _ticks() -> int:
    return int(STAT.read_text().split()[8])


def patience() -> float:
    """How much longer things may take here, because others use this machine too."""
    return 1.0 + os.getloadavg()[0] / (os.cpu_count() or 1)
