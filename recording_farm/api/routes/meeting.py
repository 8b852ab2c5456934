"""How browsers speak with the rooms of the built-in meeting.

People have a WebSocket, `/meet-rooms/people/{meeting_id}`. The recorder's browser cannot open one: its only
way out is the gateway, which cannot look into the tunnel that a WebSocket goes through, so the farm's own
address would be refused there. It gets the same messages as the answer to a POST (server-sent events),
`/meet-rooms/recorder/{meeting_id}`, and sends its own with `/meet-rooms/messages`.

Anybody may join who knows the meeting's id. Nobody may listen unseen without a recorder's token.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import anyio
from pydantic import ValidationError
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from recording_farm.api.auth import credentials_of
from recording_farm.api.context import Context, context_of
from recording_farm.api.http_errors import (
    MalformedRequestError,
    MeetingRefusedError,
    RequestTooLargeError,
    UnauthorizedError,
)
from recording_farm.api.meeting.messages import MAX_MESSAGE, Join, parse_message
from recording_farm.api.meeting.rooms import Member, Recorder, Room, Rooms, new_member_id
from recording_farm.api.meeting.tokens import MeetingToken, Role, read_token
from recording_farm.api.schema.requests import check_meeting_id
from recording_farm.api.schema.responses import success
from recording_farm.browser_bot.waiting import first_of
from recording_farm.farm.config.settings import MEETING_ROOMS_PATH
from recording_farm.farm.errors import FarmError, NotFoundError
from recording_farm.farm.recording.model import Status
from recording_farm.farm.recording.records import read_recording

BEAT_SECONDS: Final = 3.0
"""Between two signs of life of the server's; members answer each."""

SILENCE_SECONDS: Final = 10.0
"""Who says nothing for so long is gone: a killed browser, a cut connection."""

_JOIN_SECONDS: Final = 10.0
_SEND_SECONDS: Final = 10.0
_GOODBYE_SECONDS: Final = 1.0
"""How long a recorder's stream may take to end when the server shuts down."""

_RECORDS: Final = frozenset({Status.INVOKED, Status.RECORDING, Status.PAUSED})
"""The states in which a recording's page may be opened."""

_REFUSED: Final = 4000
"""The code of a WebSocket that the room closes (4000 to 4999 are for applications, RFC 6455, 7.4.2)."""


async def _people(socket: WebSocket) -> None:
    context = context_of(socket)
    try:
        meeting_id = check_meeting_id(socket.path_params["meeting_id"])
    except FarmError:
        return await socket.close()
    if not _is_ours(socket, context):
        # Before it is accepted, this is a 403.
        return await socket.close()
    await socket.accept()
    with suppress(WebSocketDisconnect, TimeoutError):
        try:
            async with asyncio.timeout(_JOIN_SECONDS):
                member = _member(await _text(socket), context, meeting_id, _address(socket))
            room = context.rooms.enter(meeting_id, member)
        except FarmError as error:
            return await _refuse(socket, error)
        except TimeoutError:
            return await socket.close(_REFUSED)
        try:
            await _converse(socket, room, member)
        finally:
            context.rooms.leave(meeting_id, member)


async def _converse(socket: WebSocket, room: Room, member: Member) -> None:
    """Pass messages in both directions until either ends."""
    try:
        await first_of(sent=_send(socket, member), received=_receive(socket, room, member))
    except MeetingRefusedError as refused:
        await _refuse(socket, refused)
    except (TimeoutError, WebSocketDisconnect):
        # Nobody is there to be told.
        return
    else:
        await socket.close(_REFUSED)


async def _send(socket: WebSocket, member: Member) -> None:
    while True:
        text: str | None = _BEAT
        with suppress(TimeoutError):
            async with asyncio.timeout(BEAT_SECONDS):
                text = await member.outbox.get()
        if text is None:
            return
        async with asyncio.timeout(_SEND_SECONDS):
            await socket.send_text(text)


async def _receive(socket: WebSocket, room: Room, member: Member) -> None:
    while True:
        async with asyncio.timeout(SILENCE_SECONDS):
            text = await _text(socket)
        _hear(room, member, text)


def _hear(room: Room, member: Member, text: str) -> None:
    member.check_amount(text)
    try:
        message = parse_message(text)
    except ValidationError:
        raise MeetingRefusedError("the meeting cannot read this message from your browser") from None
    room.hear(member, message)


async def _text(socket: WebSocket) -> str:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"])
    text = message.get("text")
    if not isinstance(text, str) or len(text) > MAX_MESSAGE:
        raise MeetingRefusedError("the meeting cannot read this message from your browser")
    return text


def _member(text: str, context: Context, meeting_id: str, address: str) -> Member:
    try:
        join = Join.model_validate_json(text)
    except ValidationError:
        raise MeetingRefusedError("the name must have 1 to 40 characters") from None
    host = join.token is not None
    if join.token is not None:
        _check_token(context, join.token, meeting_id, Role.HOST)
    return Member(new_member_id(), address, join.name, host=host, media=join.media)


def _check_token(context: Context, text: str, meeting_id: str, role: Role) -> MeetingToken:
    token = read_token(context.link_secret, text, time.time())
    if token.role is not role or token.meeting_id != meeting_id:
        raise UnauthorizedError("this meeting token is not valid here")
    return token


async def _refuse(socket: WebSocket, error: FarmError) -> None:
    refusal = json.dumps({"type": "refused", "message": error.message})
    async with asyncio.timeout(_SEND_SECONDS):
        await socket.send_text(refusal)
        await socket.close(_REFUSED)


def _is_ours(socket: WebSocket, context: Context) -> bool:
    """Whether the page that opens the socket is the farm's own: any page may try, only its origin tells."""
    origin = urlsplit(socket.headers.get("origin", ""))
    known = {urlsplit(url).netloc for url in (context.settings.base_url, context.settings.local_url)}
    return bool(origin.netloc) and origin.netloc in {socket.headers.get("host", ""), *known}


def _address(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""


_BEAT: Final = '{"type":"beat"}'


async def _record(request: Request) -> Response:
    context = context_of(request)
    meeting_id = check_meeting_id(request.path_params["meeting_id"])
    token = _check_token(context, credentials_of(request.headers).key, meeting_id, Role.RECORDER)
    await _check_recording(context, token)
    return _Events(context.rooms, meeting_id, Member(new_member_id(), _address(request), recorder=True))


async def _check_recording(context: Context, token: MeetingToken) -> None:
    """Raises UnauthorizedError when a token's recording does not go on: the token may stand in a log."""
    with suppress(NotFoundError):
        recording = await read_recording(
            context.waiting_redis, token.organization_id, str(token.recording_id)
        )
        if recording.status in _RECORDS:
            return
    raise UnauthorizedError("the recording of this meeting token has ended")


class _Events(Response):
    """What a recorder is told; it is in the room for as long as this is sent."""

    def __init__(self, rooms: Rooms, meeting_id: str, member: Member) -> None:
        self._rooms = rooms
        self._meeting_id = meeting_id
        self._member = member

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rooms, secret = self._rooms, secrets.token_urlsafe(24)
        recorder = Recorder(rooms.enter(self._meeting_id, self._member), self._member)
        rooms.recorders[secret] = recorder
        stopping = anyio.Event()
        response = EventSourceResponse(
            _events(recorder, secret, stopping),
            send_timeout=_SEND_SECONDS,
            shutdown_event=stopping,
            shutdown_grace_period=_GOODBYE_SECONDS,
        )
        try:
            await response(scope, receive, send)
        finally:
            del rooms.recorders[secret]
            rooms.leave(self._meeting_id, self._member)


async def _events(recorder: Recorder, secret: str, stopping: anyio.Event) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(json.dumps({"type": "secret", "secret": secret}))
    while not stopping.is_set() and time.monotonic() - recorder.heard < SILENCE_SECONDS:
        text: str | None = _BEAT
        with suppress(TimeoutError):
            async with asyncio.timeout(BEAT_SECONDS):
                text = await recorder.member.outbox.get()
        if text is None:
            return
        yield ServerSentEvent(text)


async def _message(request: Request) -> Response:
    """A message of a recorder."""
    recorder = context_of(request).rooms.recorders.get(credentials_of(request.headers).key)
    if recorder is None:
        raise NotFoundError("no such recorder")
    text = await _body(request)
    _hear(recorder.room, recorder.member, text)
    recorder.heard = time.monotonic()
    return success({})


async def _body(request: Request) -> str:
    content = bytearray()
    try:
        async with asyncio.timeout(_JOIN_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > MAX_MESSAGE:
                    raise RequestTooLargeError(f"the message is larger than {MAX_MESSAGE} bytes")
        return content.decode()
    except (TimeoutError, UnicodeDecodeError):
        raise MalformedRequestError("the message timed out, or is not UTF-8") from None


meeting_signalling_routes: list[BaseRoute] = [
    WebSocketRoute(f"{MEETING_ROOMS_PATH}people/{{meeting_id:path}}", _people, name="meeting-people"),
    Route(f"{MEETING_ROOMS_PATH}recorder/{{meeting_id:path}}", _record, methods=["POST"]),
    Route(f"{MEETING_ROOMS_PATH}messages", _message, methods=["POST"]),
]
