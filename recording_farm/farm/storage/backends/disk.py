"""Files on local disks: hard links or copies, reads and writes at an offset, and errors in words."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from recording_farm.encoder.atomic_file import atomic_file
from recording_farm.farm.storage.backend import StorageError

_NO_LINKS: Final = {
    errno.EXDEV,
    errno.EPERM,
    errno.EMLINK,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
}
"""Errors of link(2) when hard links are not possible: another file system, or one without links."""

_NO_COPY: Final = {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""Errors of copy_file_range(2) when the file system cannot copy on its own."""

_REASONS: Final = {
    errno.ENOSPC: ("full", "the disk is full", False),
    errno.EDQUOT: ("full", "the disk quota is exceeded", False),
    errno.EACCES: ("no_permission", "the farm has no permission to write there", True),
    errno.EPERM: ("no_permission", "the farm has no permission to write there", True),
    errno.EROFS: ("no_permission", "the disk is read-only", True),
    errno.ENOTDIR: ("no_bucket", "a part of the path is not a directory", True),
    errno.ENAMETOOLONG: ("bad_path", "the path is too long", True),
    errno.ETIMEDOUT: ("timed_out", "the disk did not answer in time", False),
}


@contextmanager
def disk_faults(where: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError that explains the error at `where`."""
    try:
        yield
    except OSError as error:
        reason, text, lasting = _REASONS.get(
            error.errno or 0, ("failed", f"the disk failed: {error.strerror}", False)
        )
        raise StorageError(reason, f"{where}: {text}", lasting=lasting) from error


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link `source` to `target`, or copy it where links are not possible.

    Raises StorageError when the copy differs from `source`, OSError.
    """
    with atomic_file(target) as draft:
        try:
            os.link(source, draft)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copyfile(source, draft)
            if _digest(draft) != _digest(source):
                raise StorageError("damaged", "the file was damaged in transit") from None


def read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    """Read a range of an open file; thread-safe.

    Raises StorageError when the disk fails, or the file is too short.
    """
    with disk_faults(Path(file.name)):
        data = os.pread(file.fileno(), size, offset)
    if len(data) != size:
        raise StorageError("damaged", f"{file.name} has become shorter", lasting=True)
    return data


def write_at(descriptor: int, offset: int, data: bytes | bytearray | memoryview) -> None:
    """Write `data` to an open file, which is readable too, so that it survives a power cut.

    Raises StorageError when other data is read back, OSError.
    """
    view = memoryview(data)
    written = 0
    while written < len(view):
        written += os.pwrite(descriptor, view[written:], offset + written)
    os.fdatasync(descriptor)
    if os.pread(descriptor, len(view), offset) != data:
        raise StorageError("damaged", "the file was damaged in transit")


def copy_range(source: int, offset: int, target: int, size: int) -> None:
    """Append a range of an open file to another one; xfs and btrfs share its blocks. Raises OSError."""
    while size:
        try:
            copied = os.copy_file_range(source, target, size, offset)
        except OSError as error:
            if error.errno not in _NO_COPY:
                raise
            copied = os.sendfile(target, source, offset, size)
        if not copied:
            raise OSError(errno.EIO, "the file has become shorter")
        offset += copied
        size -= copied


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
