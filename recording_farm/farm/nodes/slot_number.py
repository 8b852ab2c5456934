"""The number of a slot, from 1: the smallest that no other slot of its node has.

A slot has its number by a lock that its work horses share, and the kernel gives that back when the last of
them is dead. So no two recordings that run on a node are ever in slots of the same number, whatever was
killed, and also if several workers run there.

RQ calls a job by its name, so the number is kept here, in the module, and what is forked later knows it.
"""

import fcntl
import logging
from itertools import count
from pathlib import Path
from typing import BinaryIO, NamedTuple

from recording_farm.farm.config.settings import Settings

logger = logging.getLogger(__name__)


class _Held(NamedTuple):
    number: int
    lock: BinaryIO


_held: _Held | None = None


def take_number(settings: Settings) -> int | None:
    """Have a number for as long as this process and those that it forks live; None if the disk fails.

    Called again, it gives the one before back.
    """
    global _held
    if _held is not None:
        _held.lock.close()
        _held = None
    # Nodes may share a data directory.
    directory = settings.slots_dir / settings.node
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _held = next(
            _Held(number, lock)
            for number in count(1)
            if (lock := _locked(directory / str(number))) is not None
        )
    except OSError as error:  # a full disk must not keep a slot from what it is there for
        logger.warning("this slot has no number: %s", error)
        return None
    return _held.number


def slot_number() -> int | None:
    """The number of the slot that this process belongs to; None if it belongs to none."""
    return None if _held is None else _held.number


def _locked(path: Path) -> BinaryIO | None:
    file = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        file.close()
        raise
    return file
