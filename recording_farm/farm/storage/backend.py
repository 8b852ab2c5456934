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

from recording_farm.encoder.atomic_file import write_file
from recording_farm.farm.certificates import certificate_problem
from recording_farm.farm.errors import FarmError

CHECK_TEXT: Final = b"Recording Farm was here."
"""What a check of a place writes."""

CHECK_NAME: Final = ".recording-farm-check"
"""Where a check writes that may not be able to delete it again: one name, so that there is one such file."""

WRONG_MD5: Final = b"\0" * 16
"""No file's. What is sent with it is refused, after the permission to write was looked at."""

NOT_READ_BACK: Final = (
    "the key may not read, so the file was not read back; the storage acknowledged all of it"
)
"""The note of a file that is at a place where it may not be read."""

_READ_BYTES: Final = 1 << 20
_MAX_MESSAGE: Final = 1000
"""Of a StorageError, in characters."""


class StorageError(FarmError):
    """A place cannot be used; the message is one sentence for people and holds no secret.

    `reason` is stable and made for programs. A `lasting` fault is the customer's to mend: it is tried again,
    but rarely. After a `final` one no further try can succeed.
    """

    code: ClassVar[str] = "storage_error"
    http_status: ClassVar[int] = 422

    def __init__(self, reason: str, message: str, *, lasting: bool = False, final: bool = False) -> None:
        """See the class. What a server says is in some messages, and it may say a lot."""
        super().__init__(message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}…")
        self.reason = reason
        self.lasting = lasting or final
        self.final = final


def expired_credentials(what: str = "temporary credentials") -> StorageError:
    """The error when `what` has expired, and so will not be valid again."""
    text = f"the {what} have expired; upload again with new ones"
    return StorageError("expired_credentials", text, final=True)


def is_time_out(error: BaseException | None) -> bool:
    """Whether a time-out is at the bottom of a library's error."""
    while error is not None and not isinstance(error, TimeoutError):
        error = error.__context__
    return error is not None


@contextmanager
def certificate_named() -> Iterator[None]:
    """Say that it was the server's certificate, whatever a library makes of it. Raises StorageError then."""
    try:
        yield
    except Exception as error:
        if problem := certificate_problem(error):
            raise StorageError("bad_certificate", problem) from error
        raise


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
        raise StorageError(
            "bad_path", "a part of the file's path is empty, . or .., or too long", lasting=True
        )
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
        """Remember `state`; a crash leaves this or what was there before.

        It is saved after each part of an upload, and does not wait for the disk: without it, the parts are
        sent again.
        """
        write_file(self._file, json.dumps({"of": _identity(source, key), "state": state}), durable=False)

    def clear(self) -> None:
        """Forget it."""
        self._file.unlink(missing_ok=True)


def _identity(source: Path, key: str) -> list[str | int]:
    stat = source.stat()
    return [key, stat.st_size, stat.st_mtime_ns]


@dataclass(frozen=True)
class Placed:
    """A file that has arrived and been verified: where, as people would write it, and its bytes.

    With a `note` it was not read back: the place did not allow it, but had acknowledged the file's checksum.
    """

    location: str
    size: int
    note: str | None = None


class Place(Protocol):
    """A bucket, container or directory. Every method raises StorageError."""

    def upload(self, source: Path, key: str, checkpoint: Checkpoint, content_type: str) -> Placed:
        """Put `source` to `key`, from where an earlier try was; it appears whole or not at all.

        Returns when size and checksum at the other side are those of `source`, or, if the key may not look at
        them, when the place has acknowledged what was sent with a checksum.
        """

    def link(self, key: str, seconds: int, name: str, content_type: str) -> str | None:
        """A URL from which whoever has it can fetch the file for so long; None if there is no such thing."""

    def delete(self, key: str) -> None:
        """Delete a file; one that is not there is no error."""


class CustomersPlace(Place, Protocol):
    """A place of a customer, whose key may write there and perhaps do nothing else."""

    def check_writing(self, directory: str = "") -> list[str]:
        """Find out whether files can be put into a directory, and leave nothing there if that is possible.

        Returns what may not be done there and need not, in sentences.
        """


class StorePlace(Place, Protocol):
    """A place that the farm can keep its own files in: it gets them back."""

    def check(self) -> None:
        """Write, read back and delete a small object."""

    def fetch(self, key: str, target: Path) -> None:
        """Bring a file to `target` on this machine, replacing what is there; it appears whole or not at all.

        Raises StorageError, with the reason `not_found` when there is no such file.
        """


def check_key(directory: str = "", name: str | None = None) -> str:
    """Where a check writes in a directory: without a `name`, one that nothing else has."""
    name = name or f"{CHECK_NAME}-{token_hex(8)}"
    return f"{directory}/{name}" if directory else name


def left_behind(key: str) -> str:
    """The note of a check that could not delete what it had written."""
    return f"the key may not delete, so the check's file {key} stays there"


def check_came_back(read: bytes) -> None:
    """Raises StorageError when what a check has read is not what it wrote."""
    if read != CHECK_TEXT:
        raise StorageError("damaged", "the storage returned different data than was written", lasting=True)


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
