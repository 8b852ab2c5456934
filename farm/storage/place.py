"""What every place for files can do, and what an upload needs to go on where it was.

A place is a bucket, a container, a directory or a server of one kind; `key` is a file's path in it, without a
slash in front.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO, ClassVar, Final, Protocol

from farm.errors import FarmError

CHECK_TEXT: Final = b"Recording Farm was here."
"""What `Place.check` writes."""

_READ_BYTES: Final = 1 << 20
_LONGEST_MESSAGE: Final = 1000
"""Of a StorageError, in characters."""


class StorageError(FarmError):
    """A place cannot be used; the message is one sentence for people and holds no secret.

    `reason` is stable and made for programs. A `lasting` fault is the customer's to mend: it is tried again,
    but rarely.
    """

    code: ClassVar[str] = "storage_error"
    http_status: ClassVar[int] = 422

    def __init__(self, reason: str, message: str, *, lasting: bool = False) -> None:
        """See the class. What a server says is in some messages, and it may say a lot."""
        super().__init__(message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]}…")
        self.reason = reason
        self.lasting = lasting


def is_time_out(error: BaseException | None) -> bool:
    """Whether a time-out is at the bottom of a library's error."""
    while error is not None and not isinstance(error, TimeoutError):
        error = error.__context__
    return error is not None


@dataclass(frozen=True)
class Part:
    """A piece of a file: its number, counted from 1, and where it lies."""

    number: int
    offset: int
    size: int


def parts_of(size: int, part_size: int, most: int) -> list[Part]:
    """A file of `size` bytes in at most `most` pieces, all of one size but for the last."""
    part_size = max(part_size, -(-size // most))
    offsets = range(0, max(size, 1), part_size)
    return [Part(number, offset, min(part_size, size - offset)) for number, offset in enumerate(offsets, 1)]


def key_parts(key: str) -> list[str]:
    """The directories of a key and its name at the end, for places where a key is a path.

    Raises StorageError for a key that could lead elsewhere, or that no directory could hold.
    """
    parts = key.split("/")
    if any(part in {"", ".", ".."} or "\0" in part or len(part.encode()) > 255 for part in parts):
        raise StorageError("bad_path", "a part of the file's path is empty, dots or too long", lasting=True)
    return parts


class Checkpoint:
    """What an upload must remember to go on after a crash: a small JSON file beside what is uploaded."""

    def __init__(self, file: Path) -> None:
        """Keep it in `file`, whose directory exists."""
        self._file = file

    def load(self, source: Path, key: str) -> dict[str, Any] | None:
        """What was saved for this very file and key; None if nothing was, or it was for another one."""
        try:
            saved = json.loads(self._file.read_text())
            return dict(saved["state"]) if saved["of"] == _identity(source, key) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, source: Path, key: str, state: dict[str, Any]) -> None:
        """Remember `state`; a crash leaves this or what was there before."""
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps({"of": _identity(source, key), "state": state}))
        os.replace(partial, self._file)

    def clear(self) -> None:
        """Forget it."""
        self._file.unlink(missing_ok=True)


def _identity(source: Path, key: str) -> list[str | int]:
    stat = source.stat()
    return [key, stat.st_size, stat.st_mtime_ns]


@dataclass(frozen=True)
class Placed:
    """A file that has arrived and been verified: where, as people would write it, and its bytes."""

    location: str
    size: int


class Place(Protocol):
    """A bucket, container or directory. Every method raises StorageError."""

    def upload(self, source: Path, key: str, checkpoint: Checkpoint, content_type: str) -> Placed:
        """Put `source` to `key`, from where an earlier try was; it appears whole or not at all.

        Returns when size and checksum at the other side are those of `source`.
        """

    def link(self, key: str, seconds: int, name: str, content_type: str) -> str | None:
        """A URL from which whoever has it can fetch the file for so long; None if there is no such thing."""

    def delete(self, key: str) -> None:
        """Delete a file; one that is not there is no error."""

    def check(self) -> None:
        """Write, read back and delete a small object."""


class StorePlace(Place, Protocol):
    """A place that the farm can keep its own files in: it gets them back."""

    def fetch(self, key: str, target: Path) -> None:
        """Bring a file to `target` on this machine, replacing what is there; it appears whole or not at all.

        Raises StorageError, with the reason `not_found` when there is no such file.
        """


def check_key(directory: str = "") -> str:
    """Where `Place.check` writes in a directory: a name that nothing else has."""
    name = f".recording-farm-check-{token_hex(8)}"
    return f"{directory}/{name}" if directory else name


def check_came_back(read: bytes) -> None:
    """Raises StorageError when what `Place.check` has read is not what it wrote."""
    if read != CHECK_TEXT:
        raise StorageError("damaged", "what was written did not come back the same", lasting=True)


def pieces_of(file: "BinaryIO | Slice") -> Iterator[bytes]:
    """What is left of an open file, in pieces of 1 MiB."""
    while data := file.read(_READ_BYTES):
        yield data


@contextmanager
def slice_of(source: Path, part: Part) -> Iterator["Slice"]:
    """A part of a file as a file of its own."""
    with source.open("rb") as file:
        yield Slice(file, part)


class Slice:
    """A part of an open file that reads like a whole one, so that no part is ever in memory."""

    def __init__(self, file: Any, part: Part) -> None:
        """Read `part` of `file`, which nobody else reads meanwhile."""
        self._file = file
        self._part = part
        self._position = 0
        file.seek(part.offset)

    def __len__(self) -> int:
        """Its size in bytes."""
        return self._part.size

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes, all that are left with a negative size."""
        left = self._part.size - self._position
        wanted = left if size is None or size < 0 else min(size, left)
        data: bytes = self._file.read(wanted)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go elsewhere in the part."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._part.size}[whence]
        self._position = max(0, min(base + offset, self._part.size))
        self._file.seek(self._part.offset + self._position)
        return self._position

    def tell(self) -> int:
        """Where in the part."""
        return self._position
