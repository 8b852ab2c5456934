"""What clients send: the bodies of requests, checked field by field.

A field of the recording API that the farm does not do yet is refused, never quietly ignored: who asks for a
watermark must not get a file without one.
"""

import json
from typing import Annotated, Any, Final, Literal, TypeVar, get_origin

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from starlette.requests import Request

from browser_bot.contracts import PageContract
from encoder.formats import Codec
from farm.errors import InvalidRequest, MalformedRequest, RequestTooLarge
from farm.orders import Order
from farm.recording_configs import Defaults, combine
from farm.recordings import Status

MAX_BODY_BYTES = 1 << 20

LONGEST_SECONDS = 86400
"""The longest recording a request may ask for; the settings may allow less."""


def _not_yet(value: Any) -> Any:
    if value is not None:
        raise PydanticCustomError("not_yet", "is not supported by this farm yet; leave it out")
    return value


def _even(value: int) -> int:
    if value % 2:
        # Both codecs store colour for squares of four pixels.
        raise PydanticCustomError("even", "must be even")
    return value


def _meeting_id(value: str) -> str:
    if not value.isprintable() or not value.strip():
        raise PydanticCustomError("printable", "must be printable characters")
    if value in {".", ".."}:
        # As a part of a path these would name another page.
        raise PydanticCustomError("not_a_name", "must not be a dot or two")
    return value


def _on(value: bool) -> bool:
    if not value:
        raise PydanticCustomError("not_yet", "can only be true; this farm cannot leave it out yet")
    return value


NotYet = Annotated[Any, AfterValidator(_not_yet)]
On = Annotated[bool, AfterValidator(_on)]
Pixels = Annotated[int, Field(ge=16, le=1920), AfterValidator(_even)]


class _Body(BaseModel):
    # Strict: "60" is no number and 1 no boolean, so that a client's mistake shows at once.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class VideoConfig(_Body):
    """The picture."""

    codec: Codec = Codec.H264
    width: Pixels = 1280
    height: Pixels = 720
    export_file: On = True
    watermark: NotYet = None


class AudioConfig(_Body):
    """The sound; there is one kind, and with VP8 it is Opus whatever is asked."""

    codec: Literal["AAC"] = "AAC"
    channel: Literal["stereo"] = "stereo"
    export_file: On = True


class BucketConfig(_Body):
    """Whether the farm keeps the file in its own store."""

    enabled: On


class RecordingConfig(_Body):
    """How a meeting is to be recorded; as far as it is said, see `fields_set`."""

    url: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = None
    max_seconds: Annotated[int, Field(ge=1, le=LONGEST_SECONDS)] | None = None
    file_name_prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,64}$")] | None = None
    page_contract: PageContract = PageContract.AUTO
    video_config: VideoConfig = VideoConfig()
    audio_config: AudioConfig = AudioConfig()
    dyte_bucket_config: BucketConfig | None = None
    realtimekit_bucket_config: BucketConfig | None = None
    storage_config: NotYet = None


class RecordingDefaults(RecordingConfig):
    """The body of PUT …/recording_config."""

    # What a start calls rtmp_out_config.
    live_streaming_config: NotYet = None


MeetingId = Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(_meeting_id)]


class StartRecording(RecordingConfig):
    """The body of POST /v2/recordings."""

    meeting_id: MeetingId
    allow_multiple_recordings: bool = False
    rtmp_out_config: NotYet = None
    interactive_config: NotYet = None


def _comma_separated(value: Any) -> Any:
    """Arrays come as `status=A,B` from clients of Dyte, and as `status=A&status=B` from Cloudflare's."""
    if isinstance(value, list):
        return [part for each in value for part in str(each).split(",") if part]
    return value


class ListRecordings(BaseModel):
    """The query of GET /recordings. Pages count from 1, and 0 is the first one too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    meeting_id: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    page_no: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    per_page: Annotated[int, Field(ge=0, le=1000)] = 20
    expired: bool | None = None
    search: Annotated[str, StringConstraints(max_length=128)] = ""
    sort_by: Literal["invokedTime"] = "invokedTime"
    sort_order: Literal["ASC", "DESC"] = "DESC"
    start_time: AwareDatetime | None = None
    end_time: AwareDatetime | None = None
    status: Annotated[list[Status], Field(max_length=20), BeforeValidator(_comma_separated)] = []


class OrderRecording(_Body):
    """The body of PUT /v2/recordings/{id}."""

    action: Order


_Model = TypeVar("_Model", bound=_Body)


async def read_request(request: Request, model: type[_Model]) -> _Model:
    """The body of a request, as `model`.

    Raises RequestTooLarge, MalformedRequest when it is not JSON, InvalidRequest when a field is wrong.
    """
    body = await _read_body(request)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    if problems[0]["type"] == "json_invalid":
        raise MalformedRequest(f"the body is not JSON: {problems[0]['msg']}")
    raise InvalidRequest(_sentences(problems))


def fields_set(body: _Body) -> dict[str, JsonValue]:
    """What a client has set in a body; null is the same as not to set it."""
    return body.model_dump(mode="json", exclude_unset=True, exclude_none=True)


def with_defaults(wanted: StartRecording, defaults: Defaults) -> StartRecording:
    """What a client wants, with the meeting's and the organisation's defaults for what it has not set.

    Raises InvalidRequest when that does not go together.
    """
    combined = combine(defaults.organization, defaults.meeting, fields_set(wanted))
    try:
        return StartRecording.model_validate_json(json.dumps(combined))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    raise InvalidRequest(f"with the defaults in recording_config: {_sentences(problems)}")


def check_meeting_id(text: str) -> str:
    """A meeting's id from the path. Raises InvalidRequest when it cannot be one."""
    try:
        return _MEETING_ID.validate_python(text)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    raise InvalidRequest(f'"meeting_id": {problems[0]["msg"]}')


_MEETING_ID: Final = TypeAdapter[str](MeetingId)

_Query = TypeVar("_Query", bound=BaseModel)


def read_query(request: Request, model: type[_Query]) -> _Query:
    """The query of a request, as `model`; a parameter that comes several times is a list.

    Raises InvalidRequest when a parameter is wrong.
    """
    values: dict[str, Any] = {}
    for name in request.query_params:
        several = request.query_params.getlist(name)
        field = model.model_fields.get(name)
        is_list = field is not None and get_origin(field.annotation) is list
        values[name] = several if is_list or len(several) > 1 else several[0]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    raise InvalidRequest(_sentences(problems))


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise RequestTooLarge(f"the body is larger than {MAX_BODY_BYTES} bytes")
    return bytes(body)


_MESSAGES = {"missing": "is required", "extra_forbidden": "is not a field this farm knows"}


def _sentences(problems: list[ErrorDetails]) -> str:
    return "; ".join(_sentence(problem) for problem in problems)


def _sentence(problem: ErrorDetails) -> str:
    field = ".".join(str(part) for part in problem["loc"]) or "body"
    return f'"{field}": {_MESSAGES.get(problem["type"], problem["msg"])}'
