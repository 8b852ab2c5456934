"""How far a recording of an earlier node was restored: a JSON file in the outbox."""

import json
import shutil
from dataclasses import asdict, dataclass, replace
from typing import Final

from recording_farm.encoder.atomic_file import write_file
from recording_farm.farm.errors import FarmError
from recording_farm.farm.spool.outbox import Outbox

_NOTE: Final = ".restored.json"
_RESTORING: Final = ".restoring"


@dataclass(frozen=True)
class Restored:
    """Takes are restored up to `last_take`, and that one up to a time (unix, µs); None without a take.

    The bytes of the body from `hole_begin` to `hole_end` are only in the store, in parts of its upload.
    """

    last_take: int | None
    until_us: int | None
    hole_begin: int = 0
    hole_end: int = 0
    identity: str = ""
    """Identity of the body, see `GrowingCut.identity`."""
    is_noted: bool = False
    """Whether the entry `missing` is in the timeline, see `farm.progressive.loss`."""
    unusable: int = 0
    """The generation of a replica that cannot be read, which stays in the store; 0 without one."""

    def has_hole(self, begin: int, end: int) -> bool:
        """Whether some of these bytes of the body are only in the store."""
        return begin < self.hole_end and end > self.hole_begin


NOTHING_RESTORED: Final = Restored(None, None)


def read_restored(outbox: Outbox) -> Restored | None:
    """The note of the last restore; None without one."""
    try:
        return Restored(**json.loads((outbox.directory / _NOTE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def save_restored(outbox: Outbox, restored: Restored) -> None:
    """Save the note. Raises OSError."""
    write_file(outbox.directory / _NOTE, json.dumps(asdict(restored)))


class RestoredCutLostError(FarmError):
    """The restored cut is gone or damaged; it must be restored again before the cut continues."""


def begin_restoring(outbox: Outbox) -> None:
    """Mark the spool as incomplete until `end_restoring`, also after a crash. Raises OSError."""
    write_file(outbox.directory / _RESTORING, "")


def is_restoring(outbox: Outbox) -> bool:
    """Whether a restore is under way, or needed again."""
    return (outbox.directory / _RESTORING).exists()


def give_up_restoring(outbox: Outbox, unusable: int = 0) -> None:
    """Continue without the replica, from the takes that are here. Raises OSError.

    `unusable` is its generation if it is in the store and cannot be read.
    """
    restored = read_restored(outbox) or NOTHING_RESTORED
    if is_restoring(outbox):
        # What a crash has left of the cut may have a hole.
        shutil.rmtree(outbox.directory / ".cut", ignore_errors=True)
        restored = replace(restored, hole_begin=0, hole_end=0, identity="")
    save_restored(outbox, replace(restored, unusable=unusable))
    end_restoring(outbox)


def end_restoring(outbox: Outbox) -> None:
    """Mark the spool as complete. Raises OSError."""
    (outbox.directory / _RESTORING).unlink(missing_ok=True)
