"""The interface of storage backends, and checkpoints for resuming uploads.

A backend is a bucket, container, directory or server; `key` is the path of a file in it, without a leading
slash.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO, ClassVar, Final, Protocol

from recording_farm.encoder.atomic_file import write_file
from recording_farm.farm.certificates import certificate_problem
from recording_farm.farm.errors import FarmError

CHECK_TEXT: Final = b"Recording Farm was here."
"""Content of the file that a check writes."""

CHECK_NAME: Final = ".recording-farm-check"
"""Name of a check's file that it may not be able to delete: always the same, so that only one remains."""

WRONG_MD5: Final = b"\0" * 16
"""MD5 that matches no file: the server checks the write permission, then rejects the upload."""

NOT_READ_BACK: Final = (
    "the key may not read, so the file was not read back; the storage acknowledged all of it"
)
"""Note for an uploaded file that the key may not read."""

_READ_BYTES: Final = 1 << 20
_MAX_MESSAGE: Final = 1000
"""Of a StorageError, in characters."""


class StorageError(FarmError):
    """A storage operation failed; the message is one sentence for people without secrets.

    `reason` is a stable code. A `lasting` error must be fixed by the customer and is retried rarely. After a
    `final` error no retry can succeed.
    """

    code: ClassVar[str] = "storage_error"
    http_status: ClassVar[int] = 422

    def __init__(self, reason: str, message: str, *, lasting: bool = False, final: bool = False) -> None:
        """See the class. Long messages, which may quote a server, are truncated."""
        super().__init__(message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}…")
        self.reason = reason
        self.lasting = lasting or final
        self.final = final


def expired_credentials(what: str = "temporary credentials") -> StorageError:
    """The error for expired credentials, which cannot become valid again."""
    text = f"the {what} have expired; upload again with new ones"
    return StorageError("expired_credentials", text, final=True)


def is_time_out(error: BaseException | None) -> bool:
    """Whether a time-out is the root cause of a library's error."""
    while error is not None and not isinstance(error, TimeoutError):
        error = error.__context__
    return error is not None


@contextmanager
def certificate_named() -> Iterator[None]:
    """Turn any library's certificate error into a StorageError that explains it."""
    try:
        yield
    except Exception as error:
        if problem := certificate_problem(error):
            raise StorageError("bad_certificate", problem) from error
        raise


@dataclass(frozen=True)
class Part:
    """A part of a file: its number from 1, its offset and its size."""

    number: int
    offset: int
    size: int


def parts_of(size: int, part_size: int, most: int) -> list[Part]:
    """Split a file of `size` bytes into at most `most` parts of equal size, except for the last."""
    part_size = max(part_size, -(-size // most))
    offsets = range(0, max(size, 1), part_size)
    return [Part(number, offset, min(part_size, size - offset)) for number, offset in enumerate(offsets, 1)]


def key_parts(key: str) -> list[str]:
    """The directories of a key and its file name, for backends with directories.

    Raises StorageError for path traversal and for names that no file system accepts.
    """
    parts = key.split("/")
    if any(part in {"", ".", ".."} or "\0" in part or len(part.encode()) > 255 for part in parts):
        raise StorageError(
            "bad_path", "a part of the file's path is empty, . or .., or too long", lasting=True
        )
    return parts


class Checkpoint:
    """The state of an upload for resuming it after a crash: a small JSON file."""

    def __init__(self, file: Path) -> None:
        """Keep it in `file`, whose directory exists."""
        self._file = file

    def load(self, source: Path, key: str) -> dict[str, Any] | None:
        """The state saved for this file and key; None if there is none, or it is for another file."""
        try:
            saved = json.loads(self._file.read_text())
            return dict(saved["state"]) if saved["of"] == _identity(source, key) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, source: Path, key: str, state: dict[str, Any]) -> None:
        """Save `state` atomically.

        Called after each part of an upload, so it does not fsync: without it, parts are sent again.
        """
        write_file(self._file, json.dumps({"of": _identity(source, key), "state": state}), durable=False)

    def clear(self) -> None:
        """Delete the state."""
        self._file.unlink(missing_ok=True)


def _identity(source: Path, key: str) -> list[str | int]:
    stat = source.stat()
    return [key, stat.st_size, stat.st_mtime_ns]


@dataclass(frozen=True)
class StoredObject:
    """An uploaded and verified file: its location in readable form, and its size.

    A `note` means that it was not read back: the key may not read, but the server acknowledged the checksum.
    """

    location: str
    size: int
    note: str | None = None


class StorageBackend(Protocol):
    """A bucket, container or directory. Every method raises StorageError."""

    def upload(self, source: Path, key: str, checkpoint: Checkpoint, content_type: str) -> StoredObject:
        """Upload `source` to `key` atomically, resuming an earlier attempt.

        Returns once size and checksum in the storage match `source`, or, if the credentials do not allow
        reading them, once the server has acknowledged the checksum of the upload.
        """

    def link(self, key: str, seconds: int, name: str, content_type: str) -> str | None:
        """A signed URL of the file, valid for `seconds`; None if the backend has no such URLs."""

    def delete(self, key: str) -> None:
        """Delete a file; a missing file is no error."""


class CustomerBackend(StorageBackend, Protocol):
    """A customer's backend, whose credentials may be write-only."""

    def check_writing(self, directory: str = "") -> list[str]:
        """Check that files can be written to a directory, leaving nothing there if possible.

        Returns sentences about missing permissions that are not required.
        """


class StoreBackend(StorageBackend, Protocol):
    """A backend for the farm's own store, which also reads files, and has small objects.

    Small objects are in memory as a whole; parts of their keys may begin with a dot.
    """

    def check(self) -> None:
        """Write, read back and delete a small object."""

    def fetch(self, key: str, target: Path) -> None:
        """Download a file to `target` atomically, replacing an existing file.

        Raises StorageError, with the reason `not_found` when there is no such file.
        """

    def put_bytes(self, key: str, data: bytes | bytearray | memoryview) -> None:
        """Write a small object atomically, and durably."""

    def get_bytes(self, key: str, limit: int) -> bytes:
        """Read a small object; its reason is `not_found` when it is missing.

        Raises StorageError for an object of more than `limit` bytes.
        """

    def list_keys(self, prefix: str) -> Iterator[str]:
        """The keys that start with `prefix`, which ends with a slash."""

    def delete_many(self, keys: Iterable[str]) -> None:
        """Delete small objects; missing ones are no error."""

    def delete_all(self, prefix: str) -> None:
        """Delete all that starts with `prefix`, which ends with a slash."""


def check_key(directory: str = "", name: str | None = None) -> str:
    """The key of a check's file in a directory; the name is random by default."""
    name = name or f"{CHECK_NAME}-{token_hex(8)}"
    return f"{directory}/{name}" if directory else name


def left_behind(key: str) -> str:
    """The note of a check that could not delete its file."""
    return f"the key may not delete, so the check's file {key} stays there"


def check_size(size: int, limit: int) -> None:
    """Raise StorageError when a small object is larger than its `limit`."""
    if size > limit:
        raise StorageError("bad_answer", f"the object has {size} bytes, more than {limit}", lasting=True)


def check_came_back(read: bytes) -> None:
    """Raise StorageError when a check reads back other data than it wrote."""
    if read != CHECK_TEXT:
        raise StorageError("damaged", "the storage returned different data than was written", lasting=True)


def pieces_of(file: "BinaryIO | Slice") -> Iterator[bytes]:
    """The rest of an open file, in chunks of 1 MiB."""
    while data := file.read(_READ_BYTES):
        yield data


@contextmanager
def slice_of(source: Path, part: Part) -> Iterator["Slice"]:
    """Open a part of a file as a file-like object."""
    with source.open("rb") as file:
        yield Slice(file, part)


class Slice:
    """A part of an open file as a file-like object, so that no part is loaded into memory."""

    def __init__(self, file: Any, part: Part) -> None:
        """Read `part` of `file`, which must have no other reader meanwhile."""
        self._file = file
        self._part = part
        self._position = 0
        file.seek(part.offset)

    def __len__(self) -> int:
        """Size in bytes."""
        return self._part.size

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes; all remaining ones with a negative size."""
        left = self._part.size - self._position
        wanted = left if size is None or size < 0 else min(size, left)
        data: bytes = self._file.read(wanted)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position in the part."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._part.size}[whence]
        self._position = max(0, min(base + offset, self._part.size))
        self._file.seek(self._part.offset + self._position)
        return self._position

    def tell(self) -> int:
        """The position in the part."""
        return self._position
