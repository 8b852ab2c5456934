"""Uploads in parts: a file is uploaded while it is made, and its beginning last.

`begin_parts` opens an upload and `send_part` sends its parts in any order, also from other processes.
`finish_parts` makes the file of all parts, in the order of their numbers. What both return is JSON, for a
journal. Until then nothing is visible under the key. A storage may forget an unfinished upload, and an
ordinary upload of the same key may replace it: then the methods raise `upload_gone`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol, runtime_checkable

from recording_farm.farm.storage.backend import Part, StorageError, StoredObject

Data = bytes | bytearray | memoryview
"""The content of a part."""

UPLOAD_GONE: Final = "upload_gone"
NO_PARTS: Final = "no_parts"


@dataclass(frozen=True)
class PartRules:
    """What a storage requires of parts."""

    smallest: int = 0
    """Minimum size in bytes of all parts but the last."""
    largest: int = 1 << 30
    """Maximum size in bytes."""
    most: int = 10_000
    """Maximum number of a part; numbers start at 1 and need not be consecutive."""
    same_size: bool = False
    """Whether all parts but the last must have the same size."""


@dataclass(frozen=True)
class SentPart:
    """A part that arrived, and its receipt: JSON from `send_part` that `finish_parts` needs."""

    part: Part
    receipt: dict[str, Any]


@dataclass(frozen=True)
class Unfinished:
    """An upload that was begun and is neither finished nor aborted, and when it began."""

    key: str
    begun: dict[str, Any]
    began: datetime


class PartsUpload(Protocol):
    """Uploads in parts. Every method raises StorageError.

    Its reason is `upload_gone` when the upload cannot be finished any more, and `no_parts` when the key may
    upload in one go only: in both cases upload the whole file.
    """

    def begin_parts(self, key: str, content_type: str) -> dict[str, Any]:
        """Open an upload; returns its state as JSON."""

    def send_part(self, key: str, begun: dict[str, Any], part: Part, data: Data) -> dict[str, Any]:
        """Send a part, whose size is that of `data`; returns its receipt as JSON.

        The storage has verified the checksum of `data`. A part may be sent again, also with other data: the
        last receipt is valid. `offset` counts from one point of the file, the same for all parts but the
        first. Parts are adjacent.
        """

    def finish_parts(self, key: str, begun: dict[str, Any], sent: Sequence[SentPart]) -> StoredObject:
        """Make the file of these parts, and verify it as `upload` does; parts not among them are dropped.

        May be repeated when the response was lost.
        """

    def abort_parts(self, key: str, begun: dict[str, Any]) -> None:
        """Drop an upload and its parts; a missing one is no error."""


@runtime_checkable
class PartsBackend(PartsUpload, Protocol):
    """A backend with uploads in parts."""

    @property
    def part_rules(self) -> PartRules:
        """What parts must be like."""


@runtime_checkable
class UnfinishedParts(PartsBackend, Protocol):
    """A backend with uploads in parts that lists them, for the farm's own store."""

    def unfinished_parts(self, prefix: str) -> Iterator[Unfinished]:
        """The unfinished uploads whose key starts with `prefix`."""


@runtime_checkable
class AdoptableParts(PartsBackend, Protocol):
    """A backend whose parts are written by offset: a late writer would overwrite those of another one."""

    def adopt_parts(self, key: str, begun: dict[str, Any]) -> dict[str, Any]:
        """Take an upload away from the process that began it; returns its state from now on.

        That process gets `upload_gone`. May be repeated, also with a state that another call has replaced.
        Raises StorageError: `upload_gone` when there is no such upload.
        """


def upload_gone() -> StorageError:
    """The error for an upload that the storage no longer knows, or that it cannot finish."""
    return StorageError(UPLOAD_GONE, "the storage no longer has the parts of this upload", lasting=True)


def no_parts(why: str) -> StorageError:
    """The error when a key does not allow uploads in parts."""
    return StorageError(NO_PARTS, f"this storage accepts no uploads in parts: {why}", lasting=True)


def check_part(part: Part, data: Data) -> None:
    """Raise ValueError when the part's number or size is wrong."""
    if part.number < 1 or part.size != len(data):
        raise ValueError(f"part {part.number} of {part.size} bytes has {len(data)} bytes")


def in_order(sent: Sequence[SentPart]) -> list[SentPart]:
    """The parts by number. Raises ValueError when there is none, or two have the same number."""
    parts = sorted(sent, key=lambda each: each.part.number)
    numbers = {each.part.number for each in parts}
    if not parts or len(numbers) != len(parts) or min(numbers) < 1:
        raise ValueError("an upload has parts of different numbers from 1")
    return parts


def size_of(sent: Sequence[SentPart]) -> int:
    """The size of all parts together."""
    return sum(each.part.size for each in sent)
