"""The room on the disk that the cuts of the takes in the spool will need."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import Final

from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import TEXTS, spools

_COPIES_OF_INTERACTIVE: Final = 3
"""Of an interactive recording its cut makes the film, its segments, and the archive of these."""


def space_for_cuts(spool_dir: Path) -> int:
    """Bytes that the cuts of all takes below `spool_dir` have still to write beside them.

    The takes of a recording are removed when its cut is done, so until then there are two copies of it.
    """
    return sum(_room_for_cut(directory) for directory in spools(spool_dir))


def _room_for_cut(spool_directory: Path) -> int:
    takes = _bytes_of(spool_directory.glob("take-*"))
    if not takes:
        return 0
    copies = _COPIES_OF_INTERACTIVE if (spool_directory / TEXTS).exists() else 1
    return max(0, copies * takes - _bytes_of(Outbox.below(spool_directory).directory.rglob("*")))


def _bytes_of(files: Iterable[Path]) -> int:
    total = 0
    for file in files:
        with suppress(FileNotFoundError):  # it was removed just now
            status = file.stat()
            total += status.st_size if S_ISREG(status.st_mode) else 0
    return total
