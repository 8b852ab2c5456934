"""POST /recordings: start to record a meeting."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from uuid import uuid4

import redis
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from api.auth import caller_of, is_participant, only_meeting, organization_of
from api.context import Context, context_of
from api.meeting.tokens import recorder_address
from api.operations import Operation
from api.request_log import bind_recording
from api.routes.common import answer
from api.rules import (
    check_address,
    check_is_streamable,
    check_max_seconds,
    check_output_address,
    check_page,
    check_storage,
    resolve_storage,
)
from api.schema.requests import (
    HlsOutput,
    StartHeaders,
    StartRecording,
    StreamOutput,
    VideoConfig,
    fields_set,
    read_headers,
    read_request,
    with_defaults,
)
from api.schema.responses import RecordingObject
from encoder.formats import AudioExport
from farm.clock import now
from farm.errors import AddressRefusedError, InvalidRequestError, NotPermittedError, RedisUnavailableError
from farm.live.output_records import seal_url, sealed_name
from farm.pages.access import PAGE_ACCESS, PageAccess, ignored_by_page, seal_access
from farm.pages.watermark import draw, fetch
from farm.queues.recordings import enqueue_recording
from farm.recording.files import output_file_name
from farm.recording.model import Caller, Reason, ReasonKind, Recording, Watermark
from farm.recording.outputs import MAX_OUTPUTS, Output, OutputKind, stream_output
from farm.recording.records import Idempotency, SealedTarget
from farm.recording.targets import seal_target
from farm.recording.transfers import STORE, Transfer
from farm.recovery.unclaimed import fail_before_start
from farm.spool.interactive_archive import SUFFIX as ARCHIVE_SUFFIX
from farm.storage.targets import Target, public

_SAME: Final = (
    ("live_streaming_config", "rtmp_out_config"),
    ("dyte_bucket_config", "realtimekit_bucket_config"),
)
"""Fields that are the same by two names."""


_PARTICIPANTS: Final = frozenset(
    {"meeting_id", "allow_multiple_recordings", "file_name_prefix", "video_config"}
)


_PARTICIPANTS_VIDEO: Final = frozenset({"codec", "width", "height"})
"""What participants may set of a start, and of its picture: what the types of the browser clients have.

Another `url` would have the farm open any page, with a token that lets it into the meeting unseen.
"""


async def _start(request: Request) -> Response:
    organization_id = organization_of(request)
    context = context_of(request)
    sent = await read_request(request, StartRecording)
    _check_may_start(request, sent)
    wanted = await _with_defaults(context, organization_id, sent)
    await _check(context, sent, wanted)
    target = await _target(context, organization_id, sent, wanted)
    streams = await _streams(context, wanted)
    invoked = _new_recording(context, caller_of(request), organization_id, wanted, target, tuple(streams))
    idempotency = _idempotency(context, request, sent)
    recording = await _with_watermark(context, invoked, wanted.allow_multiple_recordings, idempotency)
    if recording is None:
        recording = await _invoked(
            context,
            invoked,
            target,
            wanted.allow_multiple_recordings,
            idempotency,
            _sealed(context, wanted, invoked, streams),
        )
    bind_recording({"recording_id": recording.id})
    return await answer(request, recording)


async def _with_watermark(
    context: Context, invoked: Recording, allow_multiple: bool, idempotency: Idempotency | None
) -> Recording | None:
    """Have the watermark of a recording ready, if it has one.

    Returns the recording that the same request has started before, if there is one, without drawing anything.
    Raises as `Records.add`, and InvalidRequestError when the watermark cannot be had or drawn.
    """
    if invoked.watermark is None:
        return None
    before = await run_in_threadpool(
        context.records.started_before,
        invoked.organization_id,
        invoked.meeting_id,
        allow_multiple=allow_multiple,
        idempotency=idempotency,
    )
    if before is None:
        png = await _drawn(context, invoked.watermark, invoked)
        await run_in_threadpool(context.records.keep_watermark, invoked.id, png)
    return before


def _check_may_start(request: Request, sent: StartRecording) -> None:
    """Whether who asks may start a recording of this meeting, with all that is asked for.

    Raises InvalidRequestError, NotPermittedError.
    """
    meeting_id = only_meeting(request)
    if meeting_id is None:
        return
    fields = fields_set(sent)
    if not is_participant(request):
        if fields != {"meeting_id": meeting_id}:
            raise InvalidRequestError(
                "a meeting's host starts its recording with its meeting_id and nothing else"
            )
        return
    if sent.meeting_id != meeting_id:
        raise NotPermittedError(f'"meeting_id": this token is for the meeting {meeting_id}')
    video = fields.get("video_config", {})
    refused = sorted(fields.keys() - _PARTICIPANTS)
    if isinstance(video, dict):
        refused += [f"video_config.{name}" for name in sorted(video.keys() - _PARTICIPANTS_VIDEO)]
    if refused:
        raise NotPermittedError(f'"{refused[0]}": only an API key may set it, and no participant')


async def _with_defaults(context: Context, organization_id: str, sent: StartRecording) -> StartRecording:
    defaults = await run_in_threadpool(context.recording_configs.defaults, organization_id, sent.meeting_id)
    return with_defaults(sent, defaults, context.settings.page_of(sent.meeting_id))


async def _check(context: Context, sent: StartRecording, wanted: StartRecording) -> None:
    """Whether this farm may make what is wanted; what was not sent comes of the defaults."""
    check_max_seconds(context, wanted.max_seconds, _field("max_seconds", sent.max_seconds))
    if wanted.url is not None:
        await check_page(context, wanted.url, _field("url", sent.url))
    else:
        await check_page(context, _page_of(context, wanted), '"meeting_id"')
    _check_nothing_is_ignored(context, sent, wanted)
    await asyncio.gather(
        *(check_address(context, url, f'"webhooks.{number}"') for number, url in enumerate(wanted.webhooks))
    )


def _check_nothing_is_ignored(context: Context, sent: StartRecording, wanted: StartRecording) -> None:
    """Raises InvalidRequestError when something is asked for that would quietly be left out."""
    for name, same in _SAME:
        both = getattr(sent, name), getattr(sent, same)
        if None not in both and both[0] != both[1]:
            raise InvalidRequestError(f'"{name}": means the same as {same}, and says something else')
    contract = wanted.page_contract
    for name in sorted(ignored_by_page(_page_of(context, wanted), contract, context.settings)):
        if getattr(sent, name) is not None:
            raise InvalidRequestError(
                f'"{name}": there is no use for it with this page and page_contract {contract}'
            )


async def _target(
    context: Context, organization_id: str, sent: StartRecording, wanted: StartRecording
) -> Target | None:
    """The customer's storage; None if there is to be none."""
    if wanted.storage_config is None:
        if not _keeps_copy(wanted):
            raise InvalidRequestError(
                '"realtimekit_bucket_config": without the farm\'s copy there must be a storage_config, '
                "or nothing would be left of the recording"
            )
        return None
    field = _field("storage_config", sent.storage_config)
    target = await resolve_storage(context, organization_id, wanted.storage_config, field)
    await check_storage(context, target, field)
    return target


async def _streams(context: Context, wanted: StartRecording) -> dict[Output, str | None]:
    """The live outputs that are wanted, with the URLs of those that have one."""
    urls = [
        (name, config.rtmp_url)
        for name in ("rtmp_out_config", "live_streaming_config")
        if (config := getattr(wanted, name)) is not None
    ]
    urls += [
        (f"outputs.{number}", each.url)
        for number, each in enumerate(wanted.outputs)
        if isinstance(each, StreamOutput)
    ]
    has_hls = any(isinstance(each, HlsOutput) for each in wanted.outputs)
    if urls or has_hls:
        check_is_streamable(wanted.video_config.codec, f'"{urls[0][0] if urls else "outputs"}"')
    for name, url in urls:
        await check_output_address(context, url, f'"{name}"')
    streams: dict[Output, str | None] = {
        stream_output(url): url for url in dict.fromkeys(dict(urls).values())
    }
    if has_hls:
        streams[Output(id=uuid4(), kind=OutputKind.HLS)] = None
    if len(streams) > MAX_OUTPUTS:
        raise InvalidRequestError(f'"outputs": with rtmp_out_config there are more than {MAX_OUTPUTS}')
    return streams


def _sealed(
    context: Context, wanted: StartRecording, recording: Recording, streams: Mapping[Output, str | None]
) -> dict[str, str]:
    """What the client gave that nobody may see, sealed, by the names it is kept under."""
    sealed = {
        sealed_name(output.id): seal_url(context.sealer, recording.id, output.id, url)
        for output, url in streams.items()
        if url is not None
    }
    access = PageAccess(
        auth_token=wanted.auth_token,
        layout=wanted.layout,
        page_hints=wanted.page_hints,
        http_credentials=wanted.http_credentials,
        headers=wanted.headers,
        cookies=wanted.cookies,
    )
    if access != PageAccess():
        sealed[PAGE_ACCESS] = seal_access(context.sealer, recording.id, access)
    return sealed


def _is_interactive(wanted: StartRecording) -> bool:
    """Whether the file is to have ID3 tags."""
    if wanted.interactive_config is None:
        return False
    check_is_streamable(wanted.video_config.codec, '"interactive_config"')
    if not wanted.video_config.export_file:
        raise InvalidRequestError(
            '"interactive_config": without a video file there is nothing to put tags into'
        )
    return True


async def _drawn(context: Context, watermark: Watermark, recording: Recording) -> bytes:
    """The watermark as it will stand in the picture. Raises InvalidRequestError when there is none."""
    field = '"video_config.watermark": '
    try:
        content = await fetch(watermark.url, context.settings.address_rule)
        async with context.drawings:
            return await draw(content, watermark, recording.width, recording.height)
    except (InvalidRequestError, AddressRefusedError) as error:
        raise type(error)(field + error.message) from None


def _watermark(video: VideoConfig) -> Watermark | None:
    wanted = video.watermark
    if wanted is None:
        return None
    if not video.export_file:
        raise InvalidRequestError(
            '"video_config.watermark": without a video file there is nothing to draw it on'
        )
    return Watermark(
        url=wanted.url, width=wanted.size.width, height=wanted.size.height, position=wanted.position
    )


def _keeps_copy(wanted: StartRecording) -> bool:
    return all(
        bucket is None or bucket.enabled
        for bucket in (wanted.realtimekit_bucket_config, wanted.dyte_bucket_config)
    )


def _field(name: str, value_sent: object) -> str:
    return f'"{name}"' if value_sent is not None else f'"{name}" in the defaults (recording_config)'


def _page_of(context: Context, wanted: StartRecording) -> str:
    return wanted.url or context.settings.page_of(wanted.meeting_id)


def _idempotency(context: Context, request: Request, sent: StartRecording) -> Idempotency | None:
    key = read_headers(request, StartHeaders).idempotency_key
    if key is None:
        return None
    # Not what was wanted with the defaults: these may have changed when the client tries again. Keyed, as a
    # password in it could be guessed from a plain hash.
    request_text = json.dumps(fields_set(sent)).encode()
    return Idempotency(key, hmac.new(context.link_secret, request_text, hashlib.sha256).hexdigest())


def _new_recording(
    context: Context,
    caller: Caller,
    organization_id: str,
    wanted: StartRecording,
    target: Target | None,
    outputs: tuple[Output, ...],
) -> Recording:
    invoked_time = now()
    video, audio_file = wanted.video_config, _audio_file(wanted)
    keep_copy = _keeps_copy(wanted)
    places = ([STORE] if keep_copy else []) + ([target.type] if target else [])
    suffix = video.codec.suffix if video.export_file or audio_file is None else audio_file.codec.suffix
    is_interactive = _is_interactive(wanted)
    suffix = ARCHIVE_SUFFIX if is_interactive else suffix
    recording_id = uuid4()
    return Recording(
        id=recording_id,
        organization_id=organization_id,
        meeting_id=wanted.meeting_id,
        url=recorder_address(
            context.settings,
            context.link_secret,
            _page_of(context, wanted),
            organization_id,
            recording_id,
        ),
        page_contract=wanted.page_contract,
        locale=wanted.locale or context.settings.locale,
        timezone=wanted.timezone or context.settings.timezone,
        codec=video.codec,
        width=video.width,
        height=video.height,
        fps=video.fps,
        profile=video.profile,
        max_seconds=wanted.max_seconds or context.settings.max_seconds,
        file_name_prefix=wanted.file_name_prefix,
        priority=wanted.priority,
        webhooks=tuple(dict.fromkeys(wanted.webhooks)),
        output_file_name=output_file_name(wanted.file_name_prefix, wanted.meeting_id, invoked_time, suffix),
        watermark=_watermark(video),
        outputs=outputs,
        timed_texts=is_interactive,
        video_file=video.export_file,
        audio_file=audio_file,
        keep_copy=keep_copy,
        storage_config=public(target) if target else None,
        transfers=tuple(Transfer(target=place) for place in places),
        invoked_time=invoked_time,
        start_reason=Reason(reason=ReasonKind.API_CALL, caller=caller),
    )


def _audio_file(wanted: StartRecording) -> AudioExport | None:
    audio = wanted.audio_config
    if audio is None:
        # Sound alone is wanted, and nothing is said of it.
        return None if wanted.video_config.export_file else AudioExport()
    if not audio.export_file:
        if not wanted.video_config.export_file:
            raise InvalidRequestError(
                '"audio_config.export_file": without a video file either, nothing would be left'
            )
        return None
    return AudioExport(audio.codec, 1 if audio.channel == "mono" else 2)


async def _invoked(
    context: Context,
    recording: Recording,
    target: Target | None,
    allow_multiple: bool,
    idempotency: Idempotency | None,
    sealed: Mapping[str, str],
) -> Recording:
    """What `_invoke` makes of a recording; of one that there is not to be, the watermark is forgotten."""
    kept: Recording | None = None
    try:
        kept = await run_in_threadpool(
            _invoke, context, recording, target, allow_multiple, idempotency, sealed
        )
        return kept
    finally:
        if recording.watermark is not None and (kept is None or kept.id != recording.id):
            with suppress(redis.RedisError):
                await run_in_threadpool(context.records.forget_watermark, recording.id)


def _invoke(
    context: Context,
    recording: Recording,
    target: Target | None,
    allow_multiple: bool,
    idempotency: Idempotency | None,
    sealed: Mapping[str, str],
) -> Recording:
    """Keep the recording and queue its job; when the second fails the recording ends at once."""
    kept = context.records.add(
        recording,
        allow_multiple=allow_multiple,
        idempotency=idempotency,
        target=SealedTarget(target.type, seal_target(context.sealer, recording.id, target.type, target))
        if target
        else None,
    )
    if kept.id != recording.id:
        return kept
    recording = kept
    try:
        for name, text in sealed.items():
            context.records.keep_sealed(recording.id, name, text)
        enqueue_recording(context.redis, recording)
    except redis.RedisError as error:
        # If Redis is away for this as well, `fail_lost_recordings` finds the recording later.
        fail_before_start(context.records, recording)
        raise RedisUnavailableError(
            f"recording {recording.id} could not be queued and has ended; please start it again"
        ) from error
    return recording


async def _start_tracks(request: Request) -> Response:
    organization_of(request)
    raise InvalidRequestError(
        "this farm records a meeting's page, not the tracks of its participants; "
        "start a recording of the page with POST /recordings"
    )


_TAG: Final = "recordings"

start_operations: Final = (
    Operation(
        "start_recording",
        "POST",
        "/recordings",
        _start,
        "Start to record a meeting",
        _TAG,
        answer=RecordingObject,
        body=StartRecording,
        headers=StartHeaders,
        errors=(400, 409, 413, 422),
        hosts=True,
        participants=True,
    ),
    Operation(
        "start_track_recording",
        "POST",
        "/recordings/track",
        _start_tracks,
        "Refused: the farm records pages, not tracks",
        _TAG,
        status=None,
        errors=(422,),
    ),
)
