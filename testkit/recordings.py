"""Recordings as the API makes them, and as `farm.jobs.finish` leaves them to their transfers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis

from farm.clock import now
from farm.config.settings import Settings
from farm.credentials.farm_secret import load_secret_key
from farm.credentials.sealing import Sealer
from farm.jobs.transfer import run_transfer, settle
from farm.recording.files import output_file_name
from farm.recording.model import FileKind, Recording, Status
from farm.recording.records import Records, SealedTarget
from farm.recording.targets import seal_target
from farm.recording.transfers import STORE, Transfer
from farm.spool.manifest import describe
from farm.spool.outbox import Outbox
from farm.spool.spool import spool_of
from farm.storage.targets import TARGET, public

MakeRecording = Callable[..., Recording]


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


def ended(
    records: Records,
    settings: Settings,
    recording: Recording,
    film: Path,
    target: dict[str, Any] | None = None,
    *,
    keep_copy: bool = True,
) -> Recording:
    """A recording that is UPLOADING, with `film` and a manifest in its outbox."""
    places = ([STORE] if keep_copy else []) + ([target["type"]] if target else [])
    recording = recording.model_copy(
        update={
            "keep_copy": keep_copy,
            "transfers": tuple(Transfer(target=place) for place in places),
            "storage_config": public(TARGET.validate_python(target)) if target else None,
        }
    )
    recording = records.add(recording, target=sealed_target(settings, recording, target) if target else None)
    records.change_state(recording.id, Status.RECORDING, started_time=now(), node=settings.node)
    records.change_state(recording.id, Status.UPLOADING, stopped_time=now())
    outbox = Outbox.of(spool_of(recording, settings))
    outbox.make()
    video = outbox.directory / recording.output_file_name
    video.hardlink_to(film)
    manifest = video.with_suffix(".json")
    manifest.write_text("{}")
    files = [describe(video, FileKind.VIDEO), describe(manifest, FileKind.MANIFEST)]
    return records.update(recording.id, files=files, file_size=files[0].size)


def stored(
    records: Records,
    settings: Settings,
    client: redis.Redis,
    recording: Recording,
    film: Path,
    target: dict[str, Any] | None = None,
) -> Recording:
    """The same, and the store has the files; without a target it is UPLOADED."""
    recording = ended(records, settings, recording, film, target)
    run_transfer(recording.id, STORE, settings, client)
    settle(recording.id, settings, client)
    return records.get(None, recording.id)
