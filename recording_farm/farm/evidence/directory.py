"""Where a recording's evidence lies on its node, and what of it is in the store already."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from recording_farm.encoder.atomic_file import write_file
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.evidence.collect import RECORDER_LOG, evidence_files

_CARRIED: Final = "carried.json"


def evidence_dir(settings: Settings, recording_id: str) -> Path:
    """Where the log of a recording is kept, with a screenshot if its page failed."""
    return settings.evidence_dir / recording_id


def remove_evidence(settings: Settings, recording_id: UUID) -> None:
    """Delete log and screenshot of a recording, as far as they are in this machine's data directory."""
    shutil.rmtree(evidence_dir(settings, str(recording_id)), ignore_errors=True)


@dataclass(frozen=True)
class Version:
    """When the newest file of the faults and the log were written, in ns; 0 is never."""

    faults: int = 0
    log: int = 0


@dataclass(frozen=True)
class Carried:
    """What the store has of a directory of evidence, and which part of the recording's that is."""

    part: str
    version: Version = Version()


def version_of(directory: Path) -> Version:
    """Which version of a directory of evidence this is."""
    changed = {name: path.stat().st_mtime_ns for name, path in evidence_files(directory).items()}
    log = changed.pop(RECORDER_LOG, 0)
    return Version(max(changed.values(), default=0), log)


def read_carried(directory: Path) -> Carried | None:
    """What the store has of a directory of evidence; None if nothing."""
    try:
        kept = json.loads((directory / _CARRIED).read_text())
        return Carried(str(kept["part"]), Version(**kept["version"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep_carried(directory: Path, carried: Carried) -> None:
    """Note what of a recording's evidence is in the store."""
    write_file(directory / _CARRIED, json.dumps(asdict(carried)))
