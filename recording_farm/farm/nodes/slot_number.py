"""The number of a slot, from 1: the smallest that no other slot of its node holds.

A slot holds its number by a file lock that its work horses inherit. The kernel releases the lock when the
last of them has died, so two running recordings of a node never share a number, whatever was killed and
however many workers run there.

RQ imports jobs by name, so the number is a module global, which forked processes inherit.
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


def acquire_slot_number(settings: Settings) -> int | None:
    """Hold a number while this process or a fork of it lives; None if the disk fails.

    A second call releases the previous number.
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
    except OSError as error:  # a full disk must not keep a slot from recording
        logger.warning("this slot has no number: %s", error)
        return None
    return _held.number


def slot_number() -> int | None:
    """The number of this process's slot; None outside a slot."""
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
