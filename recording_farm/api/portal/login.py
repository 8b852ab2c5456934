"""Log in with an organization and one of its API keys, and out."""

from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from recording_farm.api.auth import Credentials, authenticate, client_address
from recording_farm.api.context import context_of
from recording_farm.api.http_errors import CsrfRefusedError, RateLimitedError, UnauthorizedError
from recording_farm.api.portal.page import render
from recording_farm.api.portal.visitor import (
    Form,
    Visitor,
    action,
    check_same_origin,
    read_form,
    redirect,
    with_error_pages,
)
from recording_farm.api.services.sessions import CSRF_FIELD, forget_session, session_of, set_session
from recording_farm.farm.errors import FarmError


async def _show(request: Request) -> Response:
    return _page(request, _local(request.query_params.get("next", "")))


async def _log_in(request: Request) -> Response:
    context = context_of(request)
    form = await read_form(request)
    target = _local(form.get("next", ""))
    session = session_of(request, context.settings)
    try:
        check_same_origin(request)
        if session is None or not context.sessions.is_ours(session):
            raise CsrfRefusedError("your browser has not kept the login page's cookie; please try again")
        context.sessions.check_csrf(session, form.get(CSRF_FIELD, ""))
        credentials = Credentials(form.get("key", ""), form.get("organization", ""))
        key = await authenticate(context, credentials, client_address(request))
    except (UnauthorizedError, RateLimitedError, CsrfRefusedError) as error:
        return _page(request, target, error, form.get("organization", ""))
    # A new one: whoever knew the one of the login page does not know this one, which ends if it was open.
    await context.sessions.close(session)
    response = redirect(target)
    set_session(response, request, context.settings, await context.sessions.open(key))
    return response


async def _log_out(request: Request, visitor: Visitor, _form: Form) -> Response:
    context = context_of(request)
    await context.sessions.close(visitor.session)
    response = redirect("/login")
    forget_session(response, request, context.settings)
    return response


def _page(request: Request, target: str, error: FarmError | None = None, organization: str = "") -> Response:
    context = context_of(request)
    session = session_of(request, context.settings)
    if session is None or not context.sessions.is_ours(session):
        session = context.sessions.new()
    response = render(
        request,
        "login.html",
        error.http_status if error else 200,
        target=target,
        organization=organization,
        problem=error.message if error else None,
        csrf_token=context.sessions.csrf_token(session),
    )
    if isinstance(error, RateLimitedError):
        response.headers["Retry-After"] = str(error.retry_after)
    set_session(response, request, context.settings, session)
    return response


def _local(target: str) -> str:
    """Where to go on after the login: a path of this farm, whatever the address of the page says."""
    parts = urlsplit(target)
    # Browsers take a backslash for a slash, and two of them begin the name of another host.
    is_path = target.startswith("/") and "\\" not in target and not target.startswith("//")
    return target if is_path and not parts.scheme and not parts.netloc and target.isprintable() else "/"


login_routes: Final[list[BaseRoute]] = [
    Route("/login", with_error_pages(_show), methods=["GET"]),
    Route("/login", with_error_pages(_log_in), methods=["POST"]),
    Route("/logout", action(_log_out), methods=["POST"]),
]
