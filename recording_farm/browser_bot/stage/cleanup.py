"""Cleanup: kills the programs and deletes the directories of stages whose owner has died.

The parent-death signal kills a stage's programs with their owner. The cleanup handles the rest: the
directory, programs that were just starting, and the socket of a killed X server.
"""

import logging
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import psutil

from recording_farm.browser_bot.stage import control_group
from recording_farm.browser_bot.stage.display import SOCKETS

logger = logging.getLogger(__name__)

PREFIX = "farm-stage-"
OWNER = "owner"
KILL_TIMEOUT = 5.0
UNOWNED_SECONDS = 60.0
"""A new directory has no owner file for a moment; after this time it is orphaned."""


def write_owner(directory: Path) -> None:
    """Write this process into a stage's directory as its owner."""
    (directory / OWNER).write_text(f"{os.getpid()} {_started(os.getpid())}")


def stage_owners(root: Path | None = None) -> list[int]:
    """Return the pids that own this user's stages below `root`; some may have ended."""
    owners = []
    for directory in sorted((root or Path(tempfile.gettempdir())).glob(f"{PREFIX}*")):
        with suppress(OSError, ValueError):
            if directory.lstat().st_uid == os.geteuid():
                pid, _ = (directory / OWNER).read_text().split()
                owners.append(int(pid))
    return owners


def find_orphan(owner: int, root: Path | None = None) -> Path | None:
    """Return the newest stage below `root` of a process that has ended; None if there is none."""
    found = []
    for directory in (root or Path(tempfile.gettempdir())).glob(f"{PREFIX}*"):
        with suppress(OSError, ValueError):
            about = directory.lstat()
            pid, _ = (directory / OWNER).read_text().split()
            if int(pid) == owner and about.st_uid == os.geteuid() and _is_orphaned(directory):
                found.append((about.st_mtime_ns, directory))
    return max(found, default=(0, None))[1]


def orphaned_stages(root: Path | None = None) -> set[Path]:
    """Return this user's stages below `root` whose owner is gone."""
    stages = (root or Path(tempfile.gettempdir())).glob(f"{PREFIX}*")
    return {directory for directory in stages if _is_orphaned(directory)}


class Sweeper:
    """Removes orphaned stages and sockets, each only once it was there at two passes in a row.

    So a slot has the time between two passes to keep evidence of a recorder that was killed.
    """

    def __init__(self, root: Path | None = None, sockets: Path = SOCKETS) -> None:
        """Nothing was seen yet. `sockets` is the directory of the X servers' sockets."""
        self._root = root
        self._sockets = sockets
        self._stages: set[Path] = set()
        self._dead: set[Path] = set()

    def sweep(self) -> None:
        """Make one pass."""
        stages, dead = orphaned_stages(self._root), _dead_sockets(self._sockets)
        clean_up_stages(self._root, self._stages & stages)
        for path in self._dead & dead:
            with suppress(OSError):
                path.unlink()
        self._stages, self._dead = stages, dead


def _dead_sockets(directory: Path) -> set[Path]:
    """Return this user's sockets of X servers at which no server listens, and did not just start either."""
    dead = set()
    for path in directory.glob("X*"):
        with suppress(OSError):
            about = path.lstat()
            is_ours = stat.S_ISSOCK(about.st_mode) and about.st_uid == os.geteuid()
            if is_ours and time.time() - about.st_mtime > UNOWNED_SECONDS and not _is_listening(path):
                dead.add(path)
    return dead


def _is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)  # a server that is stopped has a full queue, and listens
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True


def clean_up_stages(root: Path | None = None, stages: Collection[Path] | None = None) -> int:
    """Kill and delete orphaned stages: all of this user's below `root`, or `stages`; return their number.

    This process must not be opening a stage at the same time.
    """
    count = logged = killed = 0
    for directory in sorted(orphaned_stages(root) if stages is None else stages):
        if not _is_orphaned(directory):
            continue
        killed += _kill_programs(directory)
        with suppress(FileNotFoundError):  # several slots may clean up at once; only one logs it
            (directory / OWNER).unlink()
            logged += 1
        shutil.rmtree(directory, ignore_errors=True)
        count += 1
    if (parent := control_group.stages_group()) is not None:
        there = {path.name for path in (root or Path(tempfile.gettempdir())).glob(f"{PREFIX}*")}
        control_group.remove_groups_without_stage(parent, PREFIX, there)
    if logged:
        logger.info("removed %d stages of dead recorders, killed %d programs", logged, killed)
    return count


def _is_orphaned(directory: Path) -> bool:
    try:
        about = directory.lstat()
    except FileNotFoundError:  # its owner just deleted it
        return False
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
        return False
    try:
        pid, started = (directory / OWNER).read_text().split()
        # The pid may have been reused; pid and start time identify one process.
        return _started(int(pid)) != started
    except (OSError, ValueError):
        return time.time() - about.st_mtime > UNOWNED_SECONDS


def _started(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; None if it is dead.

    A time of day would change when the clock is set, and all running stages would look orphaned.
    """
    try:
        # proc(5); the name, in parentheses, may contain spaces and parentheses itself.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in {"Z", "X"} else fields[18]


def _kill_programs(directory: Path) -> int:
    """Kill every process with the directory's random name in its arguments or environment."""
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
