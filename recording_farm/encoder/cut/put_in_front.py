"""Puts the head of a file in front of its body, which comes first."""

import ctypes
import errno
import os
import shutil
from pathlib import Path
from typing import Final

from recording_farm.encoder.atomic_file import atomic_file

COPIED_BYTES: Final = 8 << 20
"""A longer body gets its head by moving its beginning on the disk; shorter ones are copied."""

BLOCK_BYTES: Final = 4096
"""The head of such a body is a multiple of this, which is the block size of ext4 and xfs."""

_INSERT_RANGE: Final = 0x20
"""FALLOC_FL_INSERT_RANGE of fallocate(2)."""


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


def _insert_room(body: Path, size: int) -> bool:
    """Move the content of a file behind `size` bytes of room. False where the file system cannot."""
    with body.open("r+b", buffering=0) as file:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.fallocate(file.fileno(), _INSERT_RANGE, ctypes.c_long(0), ctypes.c_long(size)) == 0:
            return True
        number = ctypes.get_errno()
        if number in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
            return False
        raise OSError(number, os.strerror(number), str(body))
