"""CPU and memory use of a stage's processes, from proc(5)."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """The memory (bytes), total CPU time (s) and state of a process.

    Memory is the proportional set size (PSS), so that a sum counts shared memory once. For Chromium's
    sandboxed processes the kernel hides it; their memory is what they share with no other process.
    """

    pid: int
    name: str
    state: str
    memory: int
    cpu_seconds: float


def processes_in_group(group: int) -> list[int]:
    """Return the pids in a process group."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _group(pid) == group]


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def read_usage(pids: Iterable[int]) -> list[Usage]:
    """Return the usage of processes, without those that have ended."""
    return [usage for pid in pids if (usage := _usage(Path(f"/proc/{pid}"))) is not None]


def read_counts(pids: Iterable[int]) -> tuple[int, int]:
    """Return the private memory (bytes) and the tasks of processes together; takes some 20 us for each.

    Memory that processes share is left out, and so are programs and libraries, which are on a disk.
    """
    memory = tasks = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", encoding="ascii") as file:
                _, resident, shared, *_ = file.read().split()
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                tasks += int(file.read().rpartition(")")[2].split()[17])
        except OSError:  # it has ended
            continue
        memory += (int(resident) - int(shared)) * PAGE
    return memory, tasks


def _usage(process: Path) -> Usage | None:
    try:
        # The name, in parentheses, may contain spaces and parentheses itself.
        head, _, tail = (process / "stat").read_text(errors="replace").rpartition(")")
        state, *fields = tail.split()
        seconds = (int(fields[10]) + int(fields[11])) / TICKS
        return Usage(int(process.name), head.partition("(")[2], state, _memory(process), seconds)
    except OSError:
        return None


def _memory(process: Path) -> int:
    try:
        for line in (process / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except PermissionError:
        _, resident, shared, *_ = (process / "statm").read_text().split()
        return (int(resident) - int(shared)) * PAGE
    return 0
