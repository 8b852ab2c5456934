"""The final state of a recording, saved in its spool until Redis has it.

An outage of Redis may outlast the recorder.
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
    """The state to set, with its fields; `node` is the node that has the takes, if any."""

    model_config = ConfigDict(frozen=True)

    status: Status
    stopped_time: AwareDatetime
    stop_reason: Reason
    error: Failure | None = None
    node: str | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The fields for `Records.change_state`."""
        names = ("stopped_time", "stop_reason", "error", "node")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def save_ending(spool: Spool, ending: Ending) -> None:
    """Save an ending atomically and durably. A full disk is not an error here."""
    file = _file(spool)
    with suppress(OSError):
        write_file(file, ending.model_dump_json())


def load_ending(spool: Spool) -> Ending | None:
    """The saved ending; None if the recording had not ended."""
    try:
        return Ending.model_validate_json(_file(spool).read_bytes())
    except (OSError, ValidationError):
        return None


def forget_ending(spool: Spool) -> None:
    """Delete the saved ending: the recording resumes."""
    _file(spool).unlink(missing_ok=True)


def _file(spool: Spool) -> Path:
    return spool.directory / _FILE
