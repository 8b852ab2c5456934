"""The sweep: what is left of stages whose owner has died is ended and deleted.

The parent-death signal ends a stage's programs with their owner; the sweep finds what slipped through, such
as a program that was just being started, and the directory.
"""

import logging
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

logger = logging.getLogger(__name__)

PREFIX = "farm-stage-"
OWNER = "owner"
KILL_TIMEOUT = 5.0


def write_owner(directory: Path) -> None:
    """Note in a stage's directory that it belongs to this process."""
    owner = psutil.Process()
    (directory / OWNER).write_text(f"{owner.pid} {owner.create_time()}")


def sweep_stages(root: Path | None = None) -> int:
    """End and delete this user's stages below `root` whose owner is gone; returns how many there were.

    Call it from a process that has no stage of its own being opened at that moment.
    """
    swept = 0
    for directory in sorted((root or Path(tempfile.gettempdir())).glob(f"{PREFIX}*")):
        if directory.is_symlink() or not directory.is_dir() or directory.stat().st_uid != os.geteuid():
            continue
        if _owner_lives(directory):
            continue
        killed = _kill_programs_of(directory)
        shutil.rmtree(directory, ignore_errors=True)
        logger.warning("swept the stage %s of a dead recorder (%d programs ended)", directory.name, killed)
        swept += 1
    return swept


def _owner_lives(directory: Path) -> bool:
    try:
        pid, started = (directory / OWNER).read_text().split()
        # The number may have gone to another process since; with the start time it is one process for sure.
        return psutil.Process(int(pid)).create_time() == float(started)
    except (OSError, ValueError, psutil.NoSuchProcess):
        return False


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
