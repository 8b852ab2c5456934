"""Storage presets in the settings: the form that adds or replaces one, the check, and deletion."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from recording_farm.api.portal.client import ask, segment
from recording_farm.api.portal.page import render
from recording_farm.api.portal.settings import settings_page
from recording_farm.api.portal.storage_kinds import STORAGES, config_of_storage, is_editable
from recording_farm.api.portal.visitor import Form, RefusedError, Visitor, action, page, redirect


async def _show(request: Request, visitor: Visitor) -> Response:
    name = request.query_params.get("edit")
    presets = (await ask(request, visitor, "GET", "/storage/presets")).data if name is not None else ()
    for preset in presets:
        config = preset["storage_config"]
        if preset["name"] == name and is_editable(config):
            shown = {field: str(value) for field, value in config.items() if value is not None}
            return _page(request, visitor, config["type"], shown | {"name": preset["name"]})
    return _page(request, visitor, request.query_params.get("type", ""), {})


def _page(
    request: Request, _visitor: Visitor, kind: str, form: Form, error: RefusedError | None = None
) -> Response:
    kind = kind if kind in STORAGES else "aws"
    # The page does not repeat secrets; the visitor types them again.
    secret = {field.name for field in STORAGES[kind].fields if field.kind in {"password", "area"}}
    return render(
        request,
        "storage.html",
        error.status if error else 200,
        problem=error.message if error else None,
        kind=kind,
        kinds=STORAGES,
        form={name: value for name, value in form.items() if name not in secret},
    )


async def _add(request: Request, visitor: Visitor, form: Form) -> Response:
    kind = form.get("type", "")
    body = {"storage_config": config_of_storage(kind, form)}
    try:
        await ask(request, visitor, "PUT", _path(form), body=body)
    except RefusedError as error:
        return _page(request, visitor, kind, form, error)
    return redirect("/settings?done=saved#storage")


async def _delete(request: Request, visitor: Visitor, form: Form) -> Response:
    await ask(request, visitor, "DELETE", _path(form))
    return redirect("/settings?done=deleted#storage")


async def _check(request: Request, visitor: Visitor, form: Form) -> Response:
    name = form.get("name", "")
    body = {"storage_config": {"type": "preset", "name": name}}
    try:
        answer = await ask(request, visitor, "POST", "/storage/check", body=body)
    except RefusedError as error:
        return await settings_page(request, visitor, error)
    return await settings_page(request, visitor, checked={"name": name} | answer.data)


def _path(form: Form) -> str:
    return f"/storage/presets/{segment(form.get('name', ''))}"


storage_routes: Final[list[BaseRoute]] = [
    Route("/settings/storage", page(_show), methods=["GET"]),
    Route("/settings/storage", action(_add), methods=["POST"]),
    Route("/settings/storage/delete", action(_delete), methods=["POST"]),
    Route("/settings/storage/check", action(_check), methods=["POST"]),
]
