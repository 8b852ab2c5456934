"""Log in with an API key, and log out."""

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
from recording_farm.farm.credentials.api_keys import ApiKeys
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
        credentials = _credentials(form, context.keys)
        key = await authenticate(context, credentials, client_address(request))
    except (UnauthorizedError, RateLimitedError, CsrfRefusedError) as error:
        return _page(request, target, error, form.get("organization", ""))
    # A new session id: nobody can know it from the login page. A session that was open ends.
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


def _credentials(form: Form, keys: ApiKeys) -> Credentials:
    """The credentials in the form.

    The key alone names its organization; `organization:key` may be pasted whole.
    """
    organization, key = form.get("organization"), form.get("key", "")
    if ":" in key and keys.find(key) is None:
        organization, _, key = key.partition(":")
    return Credentials(key.strip(), organization)


def _local(target: str) -> str:
    """The address after the login: a path of this farm, `/` for anything else."""
    parts = urlsplit(target)
    # Browsers treat a backslash as a slash, and two slashes start the name of another host.
    is_path = target.startswith("/") and "\\" not in target and not target.startswith("//")
    return target if is_path and not parts.scheme and not parts.netloc and target.isprintable() else "/"


login_routes: Final[list[BaseRoute]] = [
    Route("/login", with_error_pages(_show), methods=["GET"]),
    Route("/login", with_error_pages(_log_in), methods=["POST"]),
    Route("/logout", action(_log_out), methods=["POST"]),
]
