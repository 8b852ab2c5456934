"""A recording: what the client asked for, the states it goes through, and what came of it."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.encoder.formats import AudioExport, Codec, Profile
from recording_farm.farm.recording.outputs import Output
from recording_farm.farm.recording.transfers import Transfer


class Status(StrEnum):
    """The state of a recording."""

    INVOKED = "INVOKED"
    """Accepted; waits for a slot, or its page is being opened."""
    RECORDING = "RECORDING"
    PAUSED = "PAUSED"
    UPLOADING = "UPLOADING"
    """Over; the takes are being cut, stored and transferred."""
    UPLOADED = "UPLOADED"
    """The file is where it is to be; `Recording.transfers` tells of each place."""
    ERRORED = "ERRORED"
    """Ended without a file; `Recording.error` says why."""


TRANSITIONS: Mapping[Status, frozenset[Status]] = MappingProxyType(
    {
        Status.INVOKED: frozenset({Status.RECORDING, Status.ERRORED}),
        Status.RECORDING: frozenset({Status.PAUSED, Status.UPLOADING, Status.ERRORED}),
        Status.PAUSED: frozenset({Status.RECORDING, Status.UPLOADING, Status.ERRORED}),
        Status.UPLOADING: frozenset({Status.UPLOADED, Status.ERRORED}),
        Status.UPLOADED: frozenset(),
        Status.ERRORED: frozenset(),
    }
)
"""From each state, the states a recording can go to."""

ACTIVE = frozenset({Status.INVOKED, Status.RECORDING, Status.PAUSED})
"""The states in which a recording occupies its meeting."""

FINAL = frozenset(status for status, following in TRANSITIONS.items() if not following)
"""The states that never change again."""


def sources(to: Status) -> frozenset[Status]:
    """The states from which a recording can go to `to`."""
    return frozenset(status for status, following in TRANSITIONS.items() if to in following)


class ReasonKind(StrEnum):
    """Why a recording started or stopped."""

    API_CALL = "API_CALL"
    STOPPED_BEFORE_START = "STOPPED_BEFORE_START"
    """A stop order came before the first frame."""
    MAX_DURATION = "MAX_DURATION"
    """`max_seconds` were over."""
    PAGE_ENDED = "PAGE_ENDED"
    """The page said that it is over."""
    ALL_PEERS_LEFT = "ALL_PEERS_LEFT"
    """Nobody was in the meeting any more."""
    INTERNAL_ERROR = "INTERNAL_ERROR"
    """A fault that restarts did not cure."""
    NODE_SHUT_DOWN = "NODE_SHUT_DOWN"
    """An operator shut the node down. Records have INTERNAL_ERROR; see `stop_reason_of`."""


class Priority(StrEnum):
    """Who is recorded first where slots are scarce; the members are in that order."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Caller(BaseModel):
    """Who started or stopped a recording."""

    model_config = ConfigDict(frozen=True)

    type: Literal["ORGANIZATION", "USER", "INTERNAL"]
    user_id: str | None = None
    name: str | None = None


def organization_caller(organization_id: str) -> Caller:
    """An organization as the one who started or stopped a recording."""
    return Caller(type="ORGANIZATION", user_id=organization_id, name=organization_id)


class Reason(BaseModel):
    """Why a recording started or stopped, and who did it (None: nobody, it came so)."""

    model_config = ConfigDict(frozen=True)

    reason: ReasonKind
    caller: Caller | None = None


class Corner(StrEnum):
    """The corner of the picture that the watermark stands in, and touches."""

    LEFT_TOP = "left top"
    RIGHT_TOP = "right top"
    LEFT_BOTTOM = "left bottom"
    RIGHT_BOTTOM = "right bottom"


class Watermark(BaseModel):
    """What is drawn over the picture: a PNG, JPEG or SVG, scaled to `width` x `height` pixels.

    Without a height it is as high as its shape makes it.
    """

    model_config = ConfigDict(frozen=True)

    url: str
    width: Annotated[int, Field(description="pixels")]
    height: Annotated[int | None, Field(description="pixels")] = None
    position: Corner = Corner.LEFT_TOP


class Failure(BaseModel):
    """Why a recording is ERRORED: a stable code for programs, a sentence for people."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str


TimelineEvent = Literal[
    "state",
    "take_began",
    "take_ended",
    "fault",
    "finding_began",
    "finding_ended",
    "page_changed",
    "rejoined",
    "warning",
    "missing",
]
"""What an entry of a timeline is about."""


class TimelineEntry(BaseModel):
    """One entry of a recording's timeline: a state, a take or finding, what broke, or what the page did."""

    model_config = ConfigDict(frozen=True)

    time: AwareDatetime
    event: TimelineEvent = "state"
    status: Status | None = None
    """The state, of a `state`."""
    take: int | None = None
    """The take's number, counted from 0."""
    fault: str | None = None
    """What broke, of a `fault` after which the recording went on."""
    finding: str | None = None
    """The `Finding` of the watch, or a newer version's, of a `finding_began` or `finding_ended`."""
    seconds: float | None = None
    """How long a finding lasted that has ended, or a take, or how much is `missing`."""
    node: str | None = None
    """The node that was gone, of a `fault` after which another one went on."""
    message: str | None = None
    """What happened, of a `page_changed`, `rejoined`, `warning` or `missing`."""


class FileKind(StrEnum):
    """What a finished file is."""

    VIDEO = "video"
    AUDIO = "audio"
    MANIFEST = "manifest"
    """What is in the others, as JSON."""


class FinishedFile(BaseModel):
    """A finished file: its name, bytes and checksums.

    `sha256` is in hexadecimal, and empty for a long file (`recording_farm.farm.spool.finished_file`): version
    0.1 reads text only. `crc32c` is in base64, as S3 and Google write it; files of version 0.1 have none.
    """

    model_config = ConfigDict(frozen=True)

    kind: FileKind
    name: str
    size: int
    sha256: str = ""
    crc32c: str | None = None


class TakeInFile(BaseModel):
    """Where a take is in the finished file, and how many frames it has there."""

    model_config = ConfigDict(frozen=True)

    take: Annotated[int, Field(description="the number of the take, as in the timeline")]
    start_ns: Annotated[int, Field(description="nanoseconds from the beginning of the file")]
    duration_ns: Annotated[int, Field(description="nanoseconds")]
    frames: Annotated[int, Field(description="0 in a file with audio alone")]
    frames_lost: Annotated[int, Field(description="frames that are missing; the one before is shown longer")]


class Recording(BaseModel):
    """One recording, as it is kept in Redis; a value, changed only through `Records`."""

    # Fields of a newer version of the farm that shares the Redis are left alone, not refused.
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    organization_id: str
    meeting_id: str
    url: str
    """The page to open."""
    page_contract: PageContract = PageContract.AUTO
    locale: str | None = None
    """The language of its browser, a BCP 47 tag; None is en-US."""
    timezone: str | None = None
    """The time zone of its browser, an IANA name; None is the node's."""
    codec: Codec = Codec.H264
    width: Annotated[int, Field(description="pixels")] = 1280
    height: Annotated[int, Field(description="pixels")] = 720
    fps: Annotated[int, Field(description="frames per second")] = 30
    profile: Profile = Profile.MIXED
    watermark: Watermark | None = None
    video_file: bool = True
    """Whether there is a file with picture and sound; else `audio_file` is the only one."""
    audio_file: AudioExport | None = None
    """What the file with sound alone is encoded to; None if there is none."""
    outputs: tuple[Output, ...] = ()
    """Where it is sent while it is made; their URLs are kept apart, sealed."""
    timed_texts: bool = False
    """Whether the file is HLS with what the page says as ID3 tags, in one archive."""
    max_seconds: Annotated[int, Field(description="seconds of recording after which it ends")] = 86400
    file_name_prefix: str | None = None
    priority: Priority = Priority.NORMAL
    webhooks: tuple[str, ...] = ()
    """URLs that are told of this recording's states, besides the organization's webhooks."""
    output_file_name: str
    """The name of the finished file; safe as a file name, see `output_file_name`."""
    status: Status = Status.INVOKED
    node: str | None = None
    """The node whose worker records it; None until one has taken it."""
    slot: Annotated[int, Field(ge=1)] | None = None
    """The number of that node's slot it is in; None before and after."""
    invoked_time: AwareDatetime
    started_time: AwareDatetime | None = None
    """When the first take began."""
    stopped_time: AwareDatetime | None = None
    """When the last take ended."""
    files: tuple[FinishedFile, ...] = ()
    """What was made of the takes, the file named `output_file_name` first; empty until then."""
    keep_copy: bool = True
    """Whether the store keeps the files; without, it takes them only if no transfer succeeds."""
    storage_config: dict[str, JsonValue] | None = None
    """The customer's storage, without its keys; these are kept apart, see `Records.sealed_target`."""
    transfers: tuple[Transfer, ...] = ()
    """Each place the files go to, and how far they are."""
    expired_time: AwareDatetime | None = None
    """When the store's files were deleted by their age."""
    file_size: Annotated[int | None, Field(description="bytes")] = None
    recording_duration: Annotated[int | None, Field(description="whole seconds of video in the file")] = None
    start_reason: Reason | None = None
    stop_reason: Reason | None = None
    """As the recorder says it; see `stop_reason_of`."""
    stopped_by: Caller | None = None
    """The participant who told it to stop; None if nobody did, or the organization."""
    error: Failure | None = None
    had_company: bool = False
    """Whether somebody else was in the meeting at any time, so that it can be empty; for nodes that go on."""
    quality: dict[str, JsonValue] | None = None
    """What was measured while recording: frames captured, frames lost, what the watch found."""
    takes: tuple[TakeInFile, ...] = ()
    """Where each take is in the finished file; empty until that is made."""
    timeline: tuple[TimelineEntry, ...] = ()
    """Every state, take and finding with its time, oldest first."""


STOPPED_BEFORE_START: Final = "stopped_before_start"
"""The error code of a recording that was stopped before its first frame."""

NODE_SHUT_DOWN: Final = "node_shut_down"
"""The error code of a recording that ended because its node was shut down."""

_BY_COMMAND: Final = frozenset({ReasonKind.API_CALL, ReasonKind.STOPPED_BEFORE_START})


def is_cancelled(recording: Recording) -> bool:
    """Whether somebody stopped the recording before its first frame: it is ERRORED, but nothing failed."""
    error = recording.error
    return recording.status is Status.ERRORED and error is not None and error.code == STOPPED_BEFORE_START


def stop_reason_of(recording: Recording) -> Reason | None:
    """Why a recording stopped, as clients see it.

    Its recorder knows neither the participant who stopped it, nor, in records that every version of the farm
    can read, a reason for the shutdown of a node.
    """
    reason = recording.stop_reason
    if reason is None:
        return None
    error = recording.error
    if reason.reason is ReasonKind.INTERNAL_ERROR and error is not None and error.code == NODE_SHUT_DOWN:
        return Reason(reason=ReasonKind.NODE_SHUT_DOWN, caller=reason.caller)
    if recording.stopped_by is None or reason.reason not in _BY_COMMAND:
        return reason
    return Reason(reason=reason.reason, caller=recording.stopped_by)
