"""A partial file: a take that breaks off anywhere, read as far as it is whole.

A take whose ffmpeg was killed, or met a full disk, is truncated anywhere; after a power loss its end can be
zeros. libavformat takes the packets at the front of a broken mdat or cluster, but
gives up the whole file for an MP4 that ends in a sidx or moof (measured: 46 of 1502 places in a sound take).
So it never gets to see such an end, nor the zeros. The file itself is left as it is.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer

from recording_farm.encoder.errors import CutError

BOX_HEAD = 8
"""ISO/IEC 14496-12: a box begins with its length in four bytes, itself included, and its type in four more.
Length 1 says that eight bytes follow with the length. Takes have these types."""

LARGE_BOX_HEAD = 16
INTRODUCTION = {b"ftyp", b"moov"}
BEFORE_MEDIA = {b"styp", b"sidx", b"moof"}
MEDIA = b"mdat"
ZEROS = 64
"""So many zeros at the end are none of the media's own, which has a few at most."""

READ_BYTES = 65_536


@contextmanager
def open_take(path: Path) -> Iterator[InputContainer]:
    """Open the whole part of a take's file.

    Raises av.FFmpegError when there is none, CutError when the disk fails, here or while it is read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            part = _Part(file, whole_bytes(file))
            # Metadata can be broken too, and would raise UnicodeDecodeError.
            with av.open(part, "r", metadata_errors="replace") as source:
                yield source
    except av.FFmpegError:
        # Some of them are OSErrors as well, but libav does not see the disk: it reports the file's contents.
        raise
    except OSError as error:
        raise CutError(f"{path.name} cannot be read now: {error.strerror}") from error


def whole_bytes(file: BinaryIO) -> int:
    """How many bytes at the front of a take's file can be read; the last packet among them may be broken."""
    written = _bytes_before_zeros(file)
    file.seek(4)
    return _bytes_of_whole_boxes(file, written) if file.read(4) == b"ftyp" else written


def _bytes_before_zeros(file: BinaryIO) -> int:
    size = end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - READ_BYTES)
        file.seek(begin)
        kept = len(file.read(end - begin).rstrip(b"\0"))
        end = begin + kept
        if kept:
            break
    return end if size - end >= ZEROS else size


def _bytes_of_whole_boxes(file: BinaryIO, written: int) -> int:
    """Up to the last mdat that has all that it needs before it; the mdat itself may be broken."""
    whole = position = 0
    while position < written:
        file.seek(position)
        head = file.read(LARGE_BOX_HEAD)
        length, kind = int.from_bytes(head[:4]), head[4:BOX_HEAD]
        if length == 1:
            length = int.from_bytes(head[BOX_HEAD:])
        end = position + length
        if len(head) < BOX_HEAD or length < BOX_HEAD or (end > written and kind != MEDIA):
            break
        if kind == MEDIA or kind in INTRODUCTION:
            whole = min(end, written)
        elif kind not in BEFORE_MEDIA:
            break
        position = end
    return whole


class _Part(io.RawIOBase):
    """The first bytes of a file, as if there were no more."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.name = str(file.name)
        self._file = file
        self._size = size
        file.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(max(0, min(len(buffer), self._size - self._file.tell())))
        buffer[: len(data)] = data
        return len(data)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            # libavformat asks for the size with the offset -1, which an empty file does not have.
            return self._file.seek(max(0, self._size + offset))
        return self._file.seek(offset, whence)
