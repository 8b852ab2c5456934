"""Responses: a recording in the format of the recording API, with the farm's own fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, Field, JsonValue, PlainSerializer, WithJsonSchema
from pydantic_core import to_json
from starlette.responses import Response

from recording_farm.api.schema.requests import RecordingDefaults
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.encoder.formats import AudioCodec, Codec, Profile
from recording_farm.farm.clock import time_text
from recording_farm.farm.nodes.availability import LivingNode, WaitReason, why_waiting
from recording_farm.farm.queues.recordings import Place
from recording_farm.farm.recording.copies import NO_COPIES, Copies, Copy
from recording_farm.farm.recording.estimate import estimate
from recording_farm.farm.recording.files import FilesState, files_state
from recording_farm.farm.recording.findings import Finding
from recording_farm.farm.recording.formats import format_of
from recording_farm.farm.recording.links import DownloadLink
from recording_farm.farm.recording.model import (
    FINAL,
    Corner,
    Failure,
    Priority,
    Reason,
    ReasonKind,
    Recording,
    Status,
    TakeInFile,
    TimelineEvent,
    Watermark,
    is_cancelled,
    stop_reason_of,
)
from recording_farm.farm.recording.outputs import OVER as OUTPUTS_OVER
from recording_farm.farm.recording.outputs import Output, OutputKind, OutputState
from recording_farm.farm.recording.transfers import (
    Transfer,
    TransferError,
    TransferEvent,
    TransferState,
    client_view,
)
from recording_farm.farm.webhooks.registry import webhook_id_of

Moment = Annotated[
    datetime,
    PlainSerializer(time_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-01-31T09:00:00.000Z"]}),
]
"""A time in UTC with milliseconds."""


def _is_none(value: object) -> bool:
    return value is None


def _without_null(schema: dict[str, Any]) -> None:
    (schema_of_value,) = (option for option in schema.pop("anyOf") if option != {"type": "null"})
    del schema["default"]
    schema.update(schema_of_value)


_LEFT_OUT: Final[Any] = Field(exclude_if=_is_none, json_schema_extra=_without_null)
"""For a field that is left out when it has no value, as the recording API's clients expect."""


class CallerObject(BaseModel):
    """Who started or stopped a recording."""

    type: Literal["ORGANIZATION", "USER"]
    # The recording API writes the capital I.
    user_id: Annotated[str | None, _LEFT_OUT] = Field(default=None, serialization_alias="user_Id")
    name: Annotated[str | None, _LEFT_OUT] = None


class ReasonObject(BaseModel):
    """Why a recording started or stopped; without a caller, no client caused it."""

    reason: ReasonKind
    caller: Annotated[CallerObject | None, _LEFT_OUT] = None


class SizeObject(BaseModel):
    """Pixels; without a height the aspect ratio is kept."""

    width: int
    height: int | None


class WatermarkObject(BaseModel):
    """The image that is drawn over the video."""

    url: str
    size: SizeObject
    position: Corner


class VideoObject(BaseModel):
    """The video."""

    codec: Codec
    width: int
    height: int
    fps: int
    profile: Profile
    watermark: WatermarkObject | None = Field(description="drawn over it")


class TimelineObject(BaseModel):
    """A new state, the start or end of a take or finding, a recovered fault, or an event of the page."""

    time: Moment
    event: TimelineEvent
    status: Status | None = None
    take: int | None = None
    fault: str | None = None
    finding: Finding | str | None = Field(default=None, description="newer versions may have more findings")
    seconds: float | None = Field(
        default=None, description="the duration of a finding or take that has ended, or of what is `missing`"
    )
    message: str | None = Field(
        default=None, description="the details of `page_changed`, `rejoined`, `warning` and `missing`"
    )


class AudioObject(BaseModel):
    """The separate audio file."""

    codec: AudioCodec
    channel: Literal["mono", "stereo"]


class TransferObject(BaseModel):
    """An upload of the files: to the farm's `store`, or to the customer's storage."""

    target: str
    state: TransferState
    attempts: int
    next_try: Moment | None = Field(description="when a WAITING transfer is retried; null is at once")
    failing: bool = Field(
        description="whether attempts keep failing: it is retried, but somebody should look at the target"
    )
    error: TransferError | None = Field(description="why the last attempt failed")
    location: str | None = Field(description="where the main file is, once it is uploaded")
    note: str | None = Field(
        default=None,
        description="why the upload was not read back, for example because the key may only write",
    )
    in_parts: bool | None = Field(
        default=None,
        description="whether it is uploaded during the recording; if not, the whole file is uploaded after "
        "its end. Null if that is not known, or it is DONE",
    )
    uploaded_bytes: int | None = Field(
        default=None,
        description="bytes of the main file that the target has acknowledged, `file_size` once it is DONE; "
        "updated every 2 s. Null if that is not known, or if nothing is uploaded, because the store is in "
        "the node's own data directory",
    )
    behind_seconds: float | None = Field(
        default=None,
        description="seconds that are recorded so far but not yet at the target, 0 once it is DONE; null "
        "like uploaded_bytes",
    )


class RecordingDefaultsObject(RecordingDefaults):
    """The defaults for recordings, without the secrets of storage, streams, credentials, headers, cookies."""

    storage_config: dict[str, JsonValue] | None = None  # type: ignore[assignment]
    live_streaming_config: dict[str, JsonValue] | None = None  # type: ignore[assignment]
    http_credentials: list[dict[str, JsonValue]] | None = None  # type: ignore[assignment]
    headers: dict[str, None] | None = None  # type: ignore[assignment]
    cookies: list[dict[str, JsonValue]] | None = None  # type: ignore[assignment]


class RecordingWebhook(BaseModel):
    """A webhook URL of the recording's own; the id is that of its log."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    url: str


class EstimateObject(BaseModel):
    """The approximate cost of the recording, from measurements of its profile."""

    bytes_per_hour: int
    cores: float = Field(description="CPU cores that it uses")


class OutputObject(BaseModel):
    """A live output of the recording."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    type: OutputKind
    url: str | None = Field(description="without the stream's key; for HLS a new link to the playlist")
    state: OutputState
    retries: int
    error: str | None = Field(description="why the last attempt failed")


class WaitingObject(BaseModel):
    """Why a recording waits in the queue."""

    position: int = Field(description="1 is the next; it counts by the turns of all organizations")
    reason: WaitReason = Field(
        description="`starting`: a slot is free and takes it within seconds; `slots`: all slots are in use; "
        "`disk`, `memory`, `load`, `no_room`: no node has room for another recording; `drained`: all nodes "
        "are drained or shutting down; `no_node`: no node is running; `quota`: your organization runs as "
        "many recordings as it may"
    )
    message: str = Field(description="the same as a sentence")


class MeetingRecording(BaseModel):
    """A recording as a participant of its meeting sees it: the fields of the recording API."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    status: Status
    invoked_time: Moment
    started_time: Moment | None = Field(description="when the first take began")
    stopped_time: Moment | None = Field(description="when the last take ended")
    output_file_name: str
    session_id: str | None
    download_url: str | None = Field(description="a link to the file, new in each response")
    download_url_expiry: Moment | None
    audio_download_url: str | None = Field(description="a link to the separate audio file")
    file_size: int | None = Field(description="bytes of the file named output_file_name")
    recording_duration: Annotated[int | None, _LEFT_OUT] = Field(
        default=None, description="whole seconds of video in the file"
    )
    storage_config: Annotated[dict[str, JsonValue] | None, _LEFT_OUT] = Field(
        default=None, description="the customer's storage, without its keys"
    )
    start_reason: Annotated[ReasonObject | None, _LEFT_OUT] = None
    stop_reason: Annotated[ReasonObject | None, _LEFT_OUT] = None
    # Not in the recording API.
    meeting_id: str


class RecordingObject(MeetingRecording):
    """A recording."""

    # All of these are extensions.
    url: str = Field(description="the page that is recorded")
    page_contract: PageContract
    locale: str | None = Field(description="language of its browser; null is en-US")
    timezone: str | None = Field(description="time zone of its browser; null is the node's")
    max_seconds: int
    priority: Priority
    node: str | None = Field(description="the machine that records it; null until a node takes it")
    slot: int | None = Field(description="its slot on that machine, counted from 1, until it has ended")
    video_config: VideoObject | None = Field(description="null when only audio is recorded")
    audio_config: AudioObject | None = Field(description="null when there is no separate audio file")
    estimate: EstimateObject
    interactive_config: dict[str, JsonValue] | None = Field(
        description="`type` ID3 when the file is HLS with ID3 tags in a .tar"
    )
    outputs: list[OutputObject] = Field(description="its live outputs")
    transfers: list[TransferObject] = Field(description="the uploads of its files, and their progress")
    files_state: FilesState = Field(
        description="whether the farm's own store has the files: `PENDING` until the recording is UPLOADED "
        "or ERRORED, then `KEPT`, after the retention period `EXPIRED`; `NONE` when there is no file, or "
        "only in the customer's storage"
    )
    files_expire_at: Moment | None = Field(
        description="when KEPT files will be deleted (FARM_RETENTION); null of KEPT files is never"
    )
    expired_time: Moment | None = Field(
        description="when the files were deleted at the end of the retention period"
    )
    error: Failure | None = Field(description="why it is ERRORED, or the fault that ended it")
    cancelled: bool = Field(
        description="whether somebody stopped it before its first frame: it is ERRORED, as in the recording "
        "API, but nothing failed"
    )
    quality: dict[str, JsonValue] | None = Field(
        description="frames captured, lost and doubled, takes, speed (1 is real time), quality reductions, "
        "silent seconds, number and duration of each finding, peak memory in bytes"
    )
    queue_position: int | None = Field(
        description="while INVOKED: 1 is the next; it counts by the turns of all organizations"
    )
    waiting: WaitingObject | None = Field(description="while it is in the queue: why it waits; else null")
    takes: list[TakeInFile] = Field(
        description="where each take is in the finished file, in their order; empty until the file is made"
    )
    timeline: list[TimelineObject]
    webhooks: list[RecordingWebhook] = Field(
        description="its own webhooks, in addition to the organization's"
    )


class MeetingObject(BaseModel):
    """The meeting of a recording. The farm stores no meetings; these values come from the recording."""

    id: str
    title: str
    created_at: Moment = Field(description="when its recording was requested")
    updated_at: Moment = Field(description="when its recording was requested, started or stopped, the latest")


class ListedRecording(RecordingObject):
    """A recording in a list, with its meeting."""

    meeting: MeetingObject


class Paging(BaseModel):
    """The entries of a page, counted from 1; both offsets are 0 on an empty page."""

    total_count: int
    start_offset: int
    end_offset: int

    @classmethod
    def of_page(cls, offset: int, count: int, total: int) -> "Paging":
        """The paging of a page with `count` entries after `offset` others."""
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
    """The envelope of every response that is not an error."""
    content: dict[str, Any] = {"success": True, "data": data}
    if paging is not None:
        content["paging"] = paging
    # The models directly as JSON, which is faster than through plain values.
    body = to_json(content, by_alias=True, inf_nan_mode="null")
    return Response(body, status, {"Cache-Control": "no-store"}, "application/json")


@dataclass(frozen=True)
class RecordingLinks:
    """The URLs in a response about a recording, and when its files are deleted.

    Download links are signed for each response.
    """

    page: str
    """The page that is recorded, without the token of its recorder."""
    video: DownloadLink | None
    audio: DownloadLink | None
    playlists: Mapping[UUID, DownloadLink]
    """Of the HLS outputs that have one, by their ids."""
    files_expire_at: datetime | None = None


def recording_object(
    recording: Recording,
    links: RecordingLinks,
    waiting: WaitingObject | None = None,
    copies: Copies = NO_COPIES,
) -> RecordingObject:
    """A recording as clients see it."""
    return RecordingObject(**_fields(recording, links, copies), **_queue_fields(waiting))


def listed_recording(
    recording: Recording,
    links: RecordingLinks,
    waiting: WaitingObject | None = None,
    copies: Copies = NO_COPIES,
) -> ListedRecording:
    """A recording as clients see it in a list."""
    meeting = MeetingObject(
        id=recording.meeting_id,
        title=recording.meeting_id,
        created_at=recording.invoked_time,
        updated_at=recording.stopped_time or recording.started_time or recording.invoked_time,
    )
    return ListedRecording(**_fields(recording, links, copies), **_queue_fields(waiting), meeting=meeting)


def waiting_object(place: Place | None, nodes: Sequence[LivingNode]) -> WaitingObject | None:
    """Why the recording at a place of the queue waits; None for one that is not in the queue."""
    if place is None:
        return None
    wait = why_waiting(place.position, nodes, is_held_back=place.is_held_back)
    return WaitingObject(position=place.position, reason=wait.reason, message=wait.message)


def _queue_fields(waiting: WaitingObject | None) -> dict[str, Any]:
    return {"queue_position": waiting.position if waiting else None, "waiting": waiting}


def for_participants(shown: RecordingObject) -> MeetingRecording:
    """The fields of a recording that a participant of its meeting may see."""
    fields = {name: getattr(shown, name) for name in MeetingRecording.model_fields}
    return MeetingRecording(**fields | {"storage_config": None})


def _fields(recording: Recording, links: RecordingLinks, copies: Copies) -> dict[str, Any]:
    link = links.video or links.audio
    return {
        "id": str(recording.id),
        "status": recording.status,
        "invoked_time": recording.invoked_time,
        "started_time": recording.started_time,
        "stopped_time": recording.stopped_time,
        "output_file_name": recording.output_file_name,
        # The farm does not know the sessions of a meeting.
        "session_id": None,
        "download_url": links.video.url if links.video else None,
        "audio_download_url": links.audio.url if links.audio else None,
        "download_url_expiry": link.expiry if link else None,
        "file_size": recording.file_size,
        "recording_duration": recording.recording_duration,
        "start_reason": _reason(recording.start_reason),
        "stop_reason": _reason(stop_reason_of(recording)),
        "meeting_id": recording.meeting_id,
        "url": links.page,
        "page_contract": recording.page_contract,
        "locale": recording.locale,
        "timezone": recording.timezone,
        "max_seconds": recording.max_seconds,
        "priority": recording.priority,
        "node": recording.node,
        "slot": recording.slot,
        "video_config": _video(recording),
        "audio_config": _audio(recording),
        "storage_config": recording.storage_config,
        "estimate": EstimateObject(**vars(estimate(format_of(recording)))),
        "interactive_config": {"type": "ID3"} if recording.timed_texts else None,
        "outputs": [_output(recording, output, links) for output in recording.outputs],
        # A recording without a file is never transferred.
        "transfers": [
            _transfer(transfer, recording, copies.get(transfer.target))
            for transfer in recording.transfers
            if recording.status is not Status.ERRORED
        ],
        "files_state": files_state(recording),
        "files_expire_at": links.files_expire_at,
        "expired_time": recording.expired_time,
        "error": recording.error,
        "cancelled": is_cancelled(recording),
        "quality": recording.quality,
        "takes": list(recording.takes),
        "timeline": [TimelineObject(**entry.model_dump()) for entry in recording.timeline],
        "webhooks": [
            RecordingWebhook(id=str(webhook_id_of(recording.organization_id, url)), url=url)
            for url in recording.webhooks
        ],
    }


def _watermark(mark: Watermark | None) -> WatermarkObject | None:
    if mark is None:
        return None
    size = SizeObject(width=mark.width, height=mark.height)
    return WatermarkObject(url=mark.url, size=size, position=mark.position)


def _video(recording: Recording) -> VideoObject | None:
    if not recording.video_file:
        return None
    return VideoObject(
        codec=recording.codec,
        width=recording.width,
        height=recording.height,
        fps=recording.fps,
        profile=recording.profile,
        watermark=_watermark(recording.watermark),
    )


def _output(recording: Recording, output: Output, links: RecordingLinks) -> OutputObject:
    state = output.state
    if recording.status in FINAL and state not in OUTPUTS_OVER:
        # Its recorder died before it could report the end.
        state = OutputState.FAILED
    url = output.url
    if output.kind is OutputKind.HLS:
        link = links.playlists.get(output.id)
        url = link.url if link else None
    return OutputObject(
        id=str(output.id), type=output.kind, url=url, state=state, retries=output.retries, error=output.error
    )


def _audio(recording: Recording) -> AudioObject | None:
    export = recording.audio_file
    if export is None:
        return None
    return AudioObject(codec=export.codec, channel="mono" if export.channels == 1 else "stereo")


def _transfer(transfer: Transfer, recording: Recording, copy: Copy | None) -> TransferObject:
    fields = client_view(transfer).model_dump(exclude={"first_tried", "event"})
    progress: dict[str, Any] = {}
    if transfer.state is TransferState.DONE:
        progress = {"uploaded_bytes": recording.file_size, "behind_seconds": 0}
    elif transfer.state is not TransferState.GIVEN_UP and copy is not None:
        progress = copy.model_dump(exclude={"has_fallen_behind"})
    return TransferObject(**fields, **progress, failing=transfer.event is TransferEvent.FAILING)


def _reason(reason: Reason | None) -> ReasonObject | None:
    if reason is None:
        return None
    caller = reason.caller
    # The recording API has no type of caller for the farm itself.
    named = None if caller is None or caller.type == "INTERNAL" else CallerObject(**caller.model_dump())
    return ReasonObject(reason=reason.reason, caller=named)
