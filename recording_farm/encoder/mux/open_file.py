"""Opens files that only grow."""

import os
from pathlib import Path
from typing import BinaryIO


def opened_at(path: Path, size: int) -> BinaryIO:
    """Open a file to append after its first `size` bytes; the rest is dropped.

    Raises OSError when it is shorter.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    file = open(descriptor, "r+b", buffering=0)  # noqa: SIM115 - closed by the caller
    try:
        if os.fstat(descriptor).st_size < size:
            raise OSError(f"{path} is shorter than it was")
        file.truncate(size)
        file.seek(size)
    except BaseException:
        file.close()
        raise
    return file
