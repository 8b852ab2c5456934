"""The plan of a start: what a request to record comes to, with every check made and every secret sealed.

`plan_start` is the only place that refuses a start for what it asks; `api.routes.start_recording` carries
plans out.
"""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from api.auth import caller_of, is_participant, only_meeting, organization_of
from api.context import Context, context_of
from api.meeting.tokens import recorder_address
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
from encoder.formats import AudioExport
from farm.clock import now
from farm.credentials.sealing import Sealer
from farm.errors import InvalidRequestError, NotPermittedError
from farm.live.output_records import seal_url, sealed_name
from farm.pages.access import PAGE_ACCESS, PageAccess, ignored_by_page, seal_access
from farm.recording.files import output_file_name
from farm.recording.model import Reason, ReasonKind, Recording, Watermark
from farm.recording.outputs import MAX_OUTPUTS, Output, OutputKind, stream_output
from farm.recording.records import Idempotency, SealedTarget
from farm.recording.targets import seal_target
from farm.recording.transfers import STORE, Transfer
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


@dataclass(frozen=True)
class StartPlan:
    """A start that this farm may make."""

    recording: Recording
    """The record to keep. If it has a watermark, that is still to be drawn."""
    allow_multiple: bool
    """Whether to start it while its meeting is being recorded already."""
    idempotency: Idempotency | None
    target: SealedTarget | None
    """The customer's storage."""
    secrets: Mapping[str, str]
    """What else the client gave that nobody may see, sealed, by the names to keep it under."""


async def plan_start(request: Request) -> StartPlan:
    """The plan of the start that an admitted request asks for.

    Clients are told of the first check that fails, so the order is part of the API. Raises FarmError.
    """
    context = context_of(request)
    sent = await read_request(request, StartRecording)
    _check_sender(request, sent)
    wanted = await _with_defaults(request, sent)
    page = wanted.url or context.settings.page_of(wanted.meeting_id)
    check_max_seconds(context, wanted.max_seconds, _field("max_seconds", sent.max_seconds))
    await check_page(context, page, _field("url", sent.url) if wanted.url is not None else '"meeting_id"')
    _check_same_by_two_names(sent)
    _check_uses(sent, wanted, ignored_by_page(page, wanted.page_contract, context.settings))
    await _check_webhooks(context, wanted)
    destinations = await _destinations(request, wanted, _field("storage_config", sent.storage_config))
    recording = _recording(request, wanted, page, destinations)
    return StartPlan(
        recording=recording,
        allow_multiple=wanted.allow_multiple_recordings,
        idempotency=_idempotency(request, sent),
        target=_sealed_target(context.sealer, recording, destinations),
        secrets=_sealed_secrets(context.sealer, recording, wanted, destinations),
    )


def _field(name: str, value_sent: object) -> str:
    return f'"{name}"' if value_sent is not None else f'"{name}" in the defaults (recording_config)'


def _check_sender(request: Request, sent: StartRecording) -> None:
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


async def _with_defaults(request: Request, sent: StartRecording) -> StartRecording:
    context = context_of(request)
    defaults = await run_in_threadpool(
        context.recording_configs.defaults, organization_of(request), sent.meeting_id
    )
    return with_defaults(sent, defaults, context.settings.page_of(sent.meeting_id))


def _check_same_by_two_names(sent: StartRecording) -> None:
    for name, same in _SAME:
        both = getattr(sent, name), getattr(sent, same)
        if None not in both and both[0] != both[1]:
            raise InvalidRequestError(f'"{name}": means the same as {same}, and says something else')


def _check_uses(sent: StartRecording, wanted: StartRecording, ignored: frozenset[str]) -> None:
    """Raises InvalidRequestError when a client has set one of the fields that would be ignored."""
    for name in sorted(ignored):
        if getattr(sent, name) is not None:
            raise InvalidRequestError(
                f'"{name}": there is no use for it with this page and page_contract {wanted.page_contract}'
            )


async def _check_webhooks(context: Context, wanted: StartRecording) -> None:
    await asyncio.gather(
        *(check_address(context, url, f'"webhooks.{number}"') for number, url in enumerate(wanted.webhooks))
    )


@dataclass(frozen=True)
class _Destinations:
    """Where a recording goes: the files once it has ended, the streams while it is made."""

    keep_copy: bool
    """Whether the farm's own store keeps the files."""
    target: Target | None
    """The customer's storage, with its keys."""
    streams: Mapping[Output, str | None]
    """The live outputs, with the URLs of those that have one."""

    @property
    def transfers(self) -> tuple[Transfer, ...]:
        places = ([STORE] if self.keep_copy else []) + ([self.target.type] if self.target else [])
        return tuple(Transfer(target=place) for place in places)


async def _destinations(request: Request, wanted: StartRecording, storage_field: str) -> _Destinations:
    context = context_of(request)
    buckets = (wanted.realtimekit_bucket_config, wanted.dyte_bucket_config)
    keep_copy = all(bucket is None or bucket.enabled for bucket in buckets)
    target = None
    if wanted.storage_config is not None:
        target = await resolve_storage(
            context, organization_of(request), wanted.storage_config, storage_field
        )
        await check_storage(context, target, storage_field)
    elif not keep_copy:
        raise InvalidRequestError(
            '"realtimekit_bucket_config": without the farm\'s copy there must be a storage_config, '
            "or nothing would be left of the recording"
        )
    return _Destinations(keep_copy, target, await _streams(context, wanted))


async def _streams(context: Context, wanted: StartRecording) -> dict[Output, str | None]:
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


def _recording(request: Request, wanted: StartRecording, page: str, destinations: _Destinations) -> Recording:
    context, organization_id = context_of(request), organization_of(request)
    settings, video = context.settings, wanted.video_config
    audio_file, is_interactive = _audio_file(wanted), _is_interactive(wanted)
    recording_id, invoked_time = uuid4(), now()
    return Recording(
        id=recording_id,
        organization_id=organization_id,
        meeting_id=wanted.meeting_id,
        url=recorder_address(settings, context.link_secret, page, organization_id, recording_id),
        page_contract=wanted.page_contract,
        locale=wanted.locale or settings.locale,
        timezone=wanted.timezone or settings.timezone,
        codec=video.codec,
        width=video.width,
        height=video.height,
        fps=video.fps,
        profile=video.profile,
        max_seconds=wanted.max_seconds or settings.max_seconds,
        file_name_prefix=wanted.file_name_prefix,
        priority=wanted.priority,
        webhooks=tuple(dict.fromkeys(wanted.webhooks)),
        output_file_name=output_file_name(
            wanted.file_name_prefix,
            wanted.meeting_id,
            invoked_time,
            _suffix(video, audio_file, is_interactive),
        ),
        watermark=_watermark(video),
        outputs=tuple(destinations.streams),
        timed_texts=is_interactive,
        video_file=video.export_file,
        audio_file=audio_file,
        keep_copy=destinations.keep_copy,
        storage_config=public(destinations.target) if destinations.target else None,
        transfers=destinations.transfers,
        invoked_time=invoked_time,
        start_reason=Reason(reason=ReasonKind.API_CALL, caller=caller_of(request)),
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


def _suffix(video: VideoConfig, audio_file: AudioExport | None, is_interactive: bool) -> str:
    if is_interactive:
        return ARCHIVE_SUFFIX
    return video.codec.suffix if video.export_file or audio_file is None else audio_file.codec.suffix


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


def _idempotency(request: Request, sent: StartRecording) -> Idempotency | None:
    key = read_headers(request, StartHeaders).idempotency_key
    if key is None:
        return None
    # Not what was wanted with the defaults: these may have changed when the client tries again. Keyed, as a
    # password in it could be guessed from a plain hash.
    request_text = json.dumps(fields_set(sent)).encode()
    secret = context_of(request).link_secret
    return Idempotency(key, hmac.new(secret, request_text, hashlib.sha256).hexdigest())


def _sealed_target(sealer: Sealer, recording: Recording, destinations: _Destinations) -> SealedTarget | None:
    target = destinations.target
    if target is None:
        return None
    return SealedTarget(target.type, seal_target(sealer, recording.id, target.type, target))


def _sealed_secrets(
    sealer: Sealer, recording: Recording, wanted: StartRecording, destinations: _Destinations
) -> dict[str, str]:
    secrets = {
        sealed_name(output.id): seal_url(sealer, recording.id, output.id, url)
        for output, url in destinations.streams.items()
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
        secrets[PAGE_ACCESS] = seal_access(sealer, recording.id, access)
    return secrets
