"""Cleanup: ends the programs and deletes the directories of stages whose owner has died.

The parent-death signal ends a stage's programs with their owner; the sweep finds what slipped through, such
as a program that was just being started, and the directory.
"""

import logging
import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

logger = logging.getLogger(__name__)

PREFIX = "farm-stage-"
OWNER = "owner"
KILL_TIMEOUT = 5.0
UNOWNED_SECONDS = 60.0
"""A stage's directory has no owner for the moment between its making and the note."""


def write_owner(directory: Path) -> None:
    """Note in a stage's directory that it belongs to this process."""
    (directory / OWNER).write_text(f"{os.getpid()} {_started(os.getpid())}")


def owners_of_stages(root: Path | None = None) -> list[int]:
    """The processes that this user's stages below `root` belong to; one of them may have ended."""
    owners = []
    for directory in sorted((root or Path(tempfile.gettempdir())).glob(f"{PREFIX}*")):
        with suppress(OSError, ValueError):
            if directory.lstat().st_uid == os.geteuid():
                pid, _ = (directory / OWNER).read_text().split()
                owners.append(int(pid))
    return owners


def stage_of(owner: int, root: Path | None = None) -> Path | None:
    """The newest stage below `root` that a process had which has ended; None if there is none, or no more."""
    found = []
    for directory in (root or Path(tempfile.gettempdir())).glob(f"{PREFIX}*"):
        with suppress(OSError, ValueError):
            about = directory.lstat()
            pid, _ = (directory / OWNER).read_text().split()
            if int(pid) == owner and about.st_uid == os.geteuid() and _is_left_behind(directory):
                found.append((about.st_mtime_ns, directory))
    return max(found, default=(0, None))[1]


def clean_up_stages(root: Path | None = None) -> int:
    """End and delete this user's stages below `root` whose owner is gone; returns how many there were.

    Call it from a process that has no stage of its own being opened at that moment.
    """
    swept = 0
    for directory in sorted((root or Path(tempfile.gettempdir())).glob(f"{PREFIX}*")):
        if not _is_left_behind(directory):
            continue
        killed = _kill_programs_of(directory)
        with suppress(FileNotFoundError):  # several slots may clean up at once; one of them logs it
            (directory / OWNER).unlink()
            logger.warning(
                "removed the stage %s of a dead recorder (%d programs ended)", directory.name, killed
            )
        shutil.rmtree(directory, ignore_errors=True)
        swept += 1
    return swept


def _is_left_behind(directory: Path) -> bool:
    try:
        about = directory.lstat()
    except FileNotFoundError:  # its owner has just deleted it
        return False
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
        return False
    try:
        pid, started = (directory / OWNER).read_text().split()
        # The number may have gone to another process since; with the start it is one process for sure.
        return _started(int(pid)) != started
    except (OSError, ValueError):
        return time.time() - about.st_mtime > UNOWNED_SECONDS


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since boot, or None if it is dead.

    Not the time of day: setting the clock would move it, and every stage that stands would be swept.
    """
    try:
        # proc(5); the name, in brackets, may hold spaces and brackets itself.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in {"Z", "X"} else fields[18]


def _kill_programs_of(directory: Path) -> int:
    """Kill every process that was started with the directory's name, which is random and in no other's."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = [*process.cmdline(), *process.environ().values()]
            if process.pid != os.getpid() and any(str(directory) in word for word in words):
                found.append(process)
    for process in found:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(found, timeout=KILL_TIMEOUT)
    return len(found)
