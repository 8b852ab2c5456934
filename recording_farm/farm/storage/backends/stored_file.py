"""An open stored file, for serving it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from recording_farm.farm.storage.backends.disk import link_or_copy, read_at

PIECE_BYTES: Final = 256 << 10
"""Size of one read. A slow client keeps about two of these in memory."""


class StoredFile(Protocol):
    """The content of a stored file; the caller closes it.

    A file that is replaced or deleted meanwhile stays readable.
    """

    size: int
    """Size of the content in bytes."""
    modified_ns: int
    """Time of the last modification, in ns since 1970."""

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` up to `end`, `PIECE_BYTES` at a time at most; 0 ≤ start ≤ end ≤ size.

        Raises StorageError when the disk fails or the file is damaged.
        """

    def copy_to(self, target: Path) -> None:
        """Copy the content to `target` atomically.

        Raises StorageError as `pieces` does, OSError when `target` cannot be written.
        """

    def close(self) -> None:
        """Close the file."""


class PlainFile:
    """An unencrypted file."""

    def __init__(self, file: BinaryIO) -> None:
        """`file` is opened unbuffered from a path."""
        stat = os.fstat(file.fileno())
        self._file = file
        self.size = stat.st_size
        self.modified_ns = stat.st_mtime_ns

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """See `StoredFile`."""
        for offset in range(start, end, PIECE_BYTES):
            yield read_at(self._file, offset, min(PIECE_BYTES, end - offset))

    def copy_to(self, target: Path) -> None:
        """See `StoredFile`. On the same file system the file is hard-linked, not copied."""
        link_or_copy(Path(self._file.name), target)

    def close(self) -> None:
        """See `StoredFile`."""
        self._file.close()
