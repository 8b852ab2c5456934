"""Recordings as the API makes them."""

from typing import Any
from uuid import uuid4

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.recording.files import output_file_name
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.recording.records import SealedTarget
from recording_farm.farm.recording.targets import seal_target
from recording_farm.farm.storage.targets import TARGET


def new_recording(**fields: Any) -> Recording:
    """A recording that was asked for now; `fields` replace those of the record."""
    invoked_time = now()
    meeting_id = str(fields.get("meeting_id", "demo"))
    defaults: dict[str, Any] = {
        "id": uuid4(),
        "organization_id": "acme",
        "meeting_id": meeting_id,
        "url": f"http://127.0.0.1:8000/meet/{meeting_id}",
        "output_file_name": output_file_name(None, meeting_id, invoked_time, ".mp4"),
        "invoked_time": invoked_time,
    }
    return Recording.model_validate(defaults | fields)


def sealed_target(
    settings: Settings, recording: Recording, target: dict[str, Any], name: str = ""
) -> SealedTarget:
    """A target as it is kept; `name` is that of its transfer if it is not its type."""
    sealer = Sealer(load_secret_key(settings))
    name = name or target["type"]
    return SealedTarget(name, seal_target(sealer, recording.id, name, TARGET.validate_python(target)))
