"""Checks of requests against the farm's settings: lengths, addresses, live outputs and storage."""

from starlette.concurrency import run_in_threadpool

from recording_farm.api.context import Context
from recording_farm.api.schema.requests import RecordingConfig
from recording_farm.browser_bot.network.addresses import (
    CHECK_SECONDS,
    AddressError,
    check_url,
    resolve_host,
)
from recording_farm.encoder.formats import Codec
from recording_farm.farm.errors import AddressRefusedError, InvalidRequestError, NotFoundError
from recording_farm.farm.recording.outputs import read_stream_url
from recording_farm.farm.storage.customer import check_target_address
from recording_farm.farm.storage.targets import PresetTarget, StorageConfig, Target


def check_max_seconds(context: Context, max_seconds: int | None, field: str) -> None:
    """Raises InvalidRequestError, which names `field`, when FARM_MAX_SECONDS is lower."""
    longest = context.settings.max_seconds
    if max_seconds is not None and max_seconds > longest:
        raise InvalidRequestError(f"{field}: must be at most {longest} (FARM_MAX_SECONDS)")


async def check_address(context: Context, url: str, field: str) -> None:
    """Raises AddressRefusedError, which names `field`, when the farm may not connect to `url`."""
    try:
        await check_url(url, context.settings.address_rule)
    except AddressError as error:
        raise AddressRefusedError(f"{field}: {error}") from None


async def check_watermark(context: Context, wanted: RecordingConfig) -> None:
    """Raises AddressRefusedError when the farm may not fetch the requested watermark."""
    mark = wanted.video_config.watermark
    if mark is not None:
        await check_address(context, mark.url, '"video_config.watermark.url"')


async def check_output_address(context: Context, url: str, field: str) -> None:
    """Raises AddressRefusedError when the farm may not stream to `url`, which is a valid output URL."""
    stream = read_stream_url(url)
    try:
        await resolve_host(stream.host, stream.port, context.settings.address_rule, CHECK_SECONDS)
    except AddressError as error:
        raise AddressRefusedError(f"{field}: {error}") from None


def check_is_streamable(codec: Codec, field: str) -> None:
    """Raises InvalidRequestError when recordings with this codec cannot be streamed."""
    if codec is not Codec.H264:
        raise InvalidRequestError(f"{field}: live outputs need the codec H264")


async def resolve_storage(
    context: Context, organization_id: str, config: StorageConfig, field: str
) -> Target:
    """The storage of a config, with its keys; a preset is looked up.

    Raises InvalidRequestError, which names `field`, when the organization does not have the preset.
    """
    if not isinstance(config, PresetTarget):
        return config
    try:
        return await run_in_threadpool(context.storage_presets.get, organization_id, config.name)
    except NotFoundError as error:
        raise InvalidRequestError(f"{field}: {error.message}") from None


async def check_storage(context: Context, target: Target, field: str) -> None:
    """Raises AddressRefusedError, which names `field`, when the farm may not connect to the storage."""
    try:
        await check_target_address(target, context.settings.address_rule)
    except AddressRefusedError as error:
        raise AddressRefusedError(f"{field}: {error.message}") from None


async def check_page(context: Context, url: str, field: str) -> None:
    """Raises AddressRefusedError, which names `field`, when the farm may not open the page."""
    settings = context.settings
    try:
        await check_url(url, settings.address_rule, settings.built_in_meetings)
    except AddressError as error:
        raise AddressRefusedError(f"{field}: {error}") from None
