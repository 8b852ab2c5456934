"""Tokens of the built-in meeting: for hosts, for recorders, and for members that reconnect.

A host's or recorder's token holds role, meeting, organization and expiry, and an HMAC-SHA256 over them; the
farm stores nothing. It stands after the `#` of a URL, so no server or proxy on the way logs it.
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
from recording_farm.browser_bot.network.addresses import is_under
from recording_farm.farm.config.settings import MEETING_PATH, Settings

TOKEN_PREFIX: Final = "meet_"  # noqa: S105 - what every token begins with, not one of them
"""Prefix of every token: people and secret scanners recognize one by it."""

HOST_SECONDS: Final = 86400
"""How long a host's token is valid."""

_RECORDER_SECONDS: Final = 2 * 86400
"""A recording may wait for a day and run for another, and may reload its page at any time."""


_RECORDER_FRAGMENT: Final = "#recorder="


class Role(StrEnum):
    """The role that a token grants."""

    HOST = "host"
    """May end the meeting for everyone, and start, pause and stop its recording."""
    RECORDER = "recorder"
    """Receives all media and is in no list of people; everyone sees that the meeting is recorded."""


class MeetingToken(BaseModel):
    """The content of a token; `expires` is in Unix seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    meeting_id: str
    organization_id: str
    expires: Annotated[int, Field(ge=0)]
    recording_id: UUID | None = None
    """For a recorder: it may listen only while this recording runs."""


def sign_token(secret: bytes, token: MeetingToken) -> str:
    """Sign a token; only holders of `secret` can."""
    payload = _encode(token.model_dump_json().encode())
    return f"{TOKEN_PREFIX}{payload}.{_signature(secret, payload)}"


def read_token(secret: bytes, text: str, present: float) -> MeetingToken:
    """Verify a token of `sign_token` and return its content.

    `present` is the current time in Unix seconds. Raises UnauthorizedError.
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
        # Another version of the farm signed it.
        raise UnauthorizedError("this meeting token is not valid") from None
    if present >= token.expires:
        raise UnauthorizedError("this meeting token has expired")
    return token


def host_address(settings: Settings, secret: bytes, meeting_id: str, organization_id: str) -> tuple[str, int]:
    """Return a URL that makes its visitor the host of a meeting, and its expiry in Unix seconds."""
    expires = int(time.time()) + HOST_SECONDS
    token = MeetingToken(
        role=Role.HOST, meeting_id=meeting_id, organization_id=organization_id, expires=expires
    )
    page = f"{settings.base_url}{MEETING_PATH}{quote(meeting_id, safe='')}"
    return f"{page}#host={sign_token(secret, token)}", expires


def recorder_address(
    settings: Settings, secret: bytes, page: str, organization_id: str, recording_id: UUID
) -> str:
    """Return the URL at which the recorder opens `page`; pages of the built-in meeting get a token."""
    if not is_under(page, settings.built_in_meetings):
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
    """Return the URL of a recording's page without its token, as API and portal may show it."""
    return page.partition(_RECORDER_FRAGMENT)[0]


def sign_member(secret: bytes, meeting_id: str, member_id: str) -> str:
    """Return a resume token: a client that reconnects with it keeps its member id in this meeting."""
    return f"{member_id}.{_signature(secret, _member_payload(meeting_id, member_id), 'member')}"


def read_member(secret: bytes, meeting_id: str, text: str) -> str | None:
    """Return the member id of a resume token, or None when it is not valid for this meeting."""
    member_id, _, signature = text.partition(".")
    wanted = _signature(secret, _member_payload(meeting_id, member_id), "member")
    return member_id if hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace")) else None


def _member_payload(meeting_id: str, member_id: str) -> str:
    return f"{member_id}\n{meeting_id}"


def _signature(secret: bytes, payload: str, purpose: str = "meeting") -> str:
    message = f"{purpose}\n{payload}".encode("utf-8", "replace")
    return _encode(hmac.new(secret, message, hashlib.sha256).digest())


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
