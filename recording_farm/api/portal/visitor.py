"""Who looks at a page, and the way from a request to a page for them."""

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
"""What was sent with a form; a field that came several times has its last value."""


@dataclass(frozen=True)
class Visitor:
    """Somebody who is logged in."""

    session: str
    key: ApiKey
    csrf_token: str
    is_administrator: bool

    @property
    def organization_id(self) -> str:
        """Whose recordings they see."""
        return self.key.organization_id


class RefusedError(FarmError):
    """The API has refused what a page asked of it."""

    def __init__(self, status: int, message: str) -> None:
        """The status and the message are the API's."""
        super().__init__(message)
        self.status = status


Show = Callable[[Request, Visitor], Awaitable[Response]]
Act = Callable[[Request, Visitor, Form], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def shown(show: Show) -> Endpoint:
    """A page for those who are logged in; others are led to the login."""

    async def answer(request: Request) -> Response:
        return await show(request, await visitor_of(request))

    return with_error_pages(answer)


def done(act: Act) -> Endpoint:
    """The same for a form that is sent, which must be one of the visitor's own session."""

    async def answer(request: Request) -> Response:
        visitor = await visitor_of(request)
        form = await read_form(request)
        context_of(request).sessions.check_csrf(visitor.session, form.get(CSRF_FIELD, ""))
        return await act(request, visitor, form)

    return with_error_pages(answer)


def with_error_pages(endpoint: Endpoint) -> Endpoint:
    """An endpoint whose errors become pages."""

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
    """Who is logged in. Raises SessionEndedError when nobody is, redis.RedisError."""
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
    """Raises NotAdministratorError when the visitor is none of the farm's."""
    if not visitor.is_administrator:
        raise NotAdministratorError("this is for the administrators of the farm (FARM_ADMINS)")


def check_same_origin(request: Request) -> None:
    """Raises CsrfRefusedError unless a page of this very origin sends the request.

    Browsers say so in Sec-Fetch-Site, and over plain http, where they leave that out, in Origin.
    """
    site = request.headers.get("sec-fetch-site")
    if site is None:
        origin = urlsplit(request.headers.get("origin", "")).netloc
        ours = {request.headers.get("host"), urlsplit(context_of(request).settings.base_url).netloc}
        site = "same-origin" if origin and origin in ours else "none"
    if site != "same-origin":
        raise CsrfRefusedError("this was sent by another page; do it on the farm's own")


async def read_form(request: Request) -> Form:
    """The fields of a form, without the spaces around them; those left empty are not there.

    Raises RequestTooLargeError, InvalidRequestError when it is no form.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise RequestTooLargeError(f"a form may have {MAX_FORM_BYTES >> 20} MiB at most")
    try:
        pairs = parse_qsl(body.decode(), max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise InvalidRequestError("this is no form that the farm can read") from None
    # Browsers send line breaks as two characters; in a private key, say, one is meant.
    return {name: text for name, value in pairs if (text := value.replace("\r\n", "\n").strip())}


def see(path: str) -> Response:
    """Go on to a page, after something was done."""
    return RedirectResponse(path, 303)


def _to_login(request: Request) -> Response:
    # What was sent with a form is gone, so one goes on at the beginning.
    path = request.url.path if request.method in SAFE_METHODS else "/"
    query = f"?{request.url.query}" if request.url.query and request.method in SAFE_METHODS else ""
    response = see("/login" if path == "/" and not query else f"/login?next={quote(path + query, safe='')}")
    settings = context_of(request).settings
    if session_of(request, settings) is not None:
        forget_session(response, request, settings)
    return response
