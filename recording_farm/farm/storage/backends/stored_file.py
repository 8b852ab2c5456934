"""A file of a directory that is open to be read, for whoever serves it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from recording_farm.farm.storage.backends.disk import link_or_copy, read_at

PIECE_BYTES: Final = 256 << 10
"""What is read at once. A client that is slow keeps about two of these in memory."""


class StoredFile(Protocol):
    """A file's content, whatever way it is kept; whoever opened it closes it.

    A file that is replaced or deleted meanwhile is read to its end as it was.
    """

    size: int
    """Bytes of content."""
    modified_ns: int
    """When it was last written, in ns since 1970."""

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` up to `end`, `PIECE_BYTES` at a time at most; 0 ≤ start ≤ end ≤ size.

        Raises StorageError when the disk fails or the file is damaged.
        """

    def copy_to(self, target: Path) -> None:
        """Bring the content to `target`, whole or not at all.

        Raises StorageError as `pieces` does, OSError when `target` cannot be written.
        """

    def close(self) -> None:
        """Read no more."""


class PlainFile:
    """A file that is kept as it is."""

    def __init__(self, file: BinaryIO) -> None:
        """`file` is open at a path, without a buffer."""
        stat = os.fstat(file.fileno())
        self._file = file
        self.size = stat.st_size
        self.modified_ns = stat.st_mtime_ns

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """See `StoredFile`."""
        for offset in range(start, end, PIECE_BYTES):
            yield read_at(self._file, offset, min(PIECE_BYTES, end - offset))

    def copy_to(self, target: Path) -> None:
        """See `StoredFile`. On one file system the file gets a second name and no byte is copied."""
        link_or_copy(Path(self._file.name), target)

    def close(self) -> None:
        """See `StoredFile`."""
        self._file.close()
