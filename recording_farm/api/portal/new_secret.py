"""The page that shows a new API key or webhook secret, which the farm cannot show again later."""

from typing import Final

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from recording_farm.api.context import context_of
from recording_farm.api.portal.page import error_page, render
from recording_farm.api.portal.visitor import Form, Visitor, action, page, redirect


class NewSecret(BaseModel):
    """A secret and its place in the portal."""

    model_config = ConfigDict(frozen=True)

    title: str
    label: str
    value: str
    credentials: str = ""
    """`organization:key`, for an API key."""
    back: str
    """The page after the visitor has saved it."""


async def show_new_secret(request: Request, visitor: Visitor, secret: NewSecret) -> Response:
    """Redirect to the page of a new secret, so that a reload does not make another one."""
    sessions = context_of(request).sessions
    secret_id = await sessions.keep_secret(visitor.session, secret.model_dump_json())
    return redirect(f"/settings/secrets/{secret_id}")


async def _show(request: Request, visitor: Visitor) -> Response:
    secret_id = request.path_params["secret_id"]
    text = await context_of(request).sessions.secret(visitor.session, secret_id)
    if text is None:
        return error_page(
            request, 404, "this secret is no longer shown; if you did not save it, make a new one"
        )
    return render(
        request,
        "secret.html",
        problem=None,
        secret=NewSecret.model_validate_json(text),
        saved=f"/settings/secrets/{secret_id}/saved",
    )


async def _saved(request: Request, visitor: Visitor, _form: Form) -> Response:
    sessions, secret_id = context_of(request).sessions, request.path_params["secret_id"]
    text = await sessions.secret(visitor.session, secret_id)
    await sessions.drop_secret(visitor.session, secret_id)
    return redirect(NewSecret.model_validate_json(text).back if text else "/settings")


secret_routes: Final[list[BaseRoute]] = [
    Route("/settings/secrets/{secret_id}", page(_show), methods=["GET"]),
    Route("/settings/secrets/{secret_id}/saved", action(_saved), methods=["POST"]),
]
