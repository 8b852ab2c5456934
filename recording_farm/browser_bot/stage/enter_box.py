"""Runs a program in the box of a stage: what it writes and allocates is limited by the kernel.

    python -I -S enter_box.py DIRECTORY DISK MEMORY TASKS GROUP PROGRAM ARGUMENT…
    python -I -S enter_box.py --check

A stage's Chromium starts through this file. It gets a mount namespace in which all disks are read-only,
except a tmpfs of DISK bytes at `DIRECTORY/home` with the files that were there before, and a /dev/shm of its
own. As an ordinary user this needs a user namespace, as Chromium's own sandbox does. MEMORY is the limit of
the private memory of each process; TASKS is the limit of processes and threads together, which holds in a
user namespace of Linux 5.14 or newer. GROUP is a control group to enter. 0 or an empty GROUP means no limit.

Where the machine allows no mount, the program runs without one. `DIRECTORY/box` then has the reason, else it
is empty.

Only the standard library is imported, and nothing of the farm, because this file delays each browser.
"""

import ctypes
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

CHECK: Final = "--check"
HOME: Final = "home"
REPORT: Final = "box"
NO_LIMIT: Final = "no limit"
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108

MAX_FILES: Final = 20_000
"""Files and directories that a tmpfs may have. A file without contents takes 1 KiB of kernel memory."""

WITHOUT_SHARED_MEMORY: Final = "--disable-dev-shm-usage"
"""Chromium's switch for a machine whose /dev/shm is small; the box has its own."""

USER_NAMESPACE_LIMITS: Final = (5, 14)
"""The Linux since which RLIMIT_NPROC counts within a user namespace; before, it counts all of a user's."""

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000

# mount(2)
_NOSUID, _NODEV, _NOEXEC, _REC, _PRIVATE = 2, 4, 8, 0x4000, 1 << 18

_MOUNT_SETATTR: Final = 442
"""mount_setattr(2), the same number on all machines; glibc has no function for it before 2.36."""

_AT_FDCWD: Final = -100
_READ_ONLY: Final = 1
_KERNEL_FILES: Final = frozenset({"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "devtmpfs"})
"""File systems without a disk; Chromium's sandbox writes to /proc."""


def main(arguments: Sequence[str]) -> None:
    """Run the program; its arguments are those of this file's first lines."""
    if list(arguments) == [CHECK]:
        sys.exit(_check())
    directory, disk, memory, tasks, group, *program = arguments
    _limit_processes(int(memory), group)
    # Opened before: the box cannot write it.
    with open(os.path.join(directory, REPORT), "w", encoding="utf-8") as report:
        error = _reason(directory, int(disk), int(memory)) if int(disk) else NO_LIMIT
        report.write(error)
    if error:
        _set_limit(resource.RLIMIT_FSIZE, int(disk))
    else:
        program = [word for word in program if word != WITHOUT_SHARED_MEMORY]
    if os.geteuid() and not error and _kernel() >= USER_NAMESPACE_LIMITS:
        _set_limit(resource.RLIMIT_NPROC, int(tasks))
    os.execvp(program[0], program)  # noqa: S606


def _check() -> int:
    """Tell on standard output why no disk can be mounted, if it cannot."""
    try:
        _enter_namespace()
        _mount_tmpfs(SHARED_MEMORY, 1 << 20, mode=0o1777)
    except OSError as error:
        print(error.strerror or error)
        return 1
    return 0


def _limit_processes(memory: int, group: str) -> None:
    """Limit each process. What the machine does not allow is left out."""
    if group:
        with suppress(OSError):
            _write(os.path.join(group, "cgroup.procs"), "0")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _set_limit(resource.RLIMIT_DATA, memory)


def _set_limit(kind: int, limit: int) -> None:
    if limit:
        _, most = resource.getrlimit(kind)
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(kind, (limit, limit))


def _reason(directory: str, disk: int, memory: int) -> str:
    """Mount the box; return why that is not possible, or nothing."""
    home = os.path.join(directory, HOME)
    try:
        _enter_namespace()
        files = list(_read_tree(home))
        _make_read_only()
        _mount_tmpfs(home, disk, mode=0o700)
        _write_tree(home, files)
        # Chromium's shared memory counts as memory of the stage, see `browser_bot.stage.box`.
        _mount_tmpfs(SHARED_MEMORY, memory, mode=0o1777)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _enter_namespace() -> None:
    """Move this process into a new mount namespace; as an ordinary user, in a new user namespace."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        _call("unshare", _CLONE_NEWNS)
    except OSError:  # no CAP_SYS_ADMIN, as root of a container has none
        _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNS)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    _call("mount", None, b"/", None, _REC | _PRIVATE, None)


def _make_read_only() -> None:
    """Make every mounted disk read-only. One for which the kernel refuses it stays as it is."""
    attributes = (ctypes.c_uint64 * 4)(_READ_ONLY, 0, 0, 0)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        lines = mounts.read().splitlines()
    for line in lines:
        # proc(5): … root, mount point, options, optional fields, a hyphen, type …
        fields = line.split(" ")
        if fields[fields.index("-") + 1] not in _KERNEL_FILES:
            path = fields[4].encode(errors="surrogateescape").decode("unicode_escape").encode("latin-1")
            with suppress(OSError):
                _call("syscall", _MOUNT_SETATTR, _AT_FDCWD, path, 0, attributes, ctypes.c_size_t(32))


def _mount_tmpfs(path: str, size: int, *, mode: int) -> None:
    options = f"nr_inodes={MAX_FILES},mode={mode:o}" + (f",size={size}" if size else "")
    _call("mount", b"stage", os.fsencode(path), b"tmpfs", _NOSUID | _NODEV | _NOEXEC, options.encode())


def _read_tree(directory: str, below: str = "") -> list[tuple[str, int, bytes | None]]:
    """Return paths, modes and contents (None for a directory) of everything below a directory."""
    found: list[tuple[str, int, bytes | None]] = []
    for entry in os.scandir(os.path.join(directory, below)):
        path = os.path.join(below, entry.name)
        mode = entry.stat().st_mode & 0o777
        if entry.is_dir():
            found += [(path, mode, None), *_read_tree(directory, path)]
        else:
            with open(entry.path, "rb") as file:
                found.append((path, mode, file.read()))
    return found


def _write_tree(directory: str, tree: Sequence[tuple[str, int, bytes | None]]) -> None:
    for path, mode, contents in tree:
        target = os.path.join(directory, path)
        if contents is None:
            os.mkdir(target, mode)
        else:
            with open(os.open(target, os.O_WRONLY | os.O_CREAT, mode), "wb") as file:
                file.write(contents)


def _call(name: str, *arguments: object) -> None:
    """Call a function of the C library. Raises OSError if it fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def _kernel() -> tuple[int, ...]:
    numbers = os.uname().release.split("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
