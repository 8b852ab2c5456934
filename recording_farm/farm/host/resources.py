"""The machine a node runs on: what it has, and what of it is free now."""

import os
import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import psutil

_CGROUP: Final = Path("/sys/fs/cgroup")

RECORDING_CORES: Final = Fraction(4, 5)
"""Of a core, what one recording of 720p30 takes with room for bursts (measured: 0.62 to 0.66 in the mean)."""

RECORDING_MEMORY: Final = 1 << 30
"""Bytes one recording takes, rounded up (measured: 833 to 861 MB, all its programs)."""

_FARM_MEMORY: Final = 1 << 30
"""Bytes left to the rest: the farm's own processes and the system."""


@dataclass(frozen=True)
class Free:
    """What is free: bytes of the spool's disk and of memory, and the share of the processors' time."""

    disk: int
    memory: int
    processors: float


def cores(cgroup: Path = _CGROUP) -> Fraction:
    """How many processors this process may use; a container's share need not be a whole one.

    As the kernel tells it: sched_getaffinity(2) and `cpu.max` of cgroup v2.
    """
    here = Fraction(len(os.sched_getaffinity(0)))
    quota, _, period = _first_line(cgroup / "cpu.max").partition(" ")
    return min(here, Fraction(int(quota), int(period))) if quota.isdigit() else here


def memory(cgroup: Path = _CGROUP) -> int:
    """How much memory in bytes this process may use, of the machine's or of its container's."""
    limit = _first_line(cgroup / "memory.max")
    total = psutil.virtual_memory().total
    return min(total, int(limit)) if limit.isdigit() else total


def slots_for(cores: Fraction, memory: int) -> int:
    """How many recordings a machine makes at the same time without losing frames; one at least."""
    return max(1, min(cores // RECORDING_CORES, (memory - _FARM_MEMORY) // RECORDING_MEMORY))


class Processors:
    """Tells how busy the processors are, from one look to the next."""

    def __init__(self) -> None:
        """Begin to look."""
        self._last = psutil.cpu_times()
        self._free = 1.0

    def free(self) -> float:
        """The share of their time that was free lately; over less than a second it would be chance."""
        present = psutil.cpu_times()
        passed = sum(present) - sum(self._last)
        if passed >= (os.cpu_count() or 1):  # a second of each
            idle = present.idle + present.iowait - self._last.idle - self._last.iowait
            self._free, self._last = idle / passed, present
        return self._free


def free_resources(directory: Path, processors: Processors, cgroup: Path = _CGROUP) -> Free:
    """What is free now, the disk being that of `directory`."""
    available = psutil.virtual_memory().available
    limit, used = _first_line(cgroup / "memory.max"), _first_line(cgroup / "memory.current")
    if limit.isdigit() and used.isdigit():
        available = min(available, int(limit) - int(used) + _page_cache(cgroup))
    return Free(shutil.disk_usage(directory).free, available, processors.free())


def _page_cache(cgroup: Path) -> int:
    """Bytes of files kept in memory, which the kernel gives up when it needs them."""
    try:
        lines = (cgroup / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))


def _first_line(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
