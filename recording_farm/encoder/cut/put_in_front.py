"""Puts the head of a file in front of its body, which was written first."""

import ctypes
import errno
import os
import shutil
from pathlib import Path
from typing import Final

from recording_farm.encoder.atomic_file import atomic_file

COPIED_BYTES: Final = 8 << 20
"""A longer body is moved on the disk to make room for its head; a shorter one is copied."""

BLOCK_BYTES: Final = 4096
"""The head of a moved body is a multiple of this, the block size of ext4 and xfs."""

_INSERT_RANGE: Final = 0x20
"""FALLOC_FL_INSERT_RANGE of fallocate(2)."""

_NO_INSERTION: Final = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ETXTBSY}
"""Errors of fallocate(2) when the file system cannot insert, or not so many bytes."""


def put_in_front(head: bytes, body: Path, target: Path) -> None:
    """Put `head` in front of the content of `body`, and move that to `target`. Raises OSError."""
    if len(head) % BLOCK_BYTES == 0 and _insert_room(body, len(head)):
        with body.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), head, 0)
            os.fsync(file.fileno())
        body.replace(target)
    else:
        with atomic_file(target) as draft, draft.open("xb") as file, body.open("rb") as content:
            file.write(head)
            shutil.copyfileobj(content, file, 1 << 20)
        body.unlink()


def insert_in_front(descriptor: int, size: int) -> bool:
    """Make room for `size` bytes at the beginning of an open file without copying it; ext4 and xfs can.

    False if the file system cannot: `size` must be a multiple of its block size, usually 4096. A power
    failure meanwhile may damage the file. Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    fallocate = getattr(libc, "fallocate64", None) or libc.fallocate  # musl has the latter only
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if fallocate(descriptor, _INSERT_RANGE, 0, size) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_INSERTION:
        return False
    raise OSError(number, os.strerror(number))


def _insert_room(body: Path, size: int) -> bool:
    with body.open("r+b", buffering=0) as file:
        return insert_in_front(file.fileno(), size)
