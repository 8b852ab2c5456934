"""A growing take in MP4: reads it from its start or near its end, and waits for more.

The encoder knows nothing of its readers, and none of them can disturb it.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from recording_farm.encoder.media.partial_file import BOX_HEAD, INTRODUCTION, MEDIA

LOOK_SECONDS: Final = 0.1
"""Between two looks for more; ffmpeg writes four times a second."""


class GrowingFile:
    """A take in MP4, as a file object for libav: `read` waits for more until `is_over`."""

    def __init__(self, path: Path, is_over: Callable[[], bool], skip_to: int | None = None) -> None:
        """Read `path` from its start, or its header and then the bytes from `skip_to`.

        Offsets in a fragment count from its own beginning, so earlier bytes can be left out.
        """
        self.name = str(path)
        self._file = path.open("rb", buffering=0)
        self._is_over = is_over
        self._introduction = introduction_bytes(path) if skip_to is not None else 0
        self._skip_to = skip_to

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        while True:
            over = self._is_over()
            data = self._next(size)
            if data or over:
                return data
            # No event tells of it that would not cost more than these looks.
            time.sleep(LOOK_SECONDS)

    def _next(self, size: int) -> bytes:
        if self._skip_to is not None:
            left = self._introduction - self._file.tell()
            if left > 0:
                return self._file.read(min(size, left)) or b""
            self._file.seek(self._skip_to)
            self._skip_to = None
        return self._file.read(size) or b""

    def close(self) -> None:
        """Close it."""
        self._file.close()


def introduction_bytes(path: Path) -> int:
    """How many bytes come before the first fragment; 0 if they are not all there yet."""
    position = 0
    with path.open("rb", buffering=0) as file:
        while True:
            length, kind = _box(file.read(BOX_HEAD))
            if kind not in INTRODUCTION:
                return position if kind else 0
            position += length
            file.seek(position)


def last_fragments(path: Path, count: int) -> int | None:
    """The byte at which the last `count` whole fragments of a take begin; None if there are no others."""
    begins: list[int] = []
    with path.open("rb", buffering=0) as file:
        size = path.stat().st_size
        begin = position = introduction_bytes(path)
        while position + BOX_HEAD <= size:
            file.seek(position)
            length, kind = _box(file.read(BOX_HEAD))
            if length < BOX_HEAD or position + length > size:
                break
            position += length
            if kind == MEDIA:
                begins.append(begin)
                begin = position
    return begins[-count] if len(begins) > count else None


def _box(head: bytes) -> tuple[int, bytes]:
    # ISO/IEC 14496-12: the length in four bytes, itself included, and the type. A quarter of a second never
    # needs the long form.
    return int.from_bytes(head[:4]), head[4:]
