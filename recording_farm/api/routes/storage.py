"""Customers' storages: named presets, and the check of a storage."""

from typing import Any, Final

from pydantic import BaseModel, Field, JsonValue
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from recording_farm.api.auth import organization_of
from recording_farm.api.context import Context, context_of
from recording_farm.api.operations import Operation
from recording_farm.api.rules import check_storage
from recording_farm.api.schema.requests import CheckStorage, PutStoragePreset, check_preset_name, read_request
from recording_farm.api.schema.responses import success
from recording_farm.farm.storage.check import CheckResult, check_target
from recording_farm.farm.storage.host_keys import HostKeys
from recording_farm.farm.storage.targets import PresetTarget, SftpTarget, StorageConfig, Target


class StoragePresetObject(BaseModel):
    """A named storage."""

    name: str
    storage_config: dict[str, JsonValue] = Field(description="without its secrets")


class StorageCheckObject(BaseModel):
    """Whether the farm can upload files to a storage."""

    ok: bool
    code: str | None = Field(default=None, description="the kind of failure, stable, for programs")
    message: str | None = Field(default=None, description="the same in one sentence")
    notes: list[str] | None = Field(
        default=None,
        description="permissions that the key does not have and does not need: read back, delete",
    )


async def _list(request: Request) -> Response:
    presets = await run_in_threadpool(context_of(request).storage_presets.list, organization_of(request))
    return success([_object(name, shown) for name, shown in presets.items()])


async def _get(request: Request) -> Response:
    name = _name(request)
    presets = context_of(request).storage_presets
    return success(_object(name, await run_in_threadpool(presets.shown, organization_of(request), name)))


async def _put(request: Request) -> Response:
    organization_id = organization_of(request)
    context = context_of(request)
    name = _name(request)
    wanted = await read_request(request, PutStoragePreset)
    await check_storage(request, wanted.storage_config, '"storage_config"')
    presets = context.storage_presets
    await run_in_threadpool(presets.put, organization_id, name, wanted.storage_config)
    return success(_object(name, await run_in_threadpool(presets.shown, organization_id, name)))


async def _delete(request: Request) -> Response:
    organization_id, name = organization_of(request), _name(request)
    presets = context_of(request).storage_presets
    shown = await run_in_threadpool(presets.shown, organization_id, name)
    await run_in_threadpool(presets.delete, organization_id, name)
    return success(_object(name, shown))


async def _check(request: Request) -> Response:
    organization_id = organization_of(request)
    context = context_of(request)
    wanted = await read_request(request, CheckStorage)
    target = await run_in_threadpool(_target, context, organization_id, wanted.storage_config)
    async with context.storage_checks.taken(organization_id):
        result = await _checked(context, organization_id, target)
    checked = StorageCheckObject(
        ok=result.ok, code=result.code, message=result.message, notes=result.notes or None
    )
    return success(checked.model_dump(exclude_none=True))


async def _checked(context: Context, organization_id: str, target: Target) -> CheckResult:
    rule = context.settings.address_rule
    if not isinstance(target, SftpTarget):
        return await check_target(target, rule, organization_id)
    host_keys = HostKeys(context.redis)
    known = await run_in_threadpool(host_keys.known, organization_id, target)
    result = await check_target(target, rule, organization_id, known)
    if result.host_key is not None:
        await run_in_threadpool(host_keys.keep, organization_id, target, result.host_key)
    return result


def _target(context: Context, organization_id: str, config: StorageConfig) -> Target:
    if isinstance(config, PresetTarget):
        return context.storage_presets.get(organization_id, config.name)
    return config


def _name(request: Request) -> str:
    return check_preset_name(request.path_params["preset_name"])


def _object(name: str, shown: Any) -> StoragePresetObject:
    return StoragePresetObject(name=name, storage_config=shown)


_TAG: Final = "storage"

storage_operations: Final = (
    Operation(
        "check_storage",
        "POST",
        "/storage/check",
        _check,
        "Check whether the farm can upload to a storage, without leaving anything there; 20 s at most",
        _TAG,
        answer=StorageCheckObject,
        body=CheckStorage,
        errors=(400, 404, 413, 422),
    ),
    Operation(
        "get_storage_presets",
        "GET",
        "/storage/presets",
        _list,
        "List the named storages",
        _TAG,
        answer=list[StoragePresetObject],
    ),
    Operation(
        "get_storage_preset",
        "GET",
        "/storage/presets/{preset_name}",
        _get,
        "One named storage",
        _TAG,
        answer=StoragePresetObject,
        errors=(404, 422),
    ),
    Operation(
        "set_storage_preset",
        "PUT",
        "/storage/presets/{preset_name}",
        _put,
        "Create or replace a named storage; its keys are never shown again",
        _TAG,
        answer=StoragePresetObject,
        body=PutStoragePreset,
        errors=(400, 409, 413, 422),
    ),
    Operation(
        "delete_storage_preset",
        "DELETE",
        "/storage/presets/{preset_name}",
        _delete,
        "Delete a named storage",
        _TAG,
        answer=StoragePresetObject,
        errors=(404, 422),
    ),
)
