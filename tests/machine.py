"""How much of the machine the tests had: a virtual one can have its processors taken away."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Stolen:
    """Counts from its making what the hypervisor has taken (`steal` in proc(5))."""

    ticks: int
    began: float

    @classmethod
    def from_now(cls) -> "Stolen":
        """Begin to count."""
        return cls(_ticks(), time.monotonic())

    def share(self) -> float:
        """The share of all processors' time that was taken away."""
        seconds = (_ticks() - self.ticks) / os.sysconf("SC_CLK_TCK")
        return seconds / ((time.monotonic() - self.began) * (os.cpu_count() or 1))


def _ticks() -> int:
    return int(STAT.read_text().split()[8])
