"""Examples of webhook bodies, made by the code that sends them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from recording_farm.farm.recording.links import DownloadLink
from recording_farm.farm.recording.model import (
    Failure,
    Reason,
    ReasonKind,
    Recording,
    Status,
    organization_caller,
)
from recording_farm.farm.recording.transfers import (
    STORE,
    Transfer,
    TransferError,
    TransferEvent,
    TransferState,
)
from recording_farm.farm.webhooks.payload import status_update, transfer_update

_BEGAN: Final = datetime(2026, 1, 31, 9, tzinfo=UTC)
_LINK: Final = DownloadLink(
    url="https://farm.example.com/v2/recordings/8f3c2f0e-6f5d-4d36-9b0f-6a9e7f0c1d2e/download/weekly.mp4?…",
    expiry=_BEGAN + timedelta(days=7),
)
_FILES_EXPIRE_AT: Final = _BEGAN + timedelta(days=7, seconds=65)
_INVOKED: Final = Recording(
    id=UUID("8f3c2f0e-6f5d-4d36-9b0f-6a9e7f0c1d2e"),
    organization_id="acme",
    meeting_id="weekly",
    url="https://meet.example.com/weekly",
    output_file_name="weekly_1769850000000.mp4",
    invoked_time=_BEGAN,
)
_RUNNING: Final = {"started_time": _BEGAN + timedelta(seconds=3)}
_STOPPED: Final = {
    **_RUNNING,
    "stopped_time": _BEGAN + timedelta(seconds=63),
    "stop_reason": Reason(reason=ReasonKind.API_CALL, caller=organization_caller("acme")),
}
_FIELDS: Final[Mapping[Status, Mapping[str, Any]]] = {
    Status.INVOKED: {},
    Status.RECORDING: _RUNNING,
    Status.PAUSED: _RUNNING,
    Status.UPLOADING: _STOPPED,
    Status.UPLOADED: {
        **_STOPPED,
        "file_size": 10_366_787,
        "recording_duration": 60,
        "transfers": (Transfer(target=STORE, state=TransferState.DONE),),
    },
    Status.ERRORED: {
        "stopped_time": _BEGAN + timedelta(seconds=30),
        "stop_reason": Reason(reason=ReasonKind.INTERNAL_ERROR),
        "error": Failure(
            code="recording_failed",
            message="the page https://meet.example.com/weekly did not load: it answered 404 Not Found",
        ),
    },
}

_UPLOAD: Final = Transfer(target="s3", attempts=1)
_DENIED: Final = TransferError(code="no_permission", message="the key may not write to the bucket recordings")
_TRANSFERS: Final[Mapping[TransferEvent, Mapping[str, Any]]] = {
    TransferEvent.FAILING: {"error": _DENIED, "next_try": _BEGAN + timedelta(minutes=6)},
    TransferEvent.DONE: {
        "state": TransferState.DONE,
        "attempts": 2,
        "location": "s3://recordings/weekly_1769850000000.mp4",
    },
    TransferEvent.GIVEN_UP: {"state": TransferState.GIVEN_UP, "attempts": 21, "error": _DENIED},
}


def webhook_examples() -> dict[str, Any]:
    """The body of each state, by the name of the state."""
    return {status.value: json.loads(_body(status)) for status in _FIELDS}


def transfer_examples() -> dict[str, Any]:
    """The body of each event of an upload, by the name of the event."""
    recording = _INVOKED.model_copy(update={"status": Status.UPLOADING, **_FIELDS[Status.UPLOADING]})
    return {
        event.value: json.loads(
            transfer_update(recording, _UPLOAD.model_copy(update={"event": event, **fields}))
        )
        for event, fields in _TRANSFERS.items()
    }


def _body(status: Status) -> str:
    recording = _INVOKED.model_copy(update={"status": status, **_FIELDS[status]})
    if status is Status.UPLOADED:
        return status_update(recording, _LINK, files_expire_at=_FILES_EXPIRE_AT)
    return status_update(recording)
