"""CPU and memory use of a stage's processes, from proc(5)."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """One process: its memory in bytes, the processor time it has used so far in seconds, and its state.

    The memory is its proportional share (PSS), so that the sum counts what several share once. Chromium's
    sandbox hides it; such a process counts with what it shares with none.
    """

    pid: int
    name: str
    state: str
    memory: int
    cpu_seconds: float


def group_of(leader: int) -> list[int]:
    """The processes of a process group."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _group(pid) == leader]


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def usage_of(pids: Iterable[int]) -> list[Usage]:
    """What processes use; those that have ended are left out."""
    return [usage for pid in pids if (usage := _usage(Path(f"/proc/{pid}"))) is not None]


def _usage(process: Path) -> Usage | None:
    try:
        # The name, in brackets, may hold spaces and brackets itself.
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
