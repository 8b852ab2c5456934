"""How a recording has ended, kept in its spool until Redis knows.

Redis may be away for longer than a recorder waits for it.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from recording_farm.encoder.atomic_file import write_file
from recording_farm.farm.recording.model import Failure, Reason, Status
from recording_farm.farm.spool.spool import Spool

_FILE: Final = "ending.json"


class Ending(BaseModel):
    """The state a recording is to have now, and what is set with it; `node` has the takes, if any has."""

    model_config = ConfigDict(frozen=True)

    status: Status
    stopped_time: AwareDatetime
    stop_reason: Reason
    error: Failure | None = None
    node: str | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """What is set, for `Records.change_state`."""
        names = ("stopped_time", "stop_reason", "error", "node")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def save_ending(spool: Spool, ending: Ending) -> None:
    """Keep it; it is there whole or not at all, also after a power cut. A full disk is no error here."""
    file = _file(spool)
    with suppress(OSError):
        write_file(file, ending.model_dump_json())


def load_ending(spool: Spool) -> Ending | None:
    """The ending that is kept; None if the recording had not ended."""
    try:
        return Ending.model_validate_json(_file(spool).read_bytes())
    except (OSError, ValidationError):
        return None


def forget_ending(spool: Spool) -> None:
    """Forget an ending: the recording goes on."""
    _file(spool).unlink(missing_ok=True)


def _file(spool: Spool) -> Path:
    return spool.directory / _FILE
