"""The settings of an organization: storage presets, webhooks, API keys and defaults."""

from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from recording_farm.api.context import Context, context_of
from recording_farm.api.portal.client import ask
from recording_farm.api.portal.new_secret import NewSecret, show_new_secret
from recording_farm.api.portal.page import render
from recording_farm.api.portal.recording_form import KEEP_STORAGE, SIZES, config_of, preset_choices, size_of
from recording_farm.api.portal.storage_kinds import STORAGES, is_editable
from recording_farm.api.portal.visitor import Form, RefusedError, Visitor, action, page, redirect
from recording_farm.farm.credentials.api_keys import ApiKey, create_api_key, list_api_keys, revoke_api_key
from recording_farm.farm.errors import InvalidRequestError, NotFoundError
from recording_farm.farm.recording.defaults import for_page

MAX_NAME: Final = 100
"""Characters in the name of a key, the same as for `farm keys`."""


async def _show(request: Request, visitor: Visitor) -> Response:
    return await settings_page(request, visitor)


async def settings_page(
    request: Request, visitor: Visitor, error: RefusedError | None = None, checked: Any = None
) -> Response:
    """The page, with the error of a form or the result of a storage check."""
    presets = (await ask(request, visitor, "GET", "/storage/presets")).data
    webhooks = (await ask(request, visitor, "GET", "/webhooks")).data
    defaults = (await ask(request, visitor, "GET", "/recording_config")).data
    keys = await run_in_threadpool(_keys, context_of(request), visitor.organization_id)
    storage = defaults.get("storage_config")
    return render(
        request,
        "settings.html",
        error.status if error else 200,
        problem=error.message if error else None,
        presets=[preset | {"is_editable": is_editable(preset["storage_config"])} for preset in presets],
        preset_choices=preset_choices(presets),
        checked=checked,
        kinds=STORAGES,
        retention=context_of(request).settings.retention,
        kinds_list=[(name, kind.label) for name, kind in STORAGES.items()],
        webhooks=webhooks,
        keys=keys,
        defaults=_as_form(defaults),
        sizes=SIZES,
        keep=KEEP_STORAGE if storage and storage["type"] != "preset" else None,
    )


def _as_form(defaults: dict[str, Any]) -> dict[str, Any]:
    """Defaults as fields of the form."""
    video = defaults.get("video_config") or {}
    audio = defaults.get("audio_config")
    storage = defaults.get("storage_config")
    form = {name: value for name, value in defaults.items() if not isinstance(value, dict)}
    form |= {name: video[name] for name in ("codec", "fps") if name in video}
    form["size"] = size_of(video)
    if audio:
        form["audio"] = audio.get("codec", "AAC") if audio.get("export_file", True) else "none"
    if storage:
        form["storage"] = f"preset:{storage['name']}" if storage["type"] == "preset" else KEEP_STORAGE
    return form


async def _set_defaults(request: Request, visitor: Visitor, form: Form) -> Response:
    context = context_of(request)
    before = await run_in_threadpool(_set_already, context, visitor.organization_id)
    try:
        _check_access_stays(context, before, form)
        await ask(request, visitor, "PUT", "/recording_config", body=config_of(form, before))
    except RefusedError as error:
        return await settings_page(request, visitor, error)
    return redirect("/settings?done=saved#defaults")


def _check_access_stays(context: Context, before: dict[str, Any], form: Form) -> None:
    """Raises RefusedError when the headers that the form keeps would be sent to another page."""
    page_of_farm = context.settings.page_of("-")
    if for_page(before, form.get("url", page_of_farm), page_of_farm) != before:
        raise RefusedError(
            422,
            '"url": headers, passwords or cookies are set for the current page and are not sent to another; '
            "change them together through the API (PUT /recording_config)",
        )


def _set_already(context: Context, organization_id: str) -> dict[str, Any]:
    """The organization's defaults with the secrets of a storage, which the form does not have."""
    # Any meeting will do: only the organization's part is used.
    return dict(context.recording_configs.defaults(organization_id, "-").organization)


def _keys(context: Context, organization_id: str) -> list[ApiKey]:
    return [key for key in list_api_keys(context.settings) if key.organization_id == organization_id]


async def _make_key(request: Request, visitor: Visitor, form: Form) -> Response:
    name = form.get("name", "")
    if len(name) > MAX_NAME or not name.isprintable():
        raise InvalidRequestError(f"a key's name must be up to {MAX_NAME} printable characters")
    made = await run_in_threadpool(
        create_api_key, context_of(request).settings, visitor.organization_id, name
    )
    secret = NewSecret(
        title="New API key",
        label=f"API key {made.key.name or made.key.id}",
        value=made.text,
        credentials=f"{made.key.organization_id}:{made.text}",
        back="/settings#keys",
    )
    return await show_new_secret(request, visitor, secret)


async def _revoke_key(request: Request, visitor: Visitor, form: Form) -> Response:
    context = context_of(request)
    key_id = form.get("key_id", "")
    keys = await run_in_threadpool(_keys, context, visitor.organization_id)
    if not any(key.id == key_id for key in keys):
        raise NotFoundError(f"{visitor.organization_id} has no key {key_id}")
    await run_in_threadpool(revoke_api_key, context.settings, key_id)
    # With the key of this session the session has ended.
    return redirect("/login?done=revoked" if key_id == visitor.key.id else "/settings?done=revoked#keys")


settings_routes: Final[list[BaseRoute]] = [
    Route("/settings", page(_show), methods=["GET"]),
    Route("/settings/defaults", action(_set_defaults), methods=["POST"]),
    Route("/settings/keys", action(_make_key), methods=["POST"]),
    Route("/settings/keys/revoke", action(_revoke_key), methods=["POST"]),
]
