"""Requests of clients: bodies, queries and headers, validated field by field.

Unknown fields are rejected, never ignored: a client that sets one must not get a file without it.
"""

import json
import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeVar, get_origin

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, from_json
from starlette.requests import Request

from recording_farm.api.http_errors import MalformedRequestError, RequestTooLargeError
from recording_farm.api.schema.validation_messages import problems_of
from recording_farm.browser_bot.network.addresses import has_dot_segment
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.page.hints import PageHints
from recording_farm.browser_bot.page.site_access import Cookies, Credentials, Headers
from recording_farm.browser_bot.stage.locales import read_locale, read_timezone
from recording_farm.encoder.formats import AudioCodec, Codec, Profile
from recording_farm.farm.errors import InvalidRequestError
from recording_farm.farm.pages.access import AuthToken, Layout
from recording_farm.farm.recording.commands import Command
from recording_farm.farm.recording.defaults import Defaults, combine, for_page
from recording_farm.farm.recording.model import Corner, Priority, Status
from recording_farm.farm.recording.outputs import MAX_OUTPUTS, read_stream_url
from recording_farm.farm.storage.targets import (
    PRESET_NAME_RULE,
    PresetName,
    StorageConfig,
    Target,
    with_secrets,
)
from recording_farm.farm.webhooks.registry import WebhookEvent

MAX_BODY_BYTES = 1 << 20

MAX_SECONDS = 86400
"""The longest recording a request may ask for; the settings may allow less."""


_UNPRINTABLE: Final = (
    r"\u0000-\u001f\u007f-\u00a0\u00ad\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\ufff0-\uffff"
)
"""Control characters, separators other than the space, invisible characters, and changes of text direction.
Written so that JSON Schema reads it as Python does, because the OpenAPI document has it too."""

_PRINTABLE: Final = re.compile(rf"^ *[^ {_UNPRINTABLE}][^{_UNPRINTABLE}]*$")
_DOTS: Final = (".", "..")


def _meeting_id(value: str) -> str:
    if not _PRINTABLE.fullmatch(value):
        raise PydanticCustomError("printable", "must be printable characters")
    if has_dot_segment(value):
        # In the path of the meeting's page these would name another page.
        raise PydanticCustomError("not_a_name", "must not be . or .., nor have them between slashes")
    return value


MeetingId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128),
    AfterValidator(_meeting_id),
    Field(json_schema_extra={"pattern": _PRINTABLE.pattern, "not": {"enum": list(_DOTS)}}),
]
"""A meeting: any printable text."""

PageUrl = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2048),
    Field(json_schema_extra={"format": "uri"}, description="the page to record, http or https"),
]
"""A page to open; `browser_bot.network.addresses` checks its address."""


def _whole(value: Any) -> Any:
    # In JSON, and in the schemas of the OpenAPI document, 720.0 is a whole number too.
    return int(value) if isinstance(value, float) and value.is_integer() else value


Pixels = Annotated[int, Field(ge=16, le=1920, multiple_of=2), BeforeValidator(_whole)]
"""Even, because both codecs store color for squares of four pixels."""

Seconds = Annotated[int, Field(ge=1, le=MAX_SECONDS), BeforeValidator(_whole)]
FileNamePrefix = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_]{1,64}$"),
    Field(description="the beginning of the file's name: letters, digits, underscores"),
]

WebhookUrl = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2048),
    Field(json_schema_extra={"format": "uri"}),
]
"""A URL that receives events; `browser_bot.network.addresses` checks its address."""


def _as_read(read: Callable[[str], str]) -> AfterValidator:
    """The text as `read` returns it; its ValueError is the message for the client."""

    def check(value: str) -> str:
        try:
            return read(value)
        except ValueError as error:
            raise PydanticCustomError("unreadable", "{problem}", {"problem": str(error)}) from None

    return AfterValidator(check)


Locale = Annotated[
    str,
    StringConstraints(max_length=35),
    _as_read(read_locale),
    Field(json_schema_extra={"format": "locale"}),
]
TimeZone = Annotated[
    str,
    StringConstraints(max_length=64),
    _as_read(read_timezone),
    Field(json_schema_extra={"format": "timezone"}),
]


FramesPerSecond = Annotated[int, Field(ge=15, le=60), BeforeValidator(_whole)]
MarkPixels = Annotated[int, Field(ge=1, le=1920), BeforeValidator(_whole)]
WatermarkUrl = Annotated[
    str, StringConstraints(min_length=1, max_length=2048), Field(json_schema_extra={"format": "uri"})
]
"""The URL of an image; `browser_bot.network.addresses` checks its address."""


def _output_url(value: str) -> str:
    try:
        read_stream_url(value)
    except ValueError as error:
        raise PydanticCustomError("output_url", "{problem}", {"problem": str(error)}) from None
    return value


OutputUrl = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2048),
    AfterValidator(_output_url),
    Field(
        json_schema_extra={"format": "stream-uri", "writeOnly": True},
        description="rtmp://, rtmps:// or srt://; the stream's key in it is never shown",
    ),
]

WebhookName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
WebhookEvents = Annotated[list[WebhookEvent], Field(min_length=1, max_length=20)]


class _Body(BaseModel):
    # Strict: "60" is not a number and 1 not a boolean, so that mistakes are reported at once.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _NullIsUnset(_Body):
    """A body in which null means that a field is not set."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        # Unknown fields are rejected, null or not.
        return {
            name: each for name, each in value.items() if each is not None or name not in cls.model_fields
        }

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        described = handler.resolve_ref_schema(handler(schema))
        for name, each in described["properties"].items():
            if name not in described.get("required", ()) and each.get("type") != "null":
                described["properties"][name] = _or_null(each)
        return described


def _or_null(described: dict[str, Any]) -> dict[str, Any]:
    if {"type": "null"} in described.get("anyOf", ()):
        return described
    about = {name: described[name] for name in ("default", "description", "title") if name in described}
    rest = {name: value for name, value in described.items() if name not in about}
    return {"anyOf": [rest, {"type": "null"}]} | about


class WatermarkSize(_NullIsUnset):
    """The size in pixels; without a height the watermark keeps its aspect ratio."""

    width: MarkPixels = 200
    height: MarkPixels | None = None


class WatermarkConfig(_NullIsUnset):
    """A PNG, JPEG or SVG of up to 5 MiB, which is fetched once, at the request."""

    url: WatermarkUrl
    size: WatermarkSize = WatermarkSize()
    position: Corner = Corner.LEFT_TOP


class VideoConfig(_NullIsUnset):
    """The video."""

    codec: Codec = Codec.H264
    width: Pixels = 1280
    height: Pixels = 720
    fps: FramesPerSecond = 30
    profile: Profile = Field(default=Profile.MIXED, description="the kind of content")
    export_file: bool = Field(default=True, description="false records audio only")
    watermark: WatermarkConfig | None = Field(default=None, description="drawn over the video, in a corner")


class AudioConfig(_NullIsUnset):
    """A separate audio file, beside the video or instead of it; the audio of a video is stereo."""

    codec: AudioCodec = AudioCodec.AAC
    channel: Literal["mono", "stereo"] = "stereo"
    export_file: bool = Field(default=True, description="false makes no such file")


class BucketConfig(_Body):
    """Whether the farm keeps the files in its own store."""

    enabled: bool


class RtmpOutConfig(_NullIsUnset):
    """A live output by RTMP, RTMPS or SRT."""

    rtmp_url: OutputUrl


class StreamOutput(_NullIsUnset):
    """A live output to a receiver, by RTMP, RTMPS or SRT."""

    url: OutputUrl


class HlsOutput(_NullIsUnset):
    """A live output as HLS: playlist and segments, in the store and the customer's storage."""

    type: Literal["HLS"]


class InteractiveConfig(_NullIsUnset):
    """The file is HLS with the page's messages as ID3 tags, in a .tar."""

    type: Literal["ID3"]


class RecordingConfig(_NullIsUnset):
    """The options of a recording; `fields_set` returns those that are set."""

    url: PageUrl | None = None
    max_seconds: Seconds | None = Field(
        default=None, description="recorded time after which it ends, pauses not counted"
    )
    file_name_prefix: FileNamePrefix | None = None
    page_contract: PageContract = Field(
        default=PageContract.AUTO, description="how the page signals that it is ready and over"
    )
    locale: Locale | None = Field(
        default=None, description="language of the browser, such as de-AT; default FARM_LOCALE"
    )
    timezone: TimeZone | None = Field(
        default=None, description="time zone of the browser, such as Europe/Vienna; default FARM_TIMEZONE"
    )
    http_credentials: Credentials | None = Field(
        default=None,
        description="user names and passwords (HTTP Basic, Digest) for the page's origin or others",
        json_schema_extra={"writeOnly": True},
    )
    headers: Headers | None = Field(
        default=None,
        description="headers of each request to the page's origin, and to no other",
        json_schema_extra={"writeOnly": True},
    )
    cookies: Cookies | None = Field(
        default=None,
        description="cookies that the browser has when it opens the page",
        json_schema_extra={"writeOnly": True},
    )
    video_config: VideoConfig = VideoConfig()
    audio_config: AudioConfig | None = Field(
        default=None, description="makes a separate audio file; without it there is none beside a video"
    )
    priority: Priority = Field(
        default=Priority.NORMAL,
        description="which recordings start first when there are not enough slots",
    )
    dyte_bucket_config: BucketConfig | None = None
    realtimekit_bucket_config: BucketConfig | None = None
    storage_config: StorageConfig | None = Field(
        default=None, description="the customer's own storage, which the files are copied to"
    )


class RecordingDefaults(RecordingConfig):
    """The body of PUT …/recording_config."""

    live_streaming_config: RtmpOutConfig | None = Field(
        default=None, description="the same as rtmp_out_config of a start"
    )


class StartRecording(RecordingConfig):
    """The body of POST /v2/recordings."""

    meeting_id: MeetingId
    allow_multiple_recordings: bool = Field(
        default=False, description="start although the meeting is already being recorded"
    )
    auth_token: AuthToken | None = Field(
        default=None,
        description="`authToken` of the page, or `token` of a LiveKit template; default: made by the farm",
        json_schema_extra={"writeOnly": True},
    )
    layout: Layout | None = Field(default=None, description="of a LiveKit template, such as grid")
    page_hints: PageHints | None = Field(
        default=None,
        description="steps to join and CSS, for a page that does not support recorders",
        json_schema_extra={"writeOnly": True},
    )
    rtmp_out_config: RtmpOutConfig | None = Field(default=None, description="one live output; see outputs")
    live_streaming_config: RtmpOutConfig | None = Field(
        default=None, description="the same as rtmp_out_config, under its name in meetings"
    )
    outputs: Annotated[list[StreamOutput | HlsOutput], Field(max_length=MAX_OUTPUTS)] = Field(
        default=[], description="live outputs; only H.264"
    )
    interactive_config: InteractiveConfig | None = None
    webhooks: Annotated[list[WebhookUrl], Field(max_length=10)] = []


class Upload(_NullIsUnset):
    """The body of POST /recordings/{id}/upload."""

    storage_config: StorageConfig | None = Field(
        default=None,
        description="the storage to upload to; without it, transfers that are not done are retried",
    )


class CreateWebhook(_Body):
    """The body of POST /webhooks, and of PUT /webhooks/{id}."""

    name: WebhookName
    url: WebhookUrl
    events: WebhookEvents
    enabled: bool = True


class EditWebhook(_Body):
    """The body of PATCH /webhooks/{id}; fields that are missing or null stay as they are."""

    name: WebhookName | None = None
    url: WebhookUrl | None = None
    events: WebhookEvents | None = None
    enabled: bool | None = None


class PutStoragePreset(_Body):
    """The body of PUT /storage/presets/{preset_name}."""

    storage_config: Target


class CheckStorage(_Body):
    """The body of POST /storage/check."""

    storage_config: StorageConfig


def _comma_separated(value: Any) -> Any:
    """Arrays come as `status=A,B` from clients of Dyte, and as `status=A&status=B` from Cloudflare's."""
    if isinstance(value, list):
        return [part for each in value for part in str(each).split(",") if part]
    return value


def matching(pattern: str, meaning: str) -> BeforeValidator:
    """Accept only text that matches `pattern`: pydantic reads `1e3` as a number and `0` as a day in 1970."""
    expression = re.compile(pattern, re.ASCII)

    def check(value: Any) -> Any:
        if isinstance(value, str) and not expression.fullmatch(value):
            raise PydanticCustomError("unreadable", "must be {meaning}", {"meaning": meaning})
        return value

    return BeforeValidator(check)


_WHOLE_NUMBER: Final = matching(r"-?\d{1,18}", "a whole number")
Flag = Annotated[bool, matching("true|false", "true or false")]
Time = Annotated[
    AwareDatetime,
    matching(
        r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)",
        "a time with its zone, such as 2026-01-31T09:00:00Z",
    ),
]


class Page(BaseModel):
    """A page of a list; pages count from 1, and 0 is the first page too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    page_no: Annotated[
        int, Field(ge=0, le=1_000_000, description="0 is the first page too"), _WHOLE_NUMBER
    ] = 1
    per_page: Annotated[int, Field(ge=0, le=1000), _WHOLE_NUMBER] = 20

    @property
    def offset(self) -> int:
        """The number of entries before the page."""
        return max(0, self.page_no - 1) * self.per_page


class ListRecordings(Page):
    """The query of GET /recordings."""

    meeting_id: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    expired: Flag | None = Field(
        default=None,
        description="only recordings whose files have expired (`files_state`), or only the others",
    )
    search: Annotated[str, StringConstraints(max_length=128)] = Field(
        default="",
        description="text in the id of the recording or meeting, in the file name or in the host of the URL",
    )
    sort_by: Literal["invokedTime"] = "invokedTime"
    sort_order: Literal["ASC", "DESC"] = "DESC"
    start_time: Time | None = Field(default=None, description="of the invocation; included")
    end_time: Time | None = Field(default=None, description="of the invocation; included")
    status: Annotated[list[Status], Field(max_length=20), BeforeValidator(_comma_separated)] = []


class StartHeaders(BaseModel):
    """The headers of POST /recordings."""

    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = Field(
        default=None,
        alias="Idempotency-Key",
        description="a repeated request with the same key returns the recording it started, for a day",
    )


class AddOutput(_NullIsUnset):
    """The body of POST /recordings/{id}/outputs."""

    url: OutputUrl


class ControlRecording(_Body):
    """The body of PUT /v2/recordings/{id}."""

    action: Command


_Model = TypeVar("_Model", bound=_Body)


async def read_request(request: Request, model: type[_Model]) -> _Model:
    """The body of a request, as `model`.

    Raises RequestTooLargeError, MalformedRequestError when it is not JSON, InvalidRequestError when a field
    is wrong.
    """
    body = await _read_body(request)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False, include_input=False)
        if first["type"] == "json_invalid":
            raise MalformedRequestError(f"the body is not JSON: {first['msg']}") from None
        raise InvalidRequestError(problems_of(error, from_json(body), model)) from None


def fields_set(body: _Body) -> dict[str, JsonValue]:
    """The fields that a client has set in a body, with secrets in clear text; null means not set."""
    values = body.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    config = getattr(body, "storage_config", None)
    if config is not None:
        values["storage_config"] = with_secrets(config)
    return values


def with_defaults(wanted: StartRecording, defaults: Defaults, page: str) -> StartRecording:
    """A request with the meeting's and the organization's defaults for the fields that it does not set.

    `page` is recorded if neither has a `url`.

    Raises InvalidRequestError when the merged request is not valid.
    """
    opened = wanted.url or str(defaults.meeting.get("url") or defaults.organization.get("url") or page)
    combined = combine(*(for_page(config, opened, page) for config in defaults), fields_set(wanted))
    try:
        return StartRecording.model_validate_json(json.dumps(combined))
    except ValidationError as error:
        problems = problems_of(error, combined, StartRecording)
    raise InvalidRequestError(f"with the defaults in recording_config: {problems}")


def check_meeting_id(text: str) -> str:
    """A meeting's id from the path. Raises InvalidRequestError when it is not valid."""
    try:
        return _MEETING_ID.validate_python(text)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    raise InvalidRequestError(f'"meeting_id": {problems[0]["msg"]}')


def check_preset_name(text: str) -> str:
    """A storage preset's name from the path. Raises InvalidRequestError when it is not valid."""
    try:
        return _PRESET_NAME.validate_python(text)
    except ValidationError:
        raise InvalidRequestError(f'"preset_name": {PRESET_NAME_RULE}') from None


_MEETING_ID: Final = TypeAdapter[str](MeetingId)
_PRESET_NAME: Final = TypeAdapter[str](PresetName)

_Query = TypeVar("_Query", bound=BaseModel)


def read_query(request: Request, model: type[_Query]) -> _Query:
    """The query of a request, as `model`; a repeated parameter is a list.

    Raises InvalidRequestError when a parameter is wrong.
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
        raise InvalidRequestError(problems_of(error, values, model)) from None


_Headers = TypeVar("_Headers", bound=BaseModel)


def read_headers(request: Request, model: type[_Headers]) -> _Headers:
    """The headers of a request that `model` has, by their aliases.

    Raises InvalidRequestError when one is wrong.
    """
    names = [field.alias or name for name, field in model.model_fields.items()]
    values = {name: request.headers[name] for name in names if name in request.headers}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidRequestError(problems_of(error, values, model)) from None


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise RequestTooLargeError(f"the body is larger than {MAX_BODY_BYTES} bytes")
    return bytes(body)
