"""`recording_config`: defaults for recordings, of a meeting and of the whole organization."""

from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from recording_farm.api.auth import organization_of
from recording_farm.api.context import context_of
from recording_farm.api.operations import Operation
from recording_farm.api.rules import (
    check_max_seconds,
    check_output_address,
    check_page,
    check_storage,
    check_watermark,
    resolve_storage,
)
from recording_farm.api.schema.requests import RecordingDefaults, check_meeting_id, fields_set, read_request
from recording_farm.api.schema.responses import RecordingDefaultsObject, success
from recording_farm.farm.errors import InvalidRequestError
from recording_farm.farm.recording.defaults import lacks_place


async def _get(request: Request) -> Response:
    configs = context_of(request).recording_configs
    return success(await run_in_threadpool(configs.get, organization_of(request), _meeting_id(request)))


async def _put(request: Request) -> Response:
    context = context_of(request)
    meeting_id = _meeting_id(request)
    wanted = await read_request(request, RecordingDefaults)
    check_max_seconds(context, wanted.max_seconds, '"max_seconds"')
    if wanted.url is not None:
        await check_page(request, wanted.url, '"url"')
    await check_watermark(request, wanted)
    if wanted.live_streaming_config is not None:
        await check_output_address(
            request, wanted.live_streaming_config.rtmp_url, '"live_streaming_config.rtmp_url"'
        )
    organization_id = organization_of(request)
    if wanted.storage_config is not None:
        # Checked now, so that a wrong name or address is reported at once.
        target = await resolve_storage(context, organization_id, wanted.storage_config, '"storage_config"')
        await check_storage(request, target, '"storage_config"')
    config = fields_set(wanted)
    if wanted.url is None and context.settings.meeting_url is None and lacks_place(config):
        raise InvalidRequestError(
            '"url": is required with headers, http_credentials without an origin, cookies without a domain; '
            "they are sent only to the origin of that URL"
        )
    return success(
        await run_in_threadpool(context.recording_configs.put, organization_id, meeting_id, config)
    )


async def _delete(request: Request) -> Response:
    configs = context_of(request).recording_configs
    await run_in_threadpool(configs.delete, organization_of(request), _meeting_id(request))
    return success({})


def _meeting_id(request: Request) -> str | None:
    """The meeting in the path; None for the organization's defaults."""
    if "meeting_id" not in request.path_params:
        return None
    return check_meeting_id(request.path_params["meeting_id"])


def _operations(path: str, name: str, whose: str, errors: tuple[int, ...]) -> tuple[Operation, ...]:
    return (
        Operation(
            f"get_{name}",
            "GET",
            path,
            _get,
            f"The defaults of {whose}; empty if nothing is set",
            _TAG,
            answer=RecordingDefaultsObject,
            errors=errors,
        ),
        Operation(
            f"set_{name}",
            "PUT",
            path,
            _put,
            f"Set the defaults of {whose}, in place of those there were",
            _TAG,
            answer=RecordingDefaultsObject,
            body=RecordingDefaults,
            errors=tuple(sorted({400, 413, 422, *errors})),
        ),
        Operation(
            f"delete_{name}",
            "DELETE",
            path,
            _delete,
            f"Take the defaults of {whose} away; harmless if there are none",
            _TAG,
            answer=RecordingDefaultsObject,
            errors=errors,
        ),
    )


_TAG: Final = "recording defaults"

recording_config_operations: Final = (
    *_operations("/recording_config", "organization_recording_config", "the organization", ()),
    # `:path`, because a meeting id is any text, slashes included.
    *_operations(
        "/meetings/{meeting_id:path}/recording_config", "meeting_recording_config", "a meeting", (404, 422)
    ),
)
