"""Estimates the disk space that pending cuts need."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import Final

from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import TEXTS, spools

_COPIES_OF_INTERACTIVE: Final = 3
"""The cut of an interactive recording writes the video and the archive; MPEG-TS is larger than MP4."""


def space_for_cuts(spool_dir: Path) -> int:
    """Bytes that the cuts of all takes below `spool_dir` have yet to write.

    Takes are removed after the cut, so until then a recording needs its space twice.
    """
    return sum(_space_for_cut(directory) for directory in spools(spool_dir))


def _space_for_cut(spool_directory: Path) -> int:
    takes = _bytes_of(spool_directory.glob("take-*"))
    if not takes:
        return 0
    copies = _COPIES_OF_INTERACTIVE if (spool_directory / TEXTS).exists() else 1
    return max(0, copies * takes - _bytes_of(Outbox.below(spool_directory).directory.rglob("*")))


def _bytes_of(files: Iterable[Path]) -> int:
    total = 0
    for file in files:
        with suppress(FileNotFoundError):  # it was just removed
            status = file.stat()
            total += status.st_size if S_ISREG(status.st_mode) else 0
    return total
