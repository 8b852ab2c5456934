"""The box of a stage: the limits of its disk, memory and processes.

Where the machine allows it, the kernel enforces them (`enter_box`, `control_group`). The stage also looks at
its use each second, which is all that enforces a limit elsewhere.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Final

from recording_farm.browser_bot.errors import StageLimitError
from recording_farm.browser_bot.stage import enter_box
from recording_farm.browser_bot.stage.process_usage import read_counts
from recording_farm.browser_bot.stage.programs import child_environment

FULL: Final = 0.95
"""Share of the disk from which it counts as full. Chromium's own limits, which a page notices as an error,
are far below; see `storage_switches`."""

MAX_TASKS: Final = 2000
"""Processes and threads of a stage. A meeting of 25 people has 300."""

_CHECK_TIMEOUT: Final = 10.0
_QUOTA: Final = 0.8
_CACHE: Final = 0.1


class Resource(StrEnum):
    """What a stage has a limit of."""

    DISK = "disk"
    MEMORY = "memory"
    TASKS = "tasks"


@dataclass(frozen=True)
class StageLimits:
    """Limits of a stage: bytes of disk and memory, and tasks (processes and threads). 0 means no limit."""

    disk: int = 0
    memory: int = 0
    tasks: int = 0


NO_LIMITS: Final = StageLimits()


@dataclass(frozen=True)
class BoxUse:
    """What a stage uses now. Memory includes the files of a box, which are in memory."""

    disk: int
    files: int
    memory: int
    tasks: int


def box_command(directory: Path, limits: StageLimits, group: Path | None = None) -> list[str]:
    """Return the words that start a program in the box of the stage in `directory`; the program follows."""
    sizes = map(str, (limits.disk, limits.memory, limits.tasks))
    return [
        *(sys.executable, "-I", "-S", enter_box.__file__),
        *(str(directory), *sizes, str(group or "")),
    ]


@cache
def why_not_mountable() -> str:
    """Return why this machine allows a stage no disk of its own; empty if it does. Takes 0.1 s, once."""
    command = [sys.executable, "-I", "-S", enter_box.__file__, enter_box.CHECK]
    try:
        done = subprocess.run(
            command,
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=_CHECK_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stdout or done.stderr).strip() or "refused"


def space_on_disk(limits: StageLimits, stages: int, other: Path) -> int:
    """Return the bytes that so many stages may still take from the disk of `other`; 0 if they have their own.

    Raises OSError if the disk cannot be read.
    """
    same_disk = Path(tempfile.gettempdir()).stat().st_dev == other.stat().st_dev
    return limits.disk * stages if same_disk and why_not_mountable() else 0


def storage_switches(limits: StageLimits) -> tuple[list[str], list[str]]:
    """Return Chromium's switches, and the features to enable, so that a page meets its own limits first.

    A page whose storage is full gets a QuotaExceededError. (StorageQuotaSettings in Chromium's
    quota_features.cc; one origin may use three quarters of the pool.)
    """
    if not limits.disk:
        return [], []
    pool = int(limits.disk * _QUOTA)
    quota = f"StorageQuotaSettings:PoolSizeBytes/{pool}/MustRemainAvailableBytes/0"
    cache = int(limits.disk * _CACHE)
    return [f"--disk-cache-size={cache}", f"--media-cache-size={cache}"], [quota]


class Box:
    """The box of a running stage; `browser` is the process that lives in it."""

    def __init__(self, directory: Path, limits: StageLimits, browser: int) -> None:
        """Look into the report of `enter_box`."""
        self.limits = limits
        self._home = directory / enter_box.HOME
        self._root = Path(f"/proc/{browser}/root")
        try:
            self.reason = (directory / enter_box.REPORT).read_text()
        except OSError as error:
            self.reason = str(error)

    @property
    def is_mounted(self) -> bool:
        """Whether the disk is a tmpfs of its own; else `reason` says why not."""
        return not self.reason

    def use(self, programs: Iterable[int]) -> BoxUse:
        """Return what the stage uses, of which `programs` are all processes. Blocks for some ms.

        Raises OSError if the browser is gone.
        """
        memory, tasks = read_counts(programs)
        if self.is_mounted:
            disk, files = _mounted(f"{self._root}{self._home}")
            shared, _ = _mounted(f"{self._root}{enter_box.SHARED_MEMORY}")
            return BoxUse(disk, files, memory + disk + shared, tasks)
        disk, files = directory_size(self._home, enter_box.MAX_FILES)
        return BoxUse(disk, files, memory, tasks)


def _mounted(path: str) -> tuple[int, int]:
    """Return the bytes and files of a tmpfs."""
    about = os.statvfs(path)
    return (about.f_blocks - about.f_bfree) * about.f_frsize, about.f_files - about.f_ffree


def directory_size(directory: Path, most: int) -> tuple[int, int]:
    """Return the bytes on disk and the number of files in a directory; stops counting after `most` files."""
    size = count = 0
    waiting = [str(directory)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    count += 1
                    if count > most:
                        return size, count
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:  # the browser has just deleted it
            continue
    return size, count


def broken_limit(use: BoxUse, limits: StageLimits) -> Resource | None:
    """Return the limit that a stage breaks, if it does."""
    if limits.disk and (use.disk >= limits.disk * FULL or use.files >= enter_box.MAX_FILES * FULL):
        return Resource.DISK
    if limits.memory and use.memory > limits.memory:
        return Resource.MEMORY
    if limits.tasks and use.tasks > limits.tasks:
        return Resource.TASKS
    return None


def is_near(use: BoxUse, limits: StageLimits) -> bool:
    """Whether a stage may break a limit within a second, which is to be looked at more often."""
    return (
        bool(limits.memory and use.memory > limits.memory / 2)
        or bool(limits.disk and use.disk > limits.disk / 2)
        or bool(limits.tasks and use.tasks > limits.tasks / 2)
    )


_SENTENCES: Final = {
    Resource.DISK: "the page filled the stage's disk (FARM_STAGE_DISK)",
    Resource.MEMORY: "the page used too much memory (FARM_STAGE_MEMORY)",
    Resource.TASKS: "the page started too many processes and threads",
}


def limit_error(resource: Resource) -> StageLimitError:
    """Return the error of a stage that broke a limit."""
    return StageLimitError(_SENTENCES[resource], resource.value)
