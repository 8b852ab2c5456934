"""The tail of a take: its introduction and the fragments from some byte on, which are a take of their own.

The times in fragments of MP4 and in clusters of WebM count from the beginning of the take, so the fragments
before can be left out.
"""

import re
from pathlib import Path
from typing import Final

from recording_farm.encoder.media.growing_file import introduction_bytes

_MOOF: Final = re.compile(rb"(?s)....moof\0\0\0\x10mfhd")
"""ISO/IEC 14496-12: a fragment begins with a moof, whose first box is an mfhd of 16 bytes."""

_CLUSTER: Final = re.compile(
    rb"(?s)\x1f\x43\xb6\x75(?:[\x80-\xff]|[\x40-\x7f].|[\x20-\x3f]..|[\x10-\x1f]...|\x01.{7})\xe7"
)
"""RFC 9559: a cluster begins with its ID, its size (ffmpeg writes the longest form first) and its time."""

_HEAD_BYTES: Final = 1 << 16
"""Tracks and codecs are described in less."""


def introduction_size(take: Path) -> int:
    """How many bytes a take has before its first fragment; 0 while they are not all there. Raises OSError."""
    if take.suffix != ".webm":
        return introduction_bytes(take)
    with take.open("rb", buffering=0) as file:
        found = _CLUSTER.search(file.read(_HEAD_BYTES))
    return found.start() if found else 0


def first_fragment(data: bytes | bytearray, suffix: str) -> int | None:
    """Where the first fragment begins in some bytes of a take with this suffix; None if none does."""
    found = (_CLUSTER if suffix == ".webm" else _MOOF).search(data)
    return found.start() if found else None
