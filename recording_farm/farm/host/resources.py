"""Resources of the machine or container: disk, memory and processors, in total and free."""

import os
import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import psutil

_CGROUP: Final = Path("/sys/fs/cgroup")

RECORDING_CORES: Final = Fraction(4, 5)
"""Cores for one recording of 720p30, with headroom for bursts (measured average: 0.62 to 0.66)."""

RECORDING_MEMORY: Final = 1 << 30
"""Bytes for one recording, rounded up (measured: 833 to 861 MB for all its programs)."""

_FARM_MEMORY: Final = 1 << 30
"""Bytes reserved for the farm's own processes and the system."""


@dataclass(frozen=True)
class Free:
    """Free resources: bytes of the spool's disk and of memory, and the share of processor time."""

    disk: int
    memory: int
    processors: float


def cores(cgroup: Path = _CGROUP) -> Fraction:
    """The number of cores available to this process; a container's quota may be fractional.

    From sched_getaffinity(2) and `cpu.max` of cgroup v2.
    """
    here = Fraction(len(os.sched_getaffinity(0)))
    quota, _, period = _first_line(cgroup / "cpu.max").partition(" ")
    return min(here, Fraction(int(quota), int(period))) if quota.isdigit() else here


def memory(cgroup: Path = _CGROUP) -> int:
    """The memory limit in bytes, of the machine or of the container."""
    limit = _first_line(cgroup / "memory.max")
    total = psutil.virtual_memory().total
    return min(total, int(limit)) if limit.isdigit() else total


def slots_for(cores: Fraction, memory: int) -> int:
    """How many recordings a machine can make concurrently without losing frames; at least one."""
    return max(1, min(cores // RECORDING_CORES, (memory - _FARM_MEMORY) // RECORDING_MEMORY))


class Processors:
    """Measures the processor load between two calls."""

    def __init__(self) -> None:
        """Take the first sample."""
        self._last = psutil.cpu_times()
        self._free = 1.0

    def free(self) -> float:
        """The idle share since the last sample; samples are at least a second apart."""
        present = psutil.cpu_times()
        passed = sum(present) - sum(self._last)
        if passed >= (os.cpu_count() or 1):  # one second on each processor
            idle = present.idle + present.iowait - self._last.idle - self._last.iowait
            # iowait may decrease (proc(5)).
            self._free, self._last = max(0.0, idle / passed), present
        return self._free


def free_resources(directory: Path, processors: Processors, cgroup: Path = _CGROUP) -> Free:
    """The free resources, with the disk of `directory`."""
    available = psutil.virtual_memory().available
    limit, used = _first_line(cgroup / "memory.max"), _first_line(cgroup / "memory.current")
    if limit.isdigit() and used.isdigit():
        available = min(available, int(limit) - int(used) + _page_cache(cgroup))
    return Free(shutil.disk_usage(directory).free, available, processors.free())


def _page_cache(cgroup: Path) -> int:
    """Bytes of the page cache that the kernel can reclaim."""
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
