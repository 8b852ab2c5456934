"""What was restored of a recording that another node had before: a JSON file in the outbox."""

import json
from dataclasses import asdict, dataclass
from typing import Final

from recording_farm.encoder.atomic_file import write_file
from recording_farm.farm.errors import FarmError
from recording_farm.farm.spool.outbox import Outbox

_NOTE: Final = ".restored.json"
_RESTORING: Final = ".restoring"


@dataclass(frozen=True)
class Restored:
    """What was restored: up to the take `last_take`, and in it up to a time (unix, µs); None without a take.

    Of the body, the bytes from `hole_begin` to `hole_end` are only in the store, in parts of its upload.
    """

    last_take: int | None
    until_us: int | None
    hole_begin: int = 0
    hole_end: int = 0
    identity: str = ""
    """The body that this is, see `GrowingCut.identity`."""
    is_noted: bool = False
    """Whether the timeline tells what is missing, see `farm.progressive.loss`."""

    def has_hole(self, begin: int, end: int) -> bool:
        """Whether some of these bytes of the body are not here."""
        return begin < self.hole_end and end > self.hole_begin


NOTHING_RESTORED: Final = Restored(None, None)


def read_restored(outbox: Outbox) -> Restored | None:
    """What was restored here; None if nothing was."""
    try:
        return Restored(**json.loads((outbox.directory / _NOTE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def save_restored(outbox: Outbox, restored: Restored) -> None:
    """Remember it. Raises OSError."""
    write_file(outbox.directory / _NOTE, json.dumps(asdict(restored)))


class RestoredCutLostError(FarmError):
    """The cut that was restored is gone or damaged: it is restored again before anything is cut."""


def begin_restoring(outbox: Outbox) -> None:
    """Remember that the spool is not whole until `end_restoring`, whatever happens. Raises OSError."""
    write_file(outbox.directory / _RESTORING, "")


def is_restoring(outbox: Outbox) -> bool:
    """Whether a restore has begun, or is needed again, and is not over."""
    return (outbox.directory / _RESTORING).exists()


def end_restoring(outbox: Outbox) -> None:
    """The spool is whole. Raises OSError."""
    (outbox.directory / _RESTORING).unlink(missing_ok=True)
