"""Tokens of the built-in meeting: who may be its host, and who may listen unseen to record it.

A token carries role, meeting, organization and expiry, and an HMAC-SHA256 over them; the farm keeps nothing
about it. It stands behind the `#` of an address, so that no server or proxy on the way writes it down.
"""

import base64
import hashlib
import hmac
import time
from enum import StrEnum
from typing import Annotated, Final
from urllib.parse import quote, unquote, urldefrag, urlsplit
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recording_farm.api.http_errors import UnauthorizedError
from recording_farm.api.meeting.page import is_demo
from recording_farm.browser_bot.network.addresses import lies_under
from recording_farm.farm.config.settings import MEETING_PATH, Settings

TOKEN_PREFIX: Final = "meet_"  # noqa: S105 - what every token begins with, not one of them
"""What every token begins with, so that people and secret scanners know one when they see it."""

HOST_SECONDS: Final = 86400
"""How long a host's token is valid."""

_RECORDER_SECONDS: Final = 2 * 86400
"""A recording may wait for a day and last for another, and may open its page again at any time."""


_RECORDER_FRAGMENT: Final = "#recorder="


class Role(StrEnum):
    """What a token lets its bearer be."""

    HOST = "host"
    """May end the meeting for all, and start and stop its recording."""
    RECORDER = "recorder"
    """Hears and sees everybody and is in no list; that there is one, everybody is told."""


class MeetingToken(BaseModel):
    """What a token says; `expires` is in Unix seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    meeting_id: str
    organization_id: str
    expires: Annotated[int, Field(ge=0)]
    recording_id: UUID | None = None
    """Of a recorder: it may listen as long as this recording goes on, and no longer."""


def sign_token(secret: bytes, token: MeetingToken) -> str:
    """The token as text, which only who knows `secret` can make."""
    payload = _encode(token.model_dump_json().encode())
    return f"{TOKEN_PREFIX}{payload}.{_signature(secret, payload)}"


def read_token(secret: bytes, text: str, present: float) -> MeetingToken:
    """What a token says that was made by `sign_token` and has not expired.

    `present` is the time to compare with, in Unix seconds. Raises UnauthorizedError.
    """
    payload, _, signature = text.removeprefix(TOKEN_PREFIX).partition(".")
    wanted = _signature(secret, payload)
    if not text.startswith(TOKEN_PREFIX) or not hmac.compare_digest(
        wanted.encode(), signature.encode("utf-8", "replace")
    ):
        raise UnauthorizedError("this meeting token is not valid")
    try:
        token = MeetingToken.model_validate_json(
            base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        )
    except (ValueError, ValidationError):
        # Signed by another version of the farm.
        raise UnauthorizedError("this meeting token is not valid") from None
    if present >= token.expires:
        raise UnauthorizedError("this meeting token has expired")
    return token


def host_address(settings: Settings, secret: bytes, meeting_id: str, organization_id: str) -> tuple[str, int]:
    """The address at which somebody is host of a meeting, and until when, in Unix seconds."""
    expires = int(time.time()) + HOST_SECONDS
    token = MeetingToken(
        role=Role.HOST, meeting_id=meeting_id, organization_id=organization_id, expires=expires
    )
    page = f"{settings.base_url}{MEETING_PATH}{quote(meeting_id, safe='')}"
    return f"{page}#host={sign_token(secret, token)}", expires


def recorder_address(
    settings: Settings, secret: bytes, page: str, organization_id: str, recording_id: UUID
) -> str:
    """The address at which the recorder opens `page`: of the built-in meeting with a token, else as it is."""
    if not lies_under(page, settings.built_in_meetings):
        return page
    parts = urlsplit(page)
    meeting_id = unquote(parts.path.removeprefix(MEETING_PATH))
    if not parts.path.startswith(MEETING_PATH) or is_demo(meeting_id, parts.query):
        return page
    token = MeetingToken(
        role=Role.RECORDER,
        meeting_id=meeting_id,
        organization_id=organization_id,
        expires=int(time.time()) + _RECORDER_SECONDS,
        recording_id=recording_id,
    )
    return f"{urldefrag(page).url}{_RECORDER_FRAGMENT}{sign_token(secret, token)}"


def without_token(page: str) -> str:
    """The address of a recording's page as it may be shown."""
    return page.partition(_RECORDER_FRAGMENT)[0]


def _signature(secret: bytes, payload: str) -> str:
    message = f"meeting\n{payload}".encode("utf-8", "replace")
    return _encode(hmac.new(secret, message, hashlib.sha256).digest())


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
