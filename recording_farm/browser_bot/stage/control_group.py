"""Control groups (cgroup v2): the kernel's limits of all processes of a stage together.

systemd hands a service its own group with `Delegate=yes`, and some containers have one that is writable. A
group whose processes are limited may not have processes itself ("no internal processes", in the kernel's
cgroup-v2.rst), so the worker first moves the farm into a group below, and each stage gets one beside it:

    recording-farm.service ── farm            everything but the stages
                           ├─ farm-stage-…    Xorg, PulseAudio and Chromium of one stage
                           └─ …
"""

import logging
import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

ROOT: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")
FARM: Final = "farm"
"""The group of everything but the stages."""

FARM_WEIGHT: Final = 500
"""Processor time of the encoders and recorders against a stage's, which has the default, 100."""

_CONTROLLERS: Final = ("memory", "pids", "cpu")
_DELEGATED: Final = ("user.delegate", "trusted.delegate")
"""Attributes by which systemd marks a group that it leaves alone (its CGROUP_DELEGATION.md)."""

_REMOVE_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 0.02


def own_group(root: Path = ROOT, own: Path = OWN) -> Path | None:
    """Return the control group of this process; None without cgroup v2, or in the machine's topmost group."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    if path is None:
        return None
    group = root / path.lstrip("/")
    return group if (group / "cgroup.events").exists() else None


def why_not_divisible(root: Path = ROOT, own: Path = OWN) -> str:
    """Return why the farm's control group cannot be divided among stages; empty if it can be, or is."""
    group = own_group(root, own)
    if group is None:
        return "the farm has no control group of its own (cgroup v2)"
    if stages_group(root, own) is not None:
        return ""
    if not _is_delegated(group, root):
        return f"the control group {group} is not delegated (Delegate=yes)"
    if not {"memory", "pids"} <= set(_words(group / "cgroup.controllers")):
        return f"the control group {group} has no controllers for memory and pids"
    return ""


def prepare(root: Path = ROOT, own: Path = OWN) -> str:
    """Move the farm into a group below its own, so that stages can be limited; return why not, or nothing.

    Call it before there are stages. The processes of the group are the farm's: it is delegated to it.
    """
    group = own_group(root, own)
    if (reason := why_not_divisible(root, own)) or group is None or stages_group(root, own) is not None:
        return reason
    try:
        available = _words(group / "cgroup.controllers")
        below = group / FARM
        below.mkdir(exist_ok=True)
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (below / "cgroup.procs").write_text(pid)
        for controller in _CONTROLLERS:
            if controller in available:
                _enable(group, controller)
    except OSError as error:
        return f"the control group {group} cannot be divided: {error.strerror}"
    with suppress(OSError):
        (below / "cpu.weight").write_text(str(FARM_WEIGHT))
    return ""


def _enable(group: Path, controller: str) -> None:
    try:
        (group / "cgroup.subtree_control").write_text(f"+{controller}")
    except OSError:
        # A kernel with real-time group scheduling shares no processors among groups with real-time threads.
        if controller != "cpu":
            raise


def _is_delegated(group: Path, root: Path) -> bool:
    """Whether the farm may divide the group: systemd says so, or it is that of a container."""
    if group == root:
        return os.access(group / "cgroup.subtree_control", os.W_OK)
    for name in _DELEGATED:
        with suppress(OSError):
            if os.getxattr(group, name) == b"1":
                return os.access(group / "cgroup.subtree_control", os.W_OK)
    return False


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def stages_group(root: Path = ROOT, own: Path = OWN) -> Path | None:
    """Return the group below which stages get theirs; None if `prepare` did not succeed."""
    group = own_group(root, own)
    if group is None or group.name != FARM or "memory" not in _words(group.parent / "cgroup.subtree_control"):
        return None
    return group.parent


def make_group(parent: Path, name: str, memory: int, tasks: int) -> Path | None:
    """Make the control group of a stage; 0 means no limit. None if the kernel refuses."""
    group = parent / name
    # What is charged to swap would not count; and at the limit the stage is killed as a whole.
    limits = {"pids.max": tasks, "memory.max": memory}
    try:
        group.mkdir(exist_ok=True)
        for file, limit in limits.items():
            if limit:
                (group / file).write_text(str(limit))
    except OSError as error:
        logger.warning("cannot make the control group of a stage: %s", error)
        remove_group(group)
        return None
    for file, value in {"memory.swap.max": "0", "memory.oom.group": "1"}.items():
        with suppress(OSError):  # a kernel without swap accounting
            (group / file).write_text(value)
    return group


def add_process(group: Path, pid: int) -> None:
    """Move a process into a group, if it still runs."""
    with suppress(OSError):
        (group / "cgroup.procs").write_text(str(pid))


def broken_limit(group: Path) -> str | None:
    """Return the limit that the processes of a group met: `memory` or `tasks`."""
    if _events(group / "memory.events").get("oom_kill"):
        return "memory"
    return "tasks" if _events(group / "pids.events").get("max") else None


def used_memory(group: Path) -> int | None:
    """Return the memory of a group in bytes, without the page cache that the kernel can reclaim."""
    try:
        used = int((group / "memory.current").read_text())
        stat = _events(group / "memory.stat")
    except (OSError, ValueError):
        return None
    return max(0, used - stat.get("inactive_file", 0) - stat.get("active_file", 0))


def _events(file: Path) -> dict[str, int]:
    try:
        pairs = (line.split() for line in file.read_text().splitlines())
        return {name: int(value) for name, value in pairs}
    except (OSError, ValueError):
        return {}


def remove_group(group: Path) -> None:
    """Kill what runs in a group and remove it. Blocks until the kernel has, 2 s at most."""
    with suppress(OSError):
        (group / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + _REMOVE_SECONDS
    while True:
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                logger.warning("cannot remove the control group %s: %s", group, error.strerror)
                return
            time.sleep(_RETRY_SECONDS)
        else:
            return


def remove_groups_without_stage(parent: Path, prefix: str, stages: Collection[str]) -> None:
    """Remove the groups of stages, whose names start with `prefix`, that are not in `stages` any more."""
    for group in parent.glob(f"{prefix}*"):
        if group.name not in stages:
            remove_group(group)
