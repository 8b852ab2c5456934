"""Files on this machine's disks: linked or copied, read at an offset, and a sentence for what goes wrong."""

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
"""A file cannot get a second name there: another file system, or one that knows no links."""

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
    """Turn an OSError into a StorageError that says in a sentence what is wrong at `where`."""
    try:
        yield
    except OSError as error:
        reason, text, lasting = _REASONS.get(
            error.errno or 0, ("failed", f"the disk failed: {error.strerror}", False)
        )
        raise StorageError(reason, f"{where}: {text}", lasting=lasting) from error


def link_or_copy(source: Path, target: Path) -> None:
    """Give `source` the second name `target`, or put a copy there where files have only one.

    Raises StorageError when the copy is not what `source` is, OSError.
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
    """Just these bytes of an open file; threads may read it at the same time.

    Raises StorageError when the disk fails, or the file ends before.
    """
    with disk_faults(Path(file.name)):
        data = os.pread(file.fileno(), size, offset)
    if len(data) != size:
        raise StorageError("damaged", f"{file.name} has become shorter", lasting=True)
    return data


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
