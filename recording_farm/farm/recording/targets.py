"""A recording's storage with its keys, as it is kept: sealed, for this recording and this transfer alone."""

import json
from uuid import UUID

from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.storage.targets import TARGET, Target, key_of, with_secrets


def seal_target(sealer: Sealer, recording_id: UUID, name: str, target: Target) -> str:
    """The storage that the transfer `name` of a recording goes to, sealed."""
    return sealer.seal(json.dumps(with_secrets(target)), _context(recording_id, name))


def open_target(sealer: Sealer, recording_id: UUID, name: str, sealed: str) -> Target:
    """The storage again. Raises SettingsError if it was sealed with another secret or for something else."""
    return TARGET.validate_json(sealer.open(sealed, _context(recording_id, name)))


def _context(recording_id: UUID, name: str) -> str:
    return f"recording {recording_id}, storage {name}"


def key_at(target: Target, recording: Recording, name: str) -> str:
    """Where a file of a recording goes in the customer's storage."""
    values = {
        "meeting_id": recording.meeting_id,
        "recording_id": str(recording.id),
        "organization_id": recording.organization_id,
    }
    return key_of(target.path, name, values, recording.invoked_time)
