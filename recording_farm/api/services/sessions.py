"""Sessions: people who have logged in to the portal with a browser.

Key
    farm:session:{hash}    the id of the API key that a session stands for, and whose it is, as JSON; it ends
                           by itself

The cookie holds a random id and its signature, and no key. Redis knows the id's SHA-256 alone, so whoever
reads Redis can be nobody. A session opens what its API key opens and ends with it, by logging out, or after
twelve hours.

A browser sends the cookie along with whatever any page makes it send. What only reads needs nothing more: no
page of another origin can read the answer. Whatever changes something has to show the session's token
besides, which only the portal's own pages know: the form field `csrf_token` there, the header X-CSRF-Token at
the API. The token is an HMAC over the id, so the farm keeps nothing about it.
"""

import hashlib
import hmac
import secrets
from typing import Final

import redis.asyncio
from pydantic import BaseModel, ConfigDict
from starlette.requests import HTTPConnection
from starlette.responses import Response

from recording_farm.api.http_errors import CsrfRefusedError
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.api_keys import ApiKey
from recording_farm.farm.db.clients import in_time

SESSION_SECONDS: Final = 12 * 3600

CSRF_FIELD: Final = "csrf_token"
CSRF_HEADER: Final = "X-CSRF-Token"

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110, 9.2.1)."""

_COOKIE: Final = "farm_session"
_SECURE_COOKIE: Final = "__Host-farm_session"
"""Browsers take a cookie of this name only over https and from the host itself (RFC 6265bis, 4.1.3.2)."""


class SessionKey(BaseModel):
    """The API key that a session stands for."""

    model_config = ConfigDict(frozen=True)

    key_id: str
    organization_id: str


class Sessions:
    """The sessions of all API processes. A session is known by the value of its cookie."""

    def __init__(self, client: redis.asyncio.Redis, secret: bytes) -> None:
        """`client` comes from `farm.db.clients.connect_async`; `secret` signs."""
        self._redis = client
        self._secret = secret

    def new(self) -> str:
        """A session that nobody has logged in to yet; Redis knows nothing of it."""
        session_id = secrets.token_urlsafe(32)
        return f"{session_id}.{self._sign('session', session_id)}"

    def is_ours(self, session: str) -> bool:
        """Whether this farm has made it."""
        session_id, _, signature = session.partition(".")
        return hmac.compare_digest(self._sign("session", session_id).encode(), signature.encode())

    async def open(self, key: ApiKey) -> str:
        """A new session that stands for a key. Raises redis.RedisError."""
        session = self.new()
        stands_for = SessionKey(key_id=key.id, organization_id=key.organization_id)
        async with in_time():
            await self._redis.set(_key(session), stands_for.model_dump_json(), ex=SESSION_SECONDS)
        return session

    async def key_of(self, session: str) -> SessionKey | None:
        """The key that a session stands for; None when it has ended. Raises redis.RedisError."""
        if not self.is_ours(session):
            return None
        async with in_time():
            value = await self._redis.get(_key(session))
        return None if value is None else SessionKey.model_validate_json(value)

    async def close(self, session: str) -> None:
        """End a session. Raises redis.RedisError."""
        async with in_time():
            await self._redis.delete(_key(session))

    def csrf_token(self, session: str) -> str:
        """What shows that a request comes from one of the portal's own pages."""
        return self._sign("csrf", session)

    def check_csrf(self, session: str, token: str) -> None:
        """Raises CsrfRefusedError when that is not the session's token."""
        if not hmac.compare_digest(self.csrf_token(session).encode(), token.encode("utf-8", "replace")):
            raise CsrfRefusedError(
                "this form belongs to another session; go back, reload the page and try again"
            )

    def _sign(self, purpose: str, text: str) -> str:
        message = f"portal {purpose}\n{text}".encode("utf-8", "replace")
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()


def session_of(connection: HTTPConnection, settings: Settings) -> str | None:
    """The session that a browser names, which may have ended.

    Behind https only the cookie that no other host can set: one of a neighboring name could give a browser
    the session of somebody else.
    """
    return connection.cookies.get(_SECURE_COOKIE if _is_secure(connection, settings) else _COOKIE)


def set_session(response: Response, connection: HTTPConnection, settings: Settings, session: str) -> None:
    """Have a browser keep a session."""
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
    """Have a browser forget its session."""
    secure = _is_secure(connection, settings)
    response.delete_cookie(
        _SECURE_COOKIE if secure else _COOKIE, httponly=True, samesite="lax", secure=secure
    )


def _is_secure(connection: HTTPConnection, settings: Settings) -> bool:
    return connection.url.scheme == "https" or settings.base_url.startswith("https://")


def _key(session: str) -> str:
    return f"farm:session:{hashlib.sha256(session.encode('utf-8', 'replace')).hexdigest()}"
