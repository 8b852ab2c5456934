"""The format of a spool's replica: small objects in the store, each with data and an index of all objects.

The newest complete index says where the bytes of each file are. Each writer begins a new generation, which
needs none of the earlier objects. So objects that a node writes late, after another one has taken over, are
never mixed up with those of the other node.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from recording_farm.farm.errors import FarmError

PIECE_BYTES: Final = 4 << 20
"""Maximum data of one object."""

MAX_OBJECT_BYTES: Final = PIECE_BYTES + (4 << 20)
"""With its index: a day has some thousand ranges of 30 bytes."""

_MAGIC: Final = b"RFR1"
_LENGTH_BYTES: Final = 4
_NAME: Final = re.compile(r"(?P<generation>\d{4})-(?P<writer>[0-9a-f]{8})-(?P<number>\d{8})-(?P<kind>[cp])")


class DamagedReplicaError(FarmError):
    """An object does not have this format."""


@dataclass(frozen=True, order=True)
class PieceName:
    """The name of an object: generation, token of the writer, number, and whether its index is complete."""

    generation: int
    writer: str
    number: int
    is_complete: bool

    def __str__(self) -> str:
        """The name in the store."""
        kind = "c" if self.is_complete else "p"
        return f"{self.generation:04d}-{self.writer}-{self.number:08d}-{kind}"

    @classmethod
    def parse(cls, name: str) -> "PieceName | None":
        """The parsed name; None for another object."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        return cls(int(found["generation"]), found["writer"], int(found["number"]), found["kind"] == "c")


@dataclass(frozen=True)
class Range:
    """`size` bytes of a file from `offset` on are in the object number `piece`, from `at` on in its data."""

    offset: int
    size: int
    piece: int
    at: int

    @property
    def end(self) -> int:
        """The offset in the file where the range ends."""
        return self.offset + self.size


@dataclass(frozen=True)
class Index:
    """Where the bytes of each file of a spool are, by its path in the spool, and in order."""

    files: Mapping[str, tuple[Range, ...]] = field(default_factory=dict)

    @property
    def pieces(self) -> set[int]:
        """The numbers of the objects that the index refers to."""
        return {each.piece for ranges in self.files.values() for each in ranges}


def newest(names: Iterable[str]) -> PieceName | None:
    """The object with the newest complete index among these; None without one."""
    found = (PieceName.parse(name) for name in names)
    return max((each for each in found if each is not None and each.is_complete), default=None)


def last_generation(names: Iterable[str]) -> int:
    """The highest generation among objects, complete or not; 0 without any."""
    found = (PieceName.parse(name) for name in names)
    return max((each.generation for each in found if each is not None), default=0)


def pack(index: Index, data: bytes | bytearray) -> bytes:
    """An object."""
    header = {
        file: [(each.offset, each.size, each.piece, each.at) for each in ranges]
        for file, ranges in index.files.items()
    }
    content = json.dumps(header, separators=(",", ":")).encode()
    return b"".join((_MAGIC, len(content).to_bytes(_LENGTH_BYTES), content, data))


def unpack(content: bytes) -> tuple[Index, memoryview]:
    """Index and data of an object. Raises DamagedReplicaError."""
    begin = len(_MAGIC) + _LENGTH_BYTES
    if not content.startswith(_MAGIC):
        raise DamagedReplicaError("an object of a replica has another format")
    end = begin + int.from_bytes(content[len(_MAGIC) : begin])
    try:
        header = json.loads(content[begin:end])
        files = {
            str(file): tuple(Range(*map(int, each)) for each in ranges) for file, ranges in header.items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedReplicaError("the index of a replica cannot be read") from error
    return Index(files), memoryview(content)[end:]
