"""Sessions of people who are logged in to the portal with a browser.

Keys in Redis
    farm:session:{hash}            JSON: the id of the session's API key, and its organization; expires
    farm:session-secrets:{hash}    hash: new secrets that the session may still read, sealed; expires

The cookie holds a random id and its signature, and no API key. Redis stores only the SHA-256 of the id, so
reading Redis is not enough to take over a session. A session has the rights of its API key. It ends with the
key, by logging out, or after twelve hours.

A browser sends the cookie with requests that any page triggers. Requests that only read need nothing more,
because pages of other origins cannot read the response. Requests that change something also need the
session's CSRF token, which only the portal's pages know: the form field `csrf_token`, or the header
X-CSRF-Token at the API. The token is an HMAC of the id, so it is not stored.

A new API key or webhook secret is shown on a page of its own after a redirect. Until the visitor has saved
it, or for ten minutes, the session can read it again, so that a reload loses nothing and repeats nothing.
"""

import hashlib
import hmac
import secrets
from collections.abc import Awaitable
from typing import Final, cast

import redis.asyncio
from pydantic import BaseModel, ConfigDict
from starlette.requests import HTTPConnection
from starlette.responses import Response

from recording_farm.api.http_errors import CsrfRefusedError
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.api_keys import ApiKey
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.db.clients import in_time

SESSION_SECONDS: Final = 12 * 3600
SECRET_SECONDS: Final = 600
"""How long a session can read a new secret."""

CSRF_FIELD: Final = "csrf_token"
CSRF_HEADER: Final = "X-CSRF-Token"

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Safe methods (RFC 9110, 9.2.1)."""

_COOKIE: Final = "farm_session"
_SECURE_COOKIE: Final = "__Host-farm_session"
"""Browsers accept a cookie of this name only over https and from the host itself (RFC 6265bis, 4.1.3.2)."""


class SessionKey(BaseModel):
    """The API key of a session."""

    model_config = ConfigDict(frozen=True)

    key_id: str
    organization_id: str


class Sessions:
    """The sessions of all API processes. The cookie's value identifies a session."""

    def __init__(self, client: redis.asyncio.Redis, secret: bytes) -> None:
        """`client` comes from `farm.db.clients.connect_async`; `secret` signs."""
        self._redis = client
        self._secret = secret
        self._sealer = Sealer(secret)

    def new(self) -> str:
        """A session before the login; Redis does not store it."""
        session_id = secrets.token_urlsafe(32)
        return f"{session_id}.{self._sign('session', session_id)}"

    def is_ours(self, session: str) -> bool:
        """Whether this farm signed it."""
        session_id, _, signature = session.partition(".")
        return hmac.compare_digest(self._sign("session", session_id).encode(), signature.encode())

    async def open(self, key: ApiKey) -> str:
        """Store a new session with the rights of a key. Raises redis.RedisError."""
        session = self.new()
        stands_for = SessionKey(key_id=key.id, organization_id=key.organization_id)
        async with in_time():
            await self._redis.set(_key(session), stands_for.model_dump_json(), ex=SESSION_SECONDS)
        return session

    async def key_of(self, session: str) -> SessionKey | None:
        """The key of a session; None when the session has ended. Raises redis.RedisError."""
        if not self.is_ours(session):
            return None
        async with in_time():
            value = await self._redis.get(_key(session))
        return None if value is None else SessionKey.model_validate_json(value)

    async def close(self, session: str) -> None:
        """End a session. Raises redis.RedisError."""
        async with in_time():
            await self._redis.delete(_key(session), _secrets_key(session))

    async def keep_secret(self, session: str, text: str) -> str:
        """Keep a new secret for a short time; returns its id. Raises redis.RedisError."""
        secret_id, key = secrets.token_hex(8), _secrets_key(session)
        async with in_time(), self._redis.pipeline() as pipe:
            pipe.hset(key, secret_id, self._sealer.seal(text, key))
            pipe.expire(key, SECRET_SECONDS)
            await pipe.execute()
        return secret_id

    async def secret(self, session: str, secret_id: str) -> str | None:
        """A secret that was kept; None when it was dropped or has expired. Raises redis.RedisError."""
        key = _secrets_key(session)
        async with in_time():
            sealed = await cast("Awaitable[bytes | None]", self._redis.hget(key, secret_id))
        return None if sealed is None else self._sealer.open(sealed.decode(), key)

    async def drop_secret(self, session: str, secret_id: str) -> None:
        """Delete a secret that was kept. Raises redis.RedisError."""
        async with in_time():
            await self._redis.hdel(_secrets_key(session), secret_id)

    def csrf_token(self, session: str) -> str:
        """The token that the portal's own pages send with each change."""
        return self._sign("csrf", session)

    def check_csrf(self, session: str, token: str) -> None:
        """Raises CsrfRefusedError when `token` is not the session's."""
        if not hmac.compare_digest(self.csrf_token(session).encode(), token.encode("utf-8", "replace")):
            raise CsrfRefusedError(
                "this form belongs to another session; go back, reload the page and try again"
            )

    def _sign(self, purpose: str, text: str) -> str:
        message = f"portal {purpose}\n{text}".encode("utf-8", "replace")
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()


def session_of(connection: HTTPConnection, settings: Settings) -> str | None:
    """The session in a browser's cookie; it may have ended.

    Behind https this reads only the `__Host-` cookie. A neighboring host could set any other one, and so put
    a browser into the session of another person.
    """
    return connection.cookies.get(_SECURE_COOKIE if _is_secure(connection, settings) else _COOKIE)


def set_session(response: Response, connection: HTTPConnection, settings: Settings, session: str) -> None:
    """Set the session cookie."""
    secure = _is_secure(connection, settings)
    response.set_cookie(
        _SECURE_COOKIE if secure else _COOKIE,
        session,
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="lax",
        secure=secure,
    )


def forget_session(response: Response, connection: HTTPConnection, settings: Settings) -> None:
    """Delete the session cookie."""
    secure = _is_secure(connection, settings)
    response.delete_cookie(
        _SECURE_COOKIE if secure else _COOKIE, httponly=True, samesite="lax", secure=secure
    )


def _is_secure(connection: HTTPConnection, settings: Settings) -> bool:
    return connection.url.scheme == "https" or settings.base_url.startswith("https://")


def _key(session: str) -> str:
    return f"farm:session:{_digest(session)}"


def _secrets_key(session: str) -> str:
    return f"farm:session-secrets:{_digest(session)}"


def _digest(session: str) -> str:
    return hashlib.sha256(session.encode("utf-8", "replace")).hexdigest()
