"""The bodies of the events `recording.statusUpdate` and `recording.transferUpdate`.

JavaScript's JSON.stringify(JSON.parse(body)) must return the same bytes, because some receivers of the
recording API verify the signature over that: no spaces, this order of keys, no unnecessary escapes, and only
whole numbers.
"""

import json
from datetime import datetime
from typing import Any

from recording_farm.farm.clock import time_text
from recording_farm.farm.recording.files import files_state
from recording_farm.farm.recording.links import DownloadLink
from recording_farm.farm.recording.model import FINAL, Reason, Recording, is_cancelled, stop_reason_of
from recording_farm.farm.recording.transfers import Transfer, client_view
from recording_farm.farm.webhooks.registry import STATUS_UPDATE, TRANSFER_UPDATE


def status_update(
    recording: Recording,
    video: DownloadLink | None = None,
    audio: DownloadLink | None = None,
    files_expire_at: datetime | None = None,
) -> str:
    """The body for a change of a recording's state, with links to its files and when they expire."""
    return _body(
        {
            "event": STATUS_UPDATE,
            "recording": _recording(recording, video, audio, files_expire_at),
            "meeting": _meeting(recording),
        }
    )


def transfer_update(
    recording: Recording,
    transfer: Transfer,
    video: DownloadLink | None = None,
    audio: DownloadLink | None = None,
    files_expire_at: datetime | None = None,
) -> str:
    """The body for an event of an upload of a recording."""
    return _body(
        {
            "event": TRANSFER_UPDATE,
            "recording": _recording(recording, video, audio, files_expire_at),
            "transfer": _transfer(transfer),
            "meeting": _meeting(recording),
        }
    )


def _body(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _recording(
    recording: Recording,
    video: DownloadLink | None,
    audio: DownloadLink | None,
    files_expire_at: datetime | None,
) -> dict[str, Any]:
    error = recording.error
    link = video or audio
    fields = {
        "id": str(recording.id),
        "recordingId": str(recording.id),
        "meetingId": recording.meeting_id,
        "organizationId": recording.organization_id,
        "status": recording.status.value,
        "invokedTime": _time(recording.invoked_time),
        "startedTime": _time(recording.started_time),
        "stoppedTime": _time(recording.stopped_time),
        "fileSize": recording.file_size,
        "outputFileName": recording.output_file_name,
        "downloadUrl": video.url if video else None,
        "audioDownloadUrl": audio.url if audio else None,
        "downloadUrlExpiry": _time(link.expiry) if link else None,
        "filesState": files_state(recording).value if recording.status in FINAL else None,
        "filesExpireAt": _time(files_expire_at),
        "recordingDuration": recording.recording_duration,
        "stopReason": _reason(stop_reason_of(recording)),
        "error": {"code": error.code, "message": error.message} if error else None,
        "cancelled": True if is_cancelled(recording) else None,
    }
    return _without_none(fields)


def _transfer(transfer: Transfer) -> dict[str, Any]:
    transfer = client_view(transfer)
    error = transfer.error
    fields = {
        "target": transfer.target,
        "state": transfer.event.value if transfer.event else None,
        "attempts": transfer.attempts,
        "nextAttempt": _time(transfer.next_try),
        "error": {"code": error.code, "message": error.message} if error else None,
        "location": transfer.location,
    }
    return _without_none(fields)


def _meeting(recording: Recording) -> dict[str, Any]:
    # The farm stores no meetings; these values come from the recording.
    return {
        "id": recording.meeting_id,
        "title": recording.meeting_id,
        "roomName": recording.meeting_id,
        "organizedBy": {"id": recording.organization_id, "name": recording.organization_id},
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else time_text(moment)


def _reason(reason: Reason | None) -> str | None:
    """The reason as Dyte writes it: a text that looks like JSON with single quotes."""
    if reason is None:
        return None
    parts: dict[str, Any] = {"reason": reason.reason.value}
    if reason.caller is not None:
        caller = {"type": reason.caller.type, "user_Id": reason.caller.user_id, "name": reason.caller.name}
        parts["caller"] = _without_none(caller)
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":")).replace('"', "'")


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
