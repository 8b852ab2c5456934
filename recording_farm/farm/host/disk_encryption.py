"""Is a directory on an encrypted disk? The kernel says so in /sys (dm-crypt, which LUKS uses)."""

import os
from pathlib import Path

SYSFS = Path("/sys")
MOUNTS = Path("/proc/self/mountinfo")


def is_encrypted(directory: Path, sysfs: Path = SYSFS, mounts: Path = MOUNTS) -> bool:
    """Whether each block device below `directory` goes through dm-crypt.

    False where /sys does not show it: a network file system, ZFS's own encryption, a container's overlay.
    Raises OSError if the mounts cannot be read.
    """
    device = _mounted_device(directory.resolve(), mounts.read_text())
    return device is not None and _is_encrypted(sysfs / "dev" / "block" / device)


def _is_encrypted(device: Path) -> bool:
    try:
        if (device / "dm" / "uuid").read_text().startswith("CRYPT-"):
            return True
    except OSError:
        pass  # not made by the device mapper: a disk, a partition, a RAID
    below = _names(device / "slaves")
    # A partition of an encrypted disk lies in the disk's directory.
    if not below and (device / "partition").exists():
        return _is_encrypted(device.resolve().parent)
    return bool(below) and all(_is_encrypted(device / "slaves" / name) for name in below)


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _mounted_device(directory: Path, mountinfo: str) -> str | None:
    """The `major:minor` of the device that is mounted at or above a directory; see proc(5), mountinfo."""
    at = {}
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        mount_point, source = fields[4], fields[fields.index("-") + 2]
        # Of two mounts at one place the later one is seen.
        at[_unescape(mount_point)] = _number_of(_unescape(source)) or fields[2]
    nearest = max((path for path in at if directory.is_relative_to(path)), key=len, default=None)
    return None if nearest is None else at[nearest]


def _unescape(text: str) -> str:
    """The kernel writes blanks, tabs, line ends and backslashes of a path as octal numbers."""
    for code in (r"\040", r"\011", r"\012", r"\134"):
        text = text.replace(code, chr(int(code[1:], 8)))
    return text


def _number_of(source: str) -> str | None:
    """The number of a device file. Btrfs mounts have a number of their own, so the file is asked first."""
    try:
        device = os.stat(source).st_rdev
    except OSError:
        return None
    return f"{os.major(device)}:{os.minor(device)}" if device else None
