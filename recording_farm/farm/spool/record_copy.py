"""A copy of a recording's record in its spool, for a Redis that has lost it."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import ValidationError

from recording_farm.encoder.atomic_file import write_file
from recording_farm.farm.recording.model import FINAL, Recording
from recording_farm.farm.recording.records import Records
from recording_farm.farm.spool.spool import Spool

_FILE: Final = "recording.json"


class _Kept(NamedTuple):
    recording: Recording
    targets: dict[str, str]


def save_record(spool: Spool, recording: Recording, targets: dict[str, str]) -> None:
    """Save a recording with its targets, which stay sealed. A full disk is not an error here."""
    file = spool.directory / _FILE
    with suppress(OSError):
        write_file(file, json.dumps({"recording": recording.model_dump(mode="json"), "targets": targets}))


def restore_to_redis(spool_directory: Path, records: Records) -> bool:
    """Restore a record that Redis has lost; false if it is there, or the spool has no usable copy.

    Raises TakenOverError when it was deleted after another node had taken it over, redis.RedisError when
    Redis cannot be reached.
    """
    kept = _read(spool_directory / _FILE)
    if kept is None or kept.recording.status in FINAL:
        return False
    return records.restore(kept.recording, kept.targets)


def recorded_by(spool_directory: Path) -> str | None:
    """The node that recorded into a spool, from the saved record; None without a record."""
    kept = _read(spool_directory / _FILE)
    return None if kept is None else kept.recording.node


def saved_record(spool_directory: Path) -> tuple[Recording, dict[str, str]] | None:
    """The record that was saved last in a spool, and its targets, sealed; None without one."""
    return _read(spool_directory / _FILE)


def _read(file: Path) -> _Kept | None:
    try:
        content = json.loads(file.read_text())
        return _Kept(Recording.model_validate(content["recording"]), dict(content["targets"]))
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None
