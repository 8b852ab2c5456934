"""Moto's S3 server, which completes a multipart upload without copying it.

Moto reads all parts, joins them in memory and writes them again: 5 s for 416 MiB. Amazon keeps the parts
where they are, and so does this: the object is a list of the parts' files, in the order of the request. So
the time does not grow with the length. An upload that was begun with `x-amz-checksum-algorithm` is joined by
Moto itself. The arguments are those of Moto's server.
"""

import hashlib
import io
import os
import sys
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from moto.s3 import models
from moto.s3.exceptions import EntityTooSmall, InvalidPart, InvalidPartOrder, MalformedXML
from moto.server import main

_READ_BYTES = 1 << 20


class Joined(io.RawIOBase):
    """The content of several files, one behind the other, read where they are."""

    def __init__(self, parts: list[Any]) -> None:
        """`parts` are Moto's keys; closing this deletes their files."""
        super().__init__()
        self._parts = parts
        self._ends = list(accumulate(part.size for part in parts))
        self._position = 0

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return int(self._ends[-1])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        index = bisect_right(self._ends, self._position)
        if index == len(self._parts):
            return 0
        part = self._parts[index]
        with part.lock:
            part._value_buffer.seek(self._position - self._ends[index] + part.size)
            data = part._value_buffer.read(len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def readall(self) -> bytes:
        # The library's own would ask for 8 KiB at a time.
        return b"".join(iter(lambda: self.read(_READ_BYTES), b""))

    def close(self) -> None:
        for part in self._parts:
            part.dispose()
        super().close()


def complete_by_list(upload: Any, body: Iterator[tuple[int, str]]) -> tuple[bytes, str, None]:
    """Check the parts of a request as Amazon does; `complete_upload` makes the object of them."""
    listed = list(body)
    if not listed:
        raise MalformedXML
    numbers = [number for number, _ in listed]
    if numbers != sorted(set(numbers)):  # Moto never refuses it
        raise InvalidPartOrder
    parts = [upload.parts.get(number) for number, _ in listed]
    for part, (_, etag) in zip(parts, listed, strict=True):
        if part is None or part.etag.strip('"') != etag.strip('"'):
            raise InvalidPart
    if any(part.size < models.S3_UPLOAD_PART_MIN_SIZE for part in parts[:-1]):
        raise EntityTooSmall
    upload.listed = parts
    digests = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
    return b"", f"{hashlib.md5(digests).hexdigest()}-{len(parts)}", None


def dispose(upload: Any) -> None:
    """Delete the parts that no object has; Moto calls this when an upload ends, and with its object."""
    listed = getattr(upload, "listed", ())
    for part in upload.parts.values():
        if part not in listed:
            part.dispose()


def complete(upload: Any, body: Iterator[tuple[int, str]]) -> Any:
    """Complete an upload by its list of parts, unless its client wants a checksum of the whole."""
    if "x-amz-checksum-algorithm" in upload.metadata:
        return _moto_complete(upload, body)
    return complete_by_list(upload, body)


def complete_upload(backend: Any, bucket: str, upload_id: str, body: Iterator[tuple[int, str]]) -> Any:
    """Have Moto make an empty object, and give it the content of the parts."""
    upload = backend.get_bucket(bucket).multiparts[upload_id]
    key = _moto_complete_upload(backend, bucket, upload_id, body)
    parts = getattr(upload, "listed", None)
    if parts is not None:
        key._value_buffer.close()
        key._value_buffer = Joined(parts)
        key.contentsize = key._value_buffer.size
    return key


_moto_complete = models.FakeMultipart.complete
_moto_complete_upload = models.S3Backend.complete_multipart_upload

if __name__ == "__main__":
    models.FakeMultipart.complete = complete
    models.FakeMultipart.dispose = dispose
    models.S3Backend.complete_multipart_upload = complete_upload
    main(sys.argv[1:])
