"""The directory of a recording's evidence on its node, and what of it was uploaded."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from recording_farm.encoder.atomic_file import write_file
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.evidence.collect import RECORDER_LOG, evidence_files

_UPLOADED: Final = "carried.json"


def evidence_dir(settings: Settings, recording_id: str) -> Path:
    """The directory of a recording's log and the evidence of its failures."""
    return settings.evidence_dir / recording_id


def remove_evidence(settings: Settings, recording_id: UUID) -> None:
    """Delete a recording's log and evidence from this machine's data directory."""
    shutil.rmtree(evidence_dir(settings, str(recording_id)), ignore_errors=True)


@dataclass(frozen=True)
class Version:
    """When the newest file of the failures, and the log, were written, in ns; 0 is never."""

    faults: int = 0
    log: int = 0


@dataclass(frozen=True)
class Uploaded:
    """The part in the store that a directory of evidence was uploaded as, and its version there."""

    part: str
    version: Version = Version()


def version_of(directory: Path) -> Version:
    """The version of a directory of evidence."""
    changed = {name: path.stat().st_mtime_ns for name, path in evidence_files(directory).items()}
    log = changed.pop(RECORDER_LOG, 0)
    return Version(max(changed.values(), default=0), log)


def read_uploaded(directory: Path) -> Uploaded | None:
    """What was uploaded of a directory of evidence; None if nothing."""
    try:
        kept = json.loads((directory / _UPLOADED).read_text())
        return Uploaded(str(kept["part"]), Version(**kept["version"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save_uploaded(directory: Path, uploaded: Uploaded) -> None:
    """Save what was uploaded of a directory of evidence."""
    write_file(directory / _UPLOADED, json.dumps(asdict(uploaded)))
