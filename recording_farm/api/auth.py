"""Authentication: an API key, and with HTTP Basic the organization that it must belong to.

Clients of the recording API send `Basic organization:key` (Dyte), `Bearer key` or, without an Authorization
header, `X-Auth-Key` (Cloudflare). The host of a built-in meeting has a token, and so have the participants of
other meetings (`api.services.participant_tokens`), for the recordings of that meeting. A browser that is
logged in to the portal has a session (`api.services.sessions`), which counts only without other credentials.
"""

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

import redis
from starlette.datastructures import Headers
from starlette.requests import Request

from recording_farm.api.context import Context, context_of
from recording_farm.api.http_errors import SessionEndedError, UnauthorizedError
from recording_farm.api.meeting.tokens import TOKEN_PREFIX, MeetingToken, Role, read_token
from recording_farm.api.services.participant_tokens import Participant
from recording_farm.api.services.sessions import CSRF_HEADER, SAFE_METHODS, session_of
from recording_farm.farm.credentials.api_keys import ApiKey
from recording_farm.farm.db.clients import in_time
from recording_farm.farm.errors import NotFoundError, NotPermittedError
from recording_farm.farm.recording.model import Caller, organization_caller

CHALLENGE: Final = {
    "WWW-Authenticate": 'Basic realm="recording-farm", charset="UTF-8", Bearer realm="recording-farm"'
}
"""The header of every response with the status 401."""

SESSION_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="recording-farm"'}
"""The same for a session that has ended. With Basic, browsers would open their own password dialog."""


class Credentials(NamedTuple):
    """The credentials of a request; without an organization the key alone identifies it."""

    key: str
    organization_id: str | None


@dataclass(frozen=True)
class _Admitted:
    """The sender of an admitted request."""

    key: ApiKey
    meeting_id: str | None = None
    """The only meeting that it may be about."""
    caller: Caller | None = None
    """The person, if it is not the organization itself."""
    is_participant: bool = False


async def admit(request: Request, *, hosts: bool = False, participants: bool = False) -> None:
    """Authenticate a request, and count it.

    `hosts` also accepts the token of a meeting's host, and `participants` that of a participant; both stand
    for their organization's key. Handlers then restrict the request to that meeting with `check_meeting`.

    Raises UnauthorizedError, CsrfRefusedError, NotPermittedError, RateLimitedError, KeysUnavailableError,
    redis.RedisError.
    """
    session = _session_alone(request)
    if session is not None:
        request.state.admitted = _Admitted(await _admit_session(request, session))
        return
    context, credentials = context_of(request), credentials_of(request.headers)
    address = client_address(request)
    participant = await _participant(context, credentials, address)
    if participant is not None:
        async with in_time():
            await context.rate_limits.count_link_request(participant.key)
        if not participants:
            raise NotPermittedError(
                "this needs an API key; a participant's token only controls recordings of its own meeting"
            )
        request.state.admitted = _Admitted(
            participant.key, participant.meeting_id, participant.caller, is_participant=True
        )
        return
    token = _host_token(context, credentials) if hosts else None
    async with in_time():
        if token is None:
            key = await authenticate(context, credentials, address)
        else:
            key = _key_for(token, credentials)
            await context.rate_limits.count_link_request(key)
    request.state.admitted = _Admitted(key, token.meeting_id if token else None)


async def _participant(context: Context, credentials: Credentials, address: str) -> Participant | None:
    """The participant whose token a request has; None if it has other credentials.

    Raises UnauthorizedError when the token is not valid, RateLimitedError, KeysUnavailableError,
    redis.RedisError.
    """
    tokens = context.participant_tokens
    if credentials.organization_id is not None or not tokens.may_be(credentials.key):
        return None
    if context.keys.find(credentials.key) is not None:
        return None
    try:
        return await tokens.read(credentials.key, context.keys.organizations())
    except UnauthorizedError:
        async with in_time():
            await context.rate_limits.check_address(address)
            await context.rate_limits.count_failure(address)
        raise


def _admitted(request: Request) -> _Admitted:
    return cast("_Admitted", request.state.admitted)


def only_meeting(request: Request) -> str | None:
    """The only meeting that an admitted request may be about; None with an API key, which may use all."""
    return _admitted(request).meeting_id


def is_participant(request: Request) -> bool:
    """Whether an admitted request has the token of a participant."""
    return _admitted(request).is_participant


def caller_of(request: Request) -> Caller:
    """The caller that recordings show for an admitted request."""
    return _admitted(request).caller or organization_caller(organization_of(request))


def check_meeting(request: Request, meeting_id: str) -> None:
    """Raises NotFoundError when the token of an admitted request is for another meeting."""
    if only_meeting(request) not in (None, meeting_id):
        raise NotFoundError(f"this token is not valid for meeting {meeting_id}")


def organization_of(request: Request) -> str:
    """The organization of an admitted request."""
    return api_key_of(request).organization_id


def api_key_of(request: Request) -> ApiKey:
    """The API key of an admitted request."""
    return _admitted(request).key


def credentials_of(headers: Headers) -> Credentials:
    """The credentials in a request's headers.

    Raises UnauthorizedError when they are missing or malformed.
    """
    authorization = headers.get("authorization")
    if authorization is None and "x-auth-key" in headers:
        return Credentials(_text(headers["x-auth-key"]), None)
    scheme, _, value = (authorization or "").partition(" ")
    match scheme.lower():
        case "bearer":
            return Credentials(_text(value.strip()), None)
        case "basic":
            return _basic(value.strip())
        case _:
            raise UnauthorizedError(
                "authentication required: send the API key as a Bearer token, or by HTTP Basic with the "
                "organization as user name and the API key as password"
            )


def _basic(encoded: str) -> Credentials:
    try:
        decoded = base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        raise UnauthorizedError("the Basic credentials must be organization:key in base64") from None
    organization_id, _, key = decoded.partition(":")
    return Credentials(key, organization_id)


def _text(value: str) -> str:
    """The text of a header, which HTTP transfers as bytes."""
    try:
        return value.encode("latin-1").decode()
    except ValueError:
        raise UnauthorizedError("the API key must be UTF-8") from None


async def is_still_admitted(request: Request) -> bool:
    """Whether an admitted request would still be admitted: its key is valid, its session has not ended."""
    context = context_of(request)
    if not context.keys.is_valid(api_key_of(request)):
        return False
    session = _session_alone(request)
    try:
        return session is None or await context.sessions.key_of(session) is not None
    except redis.RedisError:
        return False  # the browser reconnects by itself


def _session_alone(request: Request) -> str | None:
    """The session of a request that has no other credentials."""
    if "authorization" in request.headers or "x-auth-key" in request.headers:
        return None
    return session_of(request, context_of(request).settings)


async def _admit_session(request: Request, session: str) -> ApiKey:
    context = context_of(request)
    key = await key_of_session(context, session)
    if request.method not in SAFE_METHODS:
        context.sessions.check_csrf(session, request.headers.get(CSRF_HEADER, ""))
    async with in_time():
        await context.rate_limits.count_request(key)
    return key


async def key_of_session(context: Context, session: str) -> ApiKey:
    """The API key of a session. Raises SessionEndedError, redis.RedisError."""
    stands_for = await context.sessions.key_of(session)
    key = context.keys.with_id(stands_for.key_id) if stands_for else None
    if key is None or stands_for is None or key.organization_id != stands_for.organization_id:
        raise SessionEndedError("your session has ended; log in again")
    return key


def client_address(request: Request) -> str:
    """The client address of a request."""
    return request.client.host if request.client else ""


async def authenticate(context: Context, credentials: Credentials, address: str) -> ApiKey:
    """The key that matches the credentials; counts the request, or the wrong key from this address.

    Raises UnauthorizedError, RateLimitedError, redis.RedisError.
    """
    key = _key_of(context, credentials)
    if key is None or key.from_settings:
        # After too many wrong keys, even a correct guess from this address is rejected. A key that the farm
        # made cannot be guessed, so wrong keys from the same address do not lock its owner out.
        await context.rate_limits.check_address(address)
    if key is None:
        await context.rate_limits.count_failure(address)
        raise UnauthorizedError("unknown organization or wrong API key")
    await context.rate_limits.count_request(key)
    return key


def _host_token(context: Context, credentials: Credentials) -> MeetingToken | None:
    if credentials.organization_id is not None or not credentials.key.startswith(TOKEN_PREFIX):
        return None
    try:
        token = read_token(context.link_secret, credentials.key, time.time())
    except UnauthorizedError:
        # It is then checked, and counted, as a wrong API key.
        return None
    return token if token.role is Role.HOST else None


def _key_for(token: MeetingToken, credentials: Credentials) -> ApiKey:
    digest = hashlib.sha256(credentials.key.encode()).hexdigest()
    return ApiKey(id=f"host:{digest[:16]}", organization_id=token.organization_id, hash=digest)


def _key_of(context: Context, credentials: Credentials) -> ApiKey | None:
    key = context.keys.find(credentials.key)
    claimed = credentials.organization_id
    if key is None or claimed is None:
        return key
    return key if secrets.compare_digest(claimed.encode(), key.organization_id.encode()) else None
