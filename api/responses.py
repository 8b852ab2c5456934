"""What clients get: a recording as the recording API shows it, and the farm's own fields besides."""

from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import JSONResponse

from api.context import Context
from farm.links import download_link
from farm.recordings import Reason, Recording, Status, now


def success(data: Any) -> JSONResponse:
    """The envelope of every answer that is not an error."""
    return JSONResponse({"success": True, "data": data}, headers={"Cache-Control": "no-store"})


def recording_object(context: Context, recording: Recording) -> dict[str, Any]:
    """A recording as clients see it; `download_url` is a fresh link, once there is a file."""
    download_url, expiry = _link(context, recording)
    return {
        "id": str(recording.id),
        "status": recording.status.value,
        "invoked_time": _time(recording.invoked_time),
        "started_time": _time(recording.started_time),
        "stopped_time": _time(recording.stopped_time),
        "output_file_name": recording.output_file_name,
        "session_id": None,
        "download_url": download_url,
        "download_url_expiry": _time(expiry),
        "audio_download_url": None,
        "file_size": recording.file_size,
        "recording_duration": recording.recording_duration,
        "storage_config": None,
        "start_reason": _reason(recording.start_reason),
        "stop_reason": _reason(recording.stop_reason),
        # From here on: not in the recording API, ours.
        "meeting_id": recording.meeting_id,
        "url": recording.url,
        "page_contract": recording.page_contract.value,
        "max_seconds": recording.max_seconds,
        "video_config": {
            "codec": recording.codec.value,
            "width": recording.width,
            "height": recording.height,
            "fps": recording.fps,
        },
        "error": recording.error.model_dump() if recording.error else None,
        "quality": recording.quality,
        "timeline": [
            {"status": change.status.value, "time": _time(change.time)} for change in recording.timeline
        ],
    }


def _link(context: Context, recording: Recording) -> tuple[str | None, datetime | None]:
    if recording.status is not Status.UPLOADED:
        return None, None
    expiry = (now() + timedelta(seconds=context.settings.link_seconds)).replace(microsecond=0)
    link = download_link(
        context.link_secret, recording.id, recording.output_file_name, int(expiry.timestamp())
    )
    return context.settings.base_url + link, expiry


def _time(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _reason(reason: Reason | None) -> dict[str, Any] | None:
    if reason is None:
        return None
    if reason.caller is None:
        return {"reason": reason.reason.value}
    caller = reason.caller
    # The recording API writes the capital I.
    return {
        "reason": reason.reason.value,
        "caller": {"type": caller.type, "user_Id": caller.user_id, "name": caller.name},
    }
