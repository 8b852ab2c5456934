"""The person who is logged in, and what turns a function into an endpoint for them."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

import redis
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from recording_farm.api.auth import key_of_session
from recording_farm.api.context import context_of
from recording_farm.api.error_responses import redis_message
from recording_farm.api.http_errors import (
    CsrfRefusedError,
    NotAdministratorError,
    RequestTooLargeError,
    SessionEndedError,
)
from recording_farm.api.portal.page import error_page
from recording_farm.api.services.sessions import CSRF_FIELD, SAFE_METHODS, forget_session, session_of
from recording_farm.farm.credentials.api_keys import ApiKey
from recording_farm.farm.db.faults import describe
from recording_farm.farm.errors import FarmError, InvalidRequestError

logger = logging.getLogger(__name__)

MAX_FORM_BYTES: Final = 1 << 20
_MAX_FIELDS: Final = 200

Form = Mapping[str, str]
"""The fields of a submitted form; a repeated field has its last value."""


@dataclass(frozen=True)
class Visitor:
    """A person who is logged in."""

    session: str
    key: ApiKey
    csrf_token: str
    is_administrator: bool

    @property
    def organization_id(self) -> str:
        """The organization whose recordings they see."""
        return self.key.organization_id


class RefusedError(FarmError):
    """The API rejected a request of a page."""

    def __init__(self, status: int, message: str, type_: str = "") -> None:
        """`status`, `message` and the error's `type` come from the API."""
        super().__init__(message)
        self.status = status
        self.type = type_


Show = Callable[[Request, Visitor], Awaitable[Response]]
Act = Callable[[Request, Visitor, Form], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def page(show: Show) -> Endpoint:
    """An endpoint for visitors who are logged in; others are redirected to the login."""

    async def answer(request: Request) -> Response:
        return await show(request, await visitor_of(request))

    return with_error_pages(answer)


def action(act: Act) -> Endpoint:
    """The same for a submitted form, which must have the CSRF token of the visitor's session."""

    async def answer(request: Request) -> Response:
        visitor = await visitor_of(request)
        form = await read_form(request)
        context_of(request).sessions.check_csrf(visitor.session, form.get(CSRF_FIELD, ""))
        return await act(request, visitor, form)

    return with_error_pages(answer)


def with_error_pages(endpoint: Endpoint) -> Endpoint:
    """An endpoint that renders its errors as pages."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except SessionEndedError:
            return _to_login(request)
        except RefusedError as error:
            return error_page(request, error.status, error.message)
        except FarmError as error:
            return error_page(request, error.http_status, error.message)
        except redis.RedisError as error:
            logger.error("%s %s: %s", request.method, request.url.path, describe(error))
            return error_page(request, 503, redis_message(error))

    return answer


async def visitor_of(request: Request) -> Visitor:
    """The visitor of a request. Raises SessionEndedError when nobody is logged in, redis.RedisError."""
    context = context_of(request)
    session = session_of(request, context.settings)
    if session is None:
        raise SessionEndedError("log in first")
    key = await key_of_session(context, session)
    visitor = Visitor(
        session=session,
        key=key,
        csrf_token=context.sessions.csrf_token(session),
        is_administrator=key.organization_id in context.settings.administrators,
    )
    request.state.visitor = visitor
    return visitor


def check_administrator(visitor: Visitor) -> None:
    """Raises NotAdministratorError when the visitor is not an administrator of the farm."""
    if not visitor.is_administrator:
        raise NotAdministratorError(
            "only administrators can see this page (FARM_ADMINS names their organizations)"
        )


def check_same_origin(request: Request) -> None:
    """Raises CsrfRefusedError unless the request comes from a page of this origin.

    Browsers send Sec-Fetch-Site; over plain http they leave it out and send Origin.
    """
    site = request.headers.get("sec-fetch-site")
    if site is None:
        origin = urlsplit(request.headers.get("origin", "")).netloc
        ours = {request.headers.get("host"), urlsplit(context_of(request).settings.base_url).netloc}
        site = "same-origin" if origin and origin in ours else "none"
    if site != "same-origin":
        raise CsrfRefusedError("the request came from a page of another site; use the portal itself")


async def read_form(request: Request) -> Form:
    """The fields of a form, stripped; empty ones are left out.

    Raises RequestTooLargeError, InvalidRequestError when the body is not a form.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise RequestTooLargeError(f"the form is larger than {MAX_FORM_BYTES >> 20} MiB")
    try:
        pairs = parse_qsl(body.decode(), max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise InvalidRequestError("the form could not be read") from None
    # Browsers send line breaks as \r\n; a private key, for example, needs \n.
    return {name: text for name, value in pairs if (text := value.replace("\r\n", "\n").strip())}


def redirect(path: str) -> Response:
    """Send the browser to a page after an action (post/redirect/get)."""
    return RedirectResponse(path, 303)


def _to_login(request: Request) -> Response:
    # The content of a submitted form is lost, so the visitor starts at the first page.
    path = request.url.path if request.method in SAFE_METHODS else "/"
    query = f"?{request.url.query}" if request.url.query and request.method in SAFE_METHODS else ""
    response = redirect(
        "/login" if path == "/" and not query else f"/login?next={quote(path + query, safe='')}"
    )
    settings = context_of(request).settings
    if session_of(request, settings) is not None:
        forget_session(response, request, settings)
    return response
