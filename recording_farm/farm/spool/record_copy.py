"""The record of a recording, kept in its spool too: for a Redis that has forgotten it."""

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
    """Keep a recording as it is now, with its storages, which stay sealed. A full disk is no error here."""
    file = spool.directory / _FILE
    with suppress(OSError):
        write_file(file, json.dumps({"recording": recording.model_dump(mode="json"), "targets": targets}))


def restore_to_redis(spool_directory: Path, records: Records) -> bool:
    """Tell Redis of a recording that it has lost; false if it has not, or the spool knows too little.

    Raises TakenOverError when it was deleted after another node had taken it over, redis.RedisError when
    Redis cannot be reached.
    """
    kept = _read(spool_directory / _FILE)
    if kept is None or kept.recording.status in FINAL:
        return False
    return records.restore(kept.recording, kept.targets)


def kept_by(spool_directory: Path) -> str | None:
    """The node that has recorded into a spool, as its record says; None if there is none."""
    kept = _read(spool_directory / _FILE)
    return None if kept is None else kept.recording.node


def _read(file: Path) -> _Kept | None:
    try:
        content = json.loads(file.read_text())
        return _Kept(Recording.model_validate(content["recording"]), dict(content["targets"]))
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None
