"""Checks of requests against the farm's settings: lengths, addresses, live outputs and storage."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from recording_farm.api.auth import organization_of
from recording_farm.api.context import Context, context_of
from recording_farm.api.schema.requests import RecordingConfig
from recording_farm.browser_bot.network.addresses import (
    AddressError,
    AddressRule,
    UnresolvedNameError,
    check_host,
    check_url,
)
from recording_farm.encoder.formats import Codec
from recording_farm.farm.errors import (
    AddressRefusedError,
    InvalidRequestError,
    NameNotResolvedError,
    NotFoundError,
)
from recording_farm.farm.recording.outputs import read_stream_url
from recording_farm.farm.storage.customer import check_target_address
from recording_farm.farm.storage.targets import PresetTarget, StorageConfig, Target


def check_max_seconds(context: Context, max_seconds: int | None, field: str) -> None:
    """Raises InvalidRequestError, which names `field`, when FARM_MAX_SECONDS is lower."""
    longest = context.settings.max_seconds
    if max_seconds is not None and max_seconds > longest:
        raise InvalidRequestError(f"{field}: must be at most {longest} (FARM_MAX_SECONDS)")


async def check_address(request: Request, url: str, field: str) -> None:
    """Raises AddressRefusedError, which names `field`, when the farm may not connect to `url`.

    This and the other checks of addresses resolve names within the share of the request's organization, and
    raise NameNotResolvedError when that takes too long.
    """
    with _refusals(field):
        await check_url(url, _rule(request), requester=organization_of(request))


async def check_watermark(request: Request, wanted: RecordingConfig) -> None:
    """Raises AddressRefusedError when the farm may not fetch the requested watermark."""
    mark = wanted.video_config.watermark
    if mark is not None:
        await check_address(request, mark.url, '"video_config.watermark.url"')


async def check_output_address(request: Request, url: str, field: str) -> None:
    """Raises AddressRefusedError when the farm may not stream to `url`, which is a valid output URL."""
    stream = read_stream_url(url)
    with _refusals(field):
        await check_host(stream.host, _rule(request), organization_of(request))


@contextmanager
def _refusals(field: str) -> Iterator[None]:
    """Name the field in the errors of a check."""
    try:
        yield
    except UnresolvedNameError as error:
        raise NameNotResolvedError(f"{field}: {error}") from None
    except AddressError as error:
        raise AddressRefusedError(f"{field}: {error}") from None
    except (AddressRefusedError, NameNotResolvedError) as error:
        raise type(error)(f"{field}: {error.message}") from None


def _rule(request: Request) -> AddressRule:
    return context_of(request).settings.address_rule


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


async def check_storage(request: Request, target: Target, field: str) -> None:
    """Raises AddressRefusedError, which names `field`, when the farm may not connect to the storage."""
    with _refusals(field):
        await check_target_address(target, _rule(request), organization_of(request))


async def check_page(request: Request, url: str, field: str) -> None:
    """Raises AddressRefusedError, which names `field`, when the farm may not open the page."""
    built_in = context_of(request).settings.built_in_meetings
    with _refusals(field):
        await check_url(url, _rule(request), built_in, organization_of(request))
