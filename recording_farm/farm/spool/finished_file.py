"""Finished files with their sizes and checksums.

Those of a file that was made while the recording ran are known without reading it again, see
`recording_farm.encoder.mux.checksums`.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recording_farm.encoder.mux.checksums import BodyChecksums
from recording_farm.farm.recording.model import FileKind, FinishedFile
from recording_farm.farm.storage.crc32c import combined, crc32c, crc32c_text

WHOLE_SHA256_BYTES: Final = 64 << 20
"""Up to this size a file has one SHA-256, which takes 0.1 s. A longer file has one for each part: its
beginning is written last, so one SHA-256 would need all of the file at the end."""

_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class FilePart:
    """A part of a file, with its SHA-256 in hexadecimal."""

    offset: int
    size: int
    sha256: str


@dataclass(frozen=True)
class DescribedFile:
    """A finished file, and the parts it consists of if it has no SHA-256 of the whole."""

    file: FinishedFile
    parts: tuple[FilePart, ...] = ()


def describe(path: Path, kind: FileKind) -> FinishedFile:
    """Describe a finished file by reading all of it. Raises OSError."""
    sha256, crc = hashlib.sha256(), 0
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            sha256.update(data)
            crc = crc32c(data, crc)
    size = path.stat().st_size
    return FinishedFile(
        kind=kind, name=path.name, size=size, sha256=sha256.hexdigest(), crc32c=crc32c_text(crc)
    )


def describe_grown(
    path: Path, kind: FileKind, body: BodyChecksums, *, has_hole: bool = False
) -> DescribedFile:
    """Describe a finished file with the checksums of its `body`, which follows the head.

    Of a long file, or one that `has_hole` (not all of its body is on this node), only the head is read.
    Raises OSError.
    """
    size = path.stat().st_size
    if not body.blocks or (size <= WHOLE_SHA256_BYTES and not has_hole):
        return DescribedFile(describe(path, kind))
    with path.open("rb") as file:
        head = file.read(size - body.size)
    parts = [FilePart(0, len(head), hashlib.sha256(head).hexdigest())]
    for block in body.blocks:
        parts.append(FilePart(parts[-1].offset + parts[-1].size, block.size, block.sha256))
    crc = combined(crc32c(head), body.crc32c, body.size)
    file_of = FinishedFile(kind=kind, name=path.name, size=size, crc32c=crc32c_text(crc))
    return DescribedFile(file_of, tuple(parts))


def is_intact(path: Path, file: FinishedFile) -> bool:
    """Whether a copy of a file has its size and its checksums. Raises OSError.

    Those of version 0.1 have a SHA-256 only.
    """
    if path.stat().st_size != file.size:
        return False
    found = describe(path, file.kind)
    return file.sha256 in {"", found.sha256} and file.crc32c in {None, found.crc32c}
