"""What clients get: a recording as the recording API shows it, and the farm's own fields besides."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, JsonValue, PlainSerializer, WithJsonSchema
from pydantic_core import to_json
from starlette.responses import Response

from api.context import Context
from browser_bot.contracts import PageContract
from encoder.formats import Codec
from farm.links import link_to
from farm.recordings import Failure, Reason, ReasonKind, Recording, Status, time_text
from farm.webhooks import webhook_id_of

Moment = Annotated[
    datetime,
    PlainSerializer(time_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-01-31T09:00:00.000Z"]}),
]
"""A time in UTC with milliseconds."""


class CallerObject(BaseModel):
    """Who started or stopped a recording."""

    type: Literal["ORGANIZATION", "USER", "INTERNAL"]
    # The recording API writes the capital I.
    user_id: str | None = Field(default=None, serialization_alias="user_Id")
    name: str | None = None


class ReasonObject(BaseModel):
    """Why a recording started or stopped."""

    reason: ReasonKind
    caller: CallerObject | None = None


class VideoObject(BaseModel):
    """The picture."""

    codec: Codec
    width: int
    height: int
    fps: int


class TimelineObject(BaseModel):
    """A state that the recording went to, or a take that began or ended."""

    time: Moment
    event: Literal["state", "take_began", "take_ended"]
    status: Status | None = None
    take: int | None = None


class RecordingWebhook(BaseModel):
    """A URL that a recording has named itself; the id is that of its log."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    url: str


class RecordingObject(BaseModel):
    """A recording."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    status: Status
    invoked_time: Moment
    started_time: Moment | None = Field(description="when the first take began")
    stopped_time: Moment | None = Field(description="when the last take ended")
    output_file_name: str
    session_id: str | None = None
    download_url: str | None = Field(description="a link to the file, made anew with each answer")
    download_url_expiry: Moment | None
    audio_download_url: str | None = None
    file_size: int | None = Field(description="bytes")
    recording_duration: int | None = Field(description="whole seconds of video in the file")
    storage_config: dict[str, JsonValue] | None = None
    start_reason: ReasonObject | None = None
    stop_reason: ReasonObject | None = None
    # From here on: not in the recording API, ours.
    meeting_id: str
    url: str = Field(description="the page that is recorded")
    page_contract: PageContract
    max_seconds: int
    video_config: VideoObject
    error: Failure | None = Field(description="why it is ERRORED, or the fault that ended it")
    quality: dict[str, JsonValue] | None = Field(
        description="frames captured, lost and doubled, takes, speed (1 is real time), silent seconds"
    )
    queue_position: int | None = Field(default=None, description="while INVOKED: 1 is the next to be taken")
    timeline: list[TimelineObject]
    webhooks: list[RecordingWebhook] = Field(description="told of this recording, besides the organisation's")


class ListedRecording(RecordingObject):
    """A recording in a list, with its meeting."""

    meeting: dict[str, JsonValue]


class Paging(BaseModel):
    """Which entries a page has, counted from 1; both offsets are 0 on an empty page."""

    total_count: int
    start_offset: int
    end_offset: int

    @classmethod
    def of_page(cls, offset: int, count: int, total: int) -> "Paging":
        """That of a page with `count` entries behind `offset` others."""
        if not count:
            return cls(total_count=total, start_offset=0, end_offset=0)
        return cls(total_count=total, start_offset=offset + 1, end_offset=offset + count)


class Deleted(BaseModel):
    """What was deleted."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    deleted: Literal[True] = True


def success(
    data: BaseModel | Sequence[BaseModel] | Mapping[str, JsonValue],
    status: int = 200,
    paging: Paging | None = None,
) -> Response:
    """The envelope of every answer that is not an error."""
    content: dict[str, Any] = {"success": True, "data": data}
    if paging is not None:
        content["paging"] = paging
    # In one go: the models as JSON, without plain values in between.
    body = to_json(content, by_alias=True, inf_nan_mode="null")
    return Response(body, status, {"Cache-Control": "no-store"}, "application/json")


def recording_object(
    context: Context, recording: Recording, queue_position: int | None = None
) -> RecordingObject:
    """A recording as clients see it; `download_url` is a fresh link, once there is a file."""
    return RecordingObject(**_fields(context, recording), queue_position=queue_position)


def listed_recording(
    context: Context, recording: Recording, queue_position: int | None = None
) -> ListedRecording:
    """A recording as clients see it in a list."""
    # The farm keeps no meetings, only what recordings say of them.
    meeting: dict[str, JsonValue] = {"id": recording.meeting_id, "title": recording.meeting_id}
    return ListedRecording(**_fields(context, recording), queue_position=queue_position, meeting=meeting)


def _fields(context: Context, recording: Recording) -> dict[str, Any]:
    link = link_to(recording, context.settings, context.link_secret)
    return {
        "id": str(recording.id),
        "status": recording.status,
        "invoked_time": recording.invoked_time,
        "started_time": recording.started_time,
        "stopped_time": recording.stopped_time,
        "output_file_name": recording.output_file_name,
        "download_url": link.url if link else None,
        "download_url_expiry": link.expiry if link else None,
        "file_size": recording.file_size,
        "recording_duration": recording.recording_duration,
        "start_reason": _reason(recording.start_reason),
        "stop_reason": _reason(recording.stop_reason),
        "meeting_id": recording.meeting_id,
        "url": recording.url,
        "page_contract": recording.page_contract,
        "max_seconds": recording.max_seconds,
        "video_config": VideoObject(
            codec=recording.codec, width=recording.width, height=recording.height, fps=recording.fps
        ),
        "error": recording.error,
        "quality": recording.quality,
        "timeline": [TimelineObject(**entry.model_dump()) for entry in recording.timeline],
        "webhooks": [
            RecordingWebhook(id=str(webhook_id_of(recording.organization_id, url)), url=url)
            for url in recording.webhooks
        ],
    }


def _reason(reason: Reason | None) -> ReasonObject | None:
    return ReasonObject(**reason.model_dump()) if reason else None
