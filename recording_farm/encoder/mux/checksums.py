"""Checksums of a body that grows: the CRC-32C of all of it, and the SHA-256 of each of its blocks.

Another process can continue without reading any byte again: an incomplete block ends there.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import google_crc32c

from recording_farm.encoder.mux.open_file import opened_at

BLOCK_BYTES: Final = 8 << 20
"""A block ends with the group of samples with which it reaches this size."""

_ROW: Final = struct.Struct("<Q32s")
ROW_BYTES: Final = _ROW.size
"""Bytes of a block in the file: its size and its SHA-256."""


@dataclass(frozen=True)
class Block:
    """A part of a body, with its size and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True)
class BodyChecksums:
    """The CRC-32C of a body, and its blocks."""

    crc32c: int = 0
    blocks: tuple[Block, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return sum(block.size for block in self.blocks)


@dataclass(frozen=True)
class SavedChecksums:
    """The state of the checksums: `rows` of full blocks in the file, and a last block that is not full."""

    rows: int = 0
    crc32c: int = 0
    open_bytes: int = 0
    open_sha256: str = ""

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> "SavedChecksums":
        """Read it from JSON. Raises ValueError, TypeError, KeyError."""
        return cls(
            int(saved["rows"]), int(saved["crc32c"]), int(saved["open_bytes"]), str(saved["open_sha256"])
        )


class GrowingChecksums:
    """Appends the checksums of blocks to a file while a body grows."""

    def __init__(self, file: Path, saved: SavedChecksums | None = None) -> None:
        """Continue `file` from the `saved` state. Raises OSError when it is shorter."""
        saved = saved or SavedChecksums()
        self._path = file
        self._rows = saved.rows
        self._crc32c = saved.crc32c
        self._file = opened_at(file, saved.rows * ROW_BYTES)
        self._begin_block()
        if saved.open_bytes:
            self._append(saved.open_bytes, bytes.fromhex(saved.open_sha256))

    def update(self, data: bytes) -> None:
        """Add what was appended to the body. Raises OSError."""
        self._crc32c = google_crc32c.extend(self._crc32c, data)
        self._sha256.update(data)
        self._open_bytes += len(data)
        if self._open_bytes >= BLOCK_BYTES:
            self._append(self._open_bytes, self._sha256.digest())
            self._begin_block()

    @property
    def saved(self) -> SavedChecksums:
        """The state from which another process can continue."""
        digest = self._sha256.hexdigest() if self._open_bytes else ""
        return SavedChecksums(self._rows, self._crc32c, self._open_bytes, digest)

    def result(self) -> BodyChecksums:
        """The checksums of all that was added. Raises OSError."""
        rows = self._path.read_bytes()[: self._rows * ROW_BYTES]
        blocks = [Block(size, digest.hex()) for size, digest in _ROW.iter_unpack(rows)]
        if self._open_bytes:
            blocks.append(Block(self._open_bytes, self._sha256.hexdigest()))
        return BodyChecksums(self._crc32c, tuple(blocks))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _begin_block(self) -> None:
        self._sha256 = hashlib.sha256()
        self._open_bytes = 0

    def _append(self, size: int, digest: bytes) -> None:
        self._file.write(_ROW.pack(size, digest))
        self._rows += 1
