"""Samples of a file that is being written, and the log of where each one is.

A file is a head and a body. The body is only appended to while a recording runs. The head, which has the
index, is built from the log at the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np


class Kind(IntEnum):
    """The kind of an entry of the log."""

    VIDEO = 0
    AUDIO = 1
    CLUSTER = 2
    """The beginning of a cluster of WebM."""


@dataclass(frozen=True)
class Sample:
    """An encoded frame or packet of audio; `pts` is in the units of its track in the finished file."""

    kind: Kind
    pts: int
    is_key: bool
    data: bytes


@dataclass(frozen=True)
class Entry:
    """An entry of the log: a sample, `offset` bytes from the beginning of the body."""

    kind: Kind
    is_key: bool
    size: int
    pts: int
    offset: int


ENTRY: Final = np.dtype(
    [("kind", "u1"), ("key", "u1"), ("size", "<u4"), ("pts", "<i8"), ("offset", "<u8")], align=False
)
"""An entry as bytes."""

Entries = np.ndarray[Any, np.dtype[np.void]]


def append_entries(log: BinaryIO, entries: Sequence[Entry]) -> None:
    """Append entries to an open log."""
    rows = [(each.kind, each.is_key, each.size, each.pts, each.offset) for each in entries]
    log.write(np.array(rows, ENTRY).tobytes())


def parse_entries(data: bytes) -> Entries:
    """The entries in bytes of a log, without an incomplete last one."""
    return np.frombuffer(data, ENTRY, len(data) // ENTRY.itemsize)


def read_entries(log: Path) -> Entries:
    """All entries of a log. Raises OSError."""
    return np.fromfile(log, ENTRY)
