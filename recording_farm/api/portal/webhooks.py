"""Webhooks in the settings: add, edit, test and delete them, and the log of each one's deliveries."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from recording_farm.api.portal.client import ask, segment
from recording_farm.api.portal.new_secret import NewSecret, show_new_secret
from recording_farm.api.portal.page import render
from recording_farm.api.portal.settings import settings_page
from recording_farm.api.portal.visitor import Form, RefusedError, Visitor, action, page, redirect
from recording_farm.farm.webhooks.registry import STATUS_UPDATE, TRANSFER_UPDATE

SHOWN_ATTEMPTS: Final = 50


async def _add(request: Request, visitor: Visitor, form: Form) -> Response:
    body = {
        "name": form.get("name", ""),
        "url": form.get("url", ""),
        "events": [STATUS_UPDATE],
        "enabled": True,
    }
    try:
        answer = await ask(request, visitor, "POST", "/webhooks", body=body)
    except RefusedError as error:
        return await settings_page(request, visitor, error)
    return await _show_secret(request, visitor, answer.data)


async def _rotate_secret(request: Request, visitor: Visitor, _form: Form) -> Response:
    answer = await ask(request, visitor, "POST", f"{_path(request)}/secret")
    return await _show_secret(request, visitor, answer.data)


async def _show_secret(request: Request, visitor: Visitor, webhook: Mapping[str, Any]) -> Response:
    secret = NewSecret(
        title="New webhook secret",
        label=f"Secret of {webhook['name']}, to verify signatures",
        value=webhook["secret"],
        back=f"/settings/webhooks/{webhook['id']}",
    )
    return await show_new_secret(request, visitor, secret)


async def _edit(request: Request, visitor: Visitor, form: Form) -> Response:
    others = (await ask(request, visitor, "GET", _path(request))).data["events"]
    events = [event for event in others if event != TRANSFER_UPDATE]
    body = {
        "name": form.get("name", ""),
        "url": form.get("url", ""),
        "events": [*events, TRANSFER_UPDATE] if "uploads" in form else events,
        "enabled": "enabled" in form,
    }
    try:
        await ask(request, visitor, "PATCH", _path(request), body=body)
    except RefusedError as error:
        return await _page(request, visitor, error)
    return redirect(f"/settings{_path(request)}?done=saved")


async def _delete(request: Request, visitor: Visitor, _form: Form) -> Response:
    await ask(request, visitor, "DELETE", _path(request))
    return redirect("/settings?done=deleted#webhooks")


async def _show(request: Request, visitor: Visitor) -> Response:
    return await _page(request, visitor, None)


async def _page(request: Request, visitor: Visitor, error: RefusedError | None) -> Response:
    webhook = (await ask(request, visitor, "GET", _path(request))).data
    query = {"per_page": SHOWN_ATTEMPTS}
    log = await ask(request, visitor, "GET", f"{_path(request)}/logs", query=query)
    return render(
        request,
        "webhook.html",
        error.status if error else 200,
        address=f"/settings{_path(request)}",
        problem=error.message if error else None,
        webhook=webhook,
        transfer_update=TRANSFER_UPDATE,
        attempts=[{"webhook": webhook["name"], **entry} for entry in log.data],
        paging=log.paging,
    )


async def _test(request: Request, visitor: Visitor, _form: Form) -> Response:
    return await _do(request, visitor, f"{_path(request)}/test", "test")


async def _replay(request: Request, visitor: Visitor, form: Form) -> Response:
    log_id = segment(form.get("log_id", ""))
    return await _do(request, visitor, f"{_path(request)}/logs/{log_id}/replay", "replay")


async def _do(request: Request, visitor: Visitor, path: str, what: str, body: Any = None) -> Response:
    try:
        await ask(request, visitor, "POST", path, body=body)
    except RefusedError as error:
        return await _page(request, visitor, error)
    return redirect(f"/settings{_path(request)}?done={what}")


def _path(request: Request) -> str:
    return f"/webhooks/{segment(request.path_params['webhook_id'])}"


_PAGE: Final = "/settings/webhooks/{webhook_id}"

webhook_routes: Final[list[BaseRoute]] = [
    Route("/settings/webhooks", action(_add), methods=["POST"]),
    Route(_PAGE, page(_show), methods=["GET"]),
    Route(f"{_PAGE}/edit", action(_edit), methods=["POST"]),
    Route(f"{_PAGE}/secret", action(_rotate_secret), methods=["POST"]),
    Route(f"{_PAGE}/delete", action(_delete), methods=["POST"]),
    Route(f"{_PAGE}/test", action(_test), methods=["POST"]),
    Route(f"{_PAGE}/replay", action(_replay), methods=["POST"]),
]
