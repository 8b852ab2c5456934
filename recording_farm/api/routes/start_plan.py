"""The plan of a start: the recording for a request, with all checks done and all secrets encrypted.

`api.routes.start_request` reads the request, `api.routes.start_recording` executes the plan. A watermark is
fetched and drawn only there, because a repeated request does not need it again.
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

from recording_farm.api.auth import caller_of, organization_of
from recording_farm.api.context import context_of
from recording_farm.api.meeting.tokens import recorder_address
from recording_farm.api.routes.start_request import StartRequest, read_start
from recording_farm.api.rules import (
    check_address,
    check_is_streamable,
    check_max_seconds,
    check_output_address,
    check_page,
    check_storage,
    resolve_storage,
)
from recording_farm.api.schema.requests import (
    HlsOutput,
    StartHeaders,
    StartRecording,
    StreamOutput,
    VideoConfig,
    fields_set,
    read_headers,
)
from recording_farm.encoder.formats import AudioExport
from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.errors import HighPriorityError, InvalidRequestError
from recording_farm.farm.live.output_records import seal_url, sealed_name
from recording_farm.farm.pages.access import PAGE_ACCESS, PageAccess, ignored_by_page, seal_access
from recording_farm.farm.recording.files import output_file_name
from recording_farm.farm.recording.model import Priority, Reason, ReasonKind, Recording, Watermark
from recording_farm.farm.recording.outputs import MAX_OUTPUTS, Output, OutputKind, stream_output
from recording_farm.farm.recording.quotas import Quota
from recording_farm.farm.recording.records import Idempotency, SealedTarget
from recording_farm.farm.recording.targets import seal_target
from recording_farm.farm.recording.transfers import STORE, Transfer
from recording_farm.farm.spool.interactive_archive import SUFFIX as ARCHIVE_SUFFIX
from recording_farm.farm.storage.targets import Target, public

_SAME: Final = (
    ("live_streaming_config", "rtmp_out_config"),
    ("dyte_bucket_config", "realtimekit_bucket_config"),
)
"""Fields that have two names."""


@dataclass(frozen=True)
class StartPlan:
    """A start that passed all checks."""

    recording: Recording
    """The record to store. A watermark is not drawn yet."""
    allow_multiple: bool
    """Whether to start it while its meeting is being recorded already."""
    idempotency: Idempotency | None
    target: SealedTarget | None
    """The customer's storage."""
    secrets: Mapping[str, str]
    """The client's other secrets, encrypted, by the names to store them under."""
    most_queued: int
    """How many recordings of the organization may wait for their start; 0 for any number."""


async def plan_start(request: Request) -> StartPlan:
    """The plan of an admitted start request.

    The response reports the first check that fails, so their order is part of the API. Raises FarmError,
    redis.RedisError.
    """
    context, asked = context_of(request), await read_start(request)
    quota = await run_in_threadpool(context.quotas.of, organization_of(request))
    _check_priority(quota, asked)
    check_max_seconds(context, asked.wanted.max_seconds, asked.field("max_seconds"))
    await check_page(request, asked.page, asked.page_field)
    _check_duplicate_names(asked.sent)
    _check_nothing_is_ignored(context.settings, asked)
    await _check_webhooks(request, asked.wanted)
    destinations = await _destinations(request, asked)
    recording = _recording(request, asked, destinations)
    return StartPlan(
        recording=recording,
        allow_multiple=asked.wanted.allow_multiple_recordings,
        idempotency=_idempotency(request, asked.sent),
        target=_sealed_target(context.sealer, recording, destinations),
        secrets=_sealed_secrets(context.sealer, recording, asked.wanted, destinations),
        most_queued=quota.queued,
    )


def _check_priority(quota: Quota, asked: StartRequest) -> None:
    if asked.wanted.priority is Priority.HIGH and not quota.high_priority:
        raise HighPriorityError(
            f"{asked.field('priority')}: your organization may not use high; use normal or low"
        )


def _check_duplicate_names(sent: StartRecording) -> None:
    for name, same in _SAME:
        both = getattr(sent, name), getattr(sent, same)
        if None not in both and both[0] != both[1]:
            raise InvalidRequestError(f'"{name}": conflicts with {same}, which is the same setting')


def _check_nothing_is_ignored(settings: Settings, asked: StartRequest) -> None:
    """Raises InvalidRequestError when the client has set something that has no effect with this page."""
    contract = asked.wanted.page_contract
    for name in sorted(ignored_by_page(asked.page, contract, settings)):
        if getattr(asked.sent, name) is not None:
            raise InvalidRequestError(f'"{name}": has no effect with this page and page_contract {contract}')


async def _check_webhooks(request: Request, wanted: StartRecording) -> None:
    await asyncio.gather(
        *(check_address(request, url, f'"webhooks.{number}"') for number, url in enumerate(wanted.webhooks))
    )


@dataclass(frozen=True)
class _Destinations:
    """The destinations of a recording: of its files when it has ended, and of its live outputs."""

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


async def _destinations(request: Request, asked: StartRequest) -> _Destinations:
    context, wanted = context_of(request), asked.wanted
    buckets = (wanted.realtimekit_bucket_config, wanted.dyte_bucket_config)
    keep_copy = all(bucket is None or bucket.enabled for bucket in buckets)
    target = None
    if wanted.storage_config is not None:
        field = asked.field("storage_config")
        target = await resolve_storage(context, organization_of(request), wanted.storage_config, field)
        await check_storage(request, target, field)
    elif not keep_copy:
        raise InvalidRequestError(
            '"realtimekit_bucket_config": enabled false needs a storage_config, or no file would be kept'
        )
    return _Destinations(keep_copy, target, await _streams(request, wanted))


async def _streams(request: Request, wanted: StartRecording) -> dict[Output, str | None]:
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
        await check_output_address(request, url, f'"{name}"')
    streams: dict[Output, str | None] = {
        stream_output(url): url for url in dict.fromkeys(dict(urls).values())
    }
    if has_hls:
        streams[Output(id=uuid4(), kind=OutputKind.HLS)] = None
    if len(streams) > MAX_OUTPUTS:
        raise InvalidRequestError(
            f'"outputs": must have at most {MAX_OUTPUTS} items, rtmp_out_config included'
        )
    return streams


def _recording(request: Request, asked: StartRequest, destinations: _Destinations) -> Recording:
    context, organization_id, wanted = context_of(request), organization_of(request), asked.wanted
    settings, video = context.settings, wanted.video_config
    audio_file, is_interactive = _audio_file(wanted), _is_interactive(wanted)
    recording_id, invoked_time = uuid4(), now()
    return Recording(
        id=recording_id,
        organization_id=organization_id,
        meeting_id=wanted.meeting_id,
        url=recorder_address(settings, context.link_secret, asked.page, organization_id, recording_id),
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
        # An audio recording without audio_config.
        return None if wanted.video_config.export_file else AudioExport()
    if not audio.export_file:
        if not wanted.video_config.export_file:
            raise InvalidRequestError('"audio_config.export_file": must be true without a video file')
        return None
    return AudioExport(audio.codec, 1 if audio.channel == "mono" else 2)


def _is_interactive(wanted: StartRecording) -> bool:
    """Whether the file gets ID3 tags."""
    if wanted.interactive_config is None:
        return False
    check_is_streamable(wanted.video_config.codec, '"interactive_config"')
    if not wanted.video_config.export_file:
        raise InvalidRequestError('"interactive_config": needs a video file')
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
        raise InvalidRequestError('"video_config.watermark": needs a video file')
    return Watermark(
        url=wanted.url, width=wanted.size.width, height=wanted.size.height, position=wanted.position
    )


def _idempotency(request: Request, sent: StartRecording) -> Idempotency | None:
    key = read_headers(request, StartHeaders).idempotency_key
    if key is None:
        return None
    # Without the defaults, which may change before the client retries. An HMAC, because a password in the
    # request could be guessed from a plain hash.
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
