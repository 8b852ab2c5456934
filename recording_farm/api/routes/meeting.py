"""Signalling of the built-in meeting: the connections between browsers and rooms.

People use a WebSocket, `/meet-rooms/people/{meeting_id}`. The recorder's browser cannot open one: its only
way out is the gateway, which cannot inspect the tunnel of a WebSocket and therefore refuses one to the farm's
own address. It receives the same messages as the response to a POST (Server-Sent Events),
`/meet-rooms/recorder/{meeting_id}`, and sends its own with `/meet-rooms/messages`.

Anyone who knows a meeting's id may join. Listening unseen requires a recorder's token.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

import anyio
import redis
from pydantic import JsonValue, ValidationError
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
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
from recording_farm.api.meeting.messages import MAX_MESSAGE, Join, RecorderJoin, parse_message
from recording_farm.api.meeting.rooms import Member, Recorder, Room, Rooms, new_member_id
from recording_farm.api.meeting.tokens import MeetingToken, Role, read_member, read_token, sign_member
from recording_farm.api.schema.requests import check_meeting_id
from recording_farm.api.schema.responses import success
from recording_farm.browser_bot.waiting import first_of
from recording_farm.farm.config.settings import MEETING_ROOMS_PATH
from recording_farm.farm.errors import FarmError, NotFoundError
from recording_farm.farm.recording.model import Status
from recording_farm.farm.recording.records import read_recording

BEAT_SECONDS: Final = 3.0
"""Interval of the server's heartbeats; members answer each."""

SILENCE_SECONDS: Final = 10.0
"""A connection without a message for so long is broken: the browser was killed, or the network failed."""

_WATCH_SECONDS: Final = 1.0
"""Interval at which rooms are compared with the states of their recordings."""

_LEFT: Final = frozenset({1000, 1001})
"""Codes of a WebSocket that a person closed, by leaving or by closing the tab (RFC 6455, 7.4.1)."""

_JOIN_SECONDS: Final = 10.0
_SEND_SECONDS: Final = 10.0
_GOODBYE_SECONDS: Final = 1.0
"""Time in which a recorder's stream must end when the server shuts down."""

_RECORDS: Final = frozenset({Status.INVOKED, Status.RECORDING, Status.PAUSED})
"""States in which a recording may open its page."""

_NOT_UNDERSTOOD: Final = "the meeting cannot read this message from your browser"

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
            room = context.rooms.enter(meeting_id, member, _resume_token(context, meeting_id, member))
        except FarmError as error:
            return await _refuse(socket, error)
        except TimeoutError:
            return await socket.close(_REFUSED)
        may_return = True
        try:
            may_return = await _converse(socket, room, member)
        finally:
            if may_return:
                context.rooms.lose(meeting_id, member, time.monotonic())
            else:
                context.rooms.leave(meeting_id, member)


async def _converse(socket: WebSocket, room: Room, member: Member) -> bool:
    """Pass messages in both directions until either ends. Returns whether the member may reconnect."""
    try:
        await first_of(sent=_send(socket, member), received=_receive(socket, room, member))
    except MeetingRefusedError as refused:
        with suppress(WebSocketDisconnect, TimeoutError):
            await _refuse(socket, refused)
        return False
    except WebSocketDisconnect as closed:
        return closed.code not in _LEFT
    except TimeoutError:
        return True
    with suppress(WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(_SEND_SECONDS):
            await socket.close(_REFUSED)
    return False


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
        raise MeetingRefusedError(_NOT_UNDERSTOOD) from None
    room.hear(member, message)


async def _text(socket: WebSocket) -> str:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"])
    text = message.get("text")
    if not isinstance(text, str) or len(text) > MAX_MESSAGE:
        raise MeetingRefusedError(_NOT_UNDERSTOOD)
    return text


def _member(text: str, context: Context, meeting_id: str, address: str) -> Member:
    try:
        join = Join.model_validate_json(text)
    except ValidationError:
        raise MeetingRefusedError("enter a name of 1 to 40 visible characters") from None
    host = join.token is not None
    if join.token is not None:
        _check_token(context, join.token, meeting_id, Role.HOST)
    member_id = _member_id(context, meeting_id, join.resume)
    return Member(member_id, address, join.name, host=host, media=join.media)


def _member_id(context: Context, meeting_id: str, resume: str | None) -> str:
    """The id of a member that reconnects, or a new one."""
    known = read_member(context.link_secret, meeting_id, resume) if resume is not None else None
    return known or new_member_id()


def _resume_token(context: Context, meeting_id: str, member: Member) -> str:
    return sign_member(context.link_secret, meeting_id, member.id)


def _check_token(context: Context, text: str, meeting_id: str, role: Role) -> MeetingToken:
    token = read_token(context.link_secret, text, time.time())
    if token.role is not role or token.meeting_id != meeting_id:
        raise UnauthorizedError("this meeting token is not valid here")
    return token


async def _refuse(socket: WebSocket, error: FarmError) -> None:
    refusal = json.dumps({"type": "refused", "code": error.code, "message": error.message})
    async with asyncio.timeout(_SEND_SECONDS):
        await socket.send_text(refusal)
        await socket.close(_REFUSED)


def _is_ours(socket: WebSocket, context: Context) -> bool:
    """Whether a page of the farm opens the socket. Any page may try, so its origin decides."""
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
    if token.recording_id is None:
        raise UnauthorizedError("this meeting token is not valid")
    try:
        join = RecorderJoin.model_validate_json(await _body(request) or b"{}")
    except ValidationError:
        raise MalformedRequestError("the body must be a JSON object with resume, or empty") from None
    recording = token.organization_id, token.recording_id
    status = await _status(context, recording)
    if status not in _RECORDS:
        # The token may have been copied from a log.
        raise UnauthorizedError("the recording of this meeting token has ended")
    member_id = _member_id(context, meeting_id, join.resume)
    paused = status is Status.PAUSED
    member = Member(member_id, _address(request), recording=recording, paused=paused)
    return _Events(context.rooms, meeting_id, member, _resume_token(context, meeting_id, member))


async def _status(context: Context, recording: tuple[str, UUID]) -> Status | None:
    """The status of a recording; None when it was deleted."""
    with suppress(NotFoundError):
        organization_id, recording_id = recording
        return (await read_recording(context.waiting_redis, organization_id, str(recording_id))).status
    return None


async def watch_rooms(context: Context) -> None:
    """Keep rooms up to date: grace periods that end, and recordings that pause or end."""
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        context.rooms.expire(time.monotonic())
        # Without Redis nothing is known to have changed.
        with suppress(redis.RedisError, FarmError, ValidationError):
            for meeting_id, room, member in context.rooms.connections:
                if member.recording is not None:
                    status = await _status(context, member.recording)
                    room.pause(member, status is Status.PAUSED)
                    if member.away_since is not None and status not in _RECORDS:
                        context.rooms.leave(meeting_id, member)


class _Events(Response):
    """A recorder's event stream; the recorder is connected while it is sent."""

    def __init__(self, rooms: Rooms, meeting_id: str, member: Member, resume: str) -> None:
        self._rooms = rooms
        self._meeting_id = meeting_id
        self._member = member
        self._resume = resume

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rooms, member, secret = self._rooms, self._member, secrets.token_urlsafe(24)
        recorder = Recorder(rooms.enter(self._meeting_id, member, self._resume), member)
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
            if member.outbox.ended:
                rooms.leave(self._meeting_id, member)
            else:
                rooms.lose(self._meeting_id, member, time.monotonic())


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
    """Receive a message of a recorder."""
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


async def _active_recording(request: Request) -> Response:
    """Return the running recording of a host's meeting, or null: a host's page asks every few seconds."""
    context = context_of(request)
    meeting_id = check_meeting_id(request.path_params["meeting_id"])
    token = _check_token(context, credentials_of(request.headers).key, meeting_id, Role.HOST)
    try:
        recording = await run_in_threadpool(context.records.active, token.organization_id, meeting_id)
    except NotFoundError:
        return success({"recording": None})
    started = recording.started_time
    shown: dict[str, JsonValue] = {
        "id": str(recording.id),
        "status": recording.status,
        "started_time": started.isoformat() if started else None,
    }
    return success({"recording": shown})


meeting_signalling_routes: list[BaseRoute] = [
    WebSocketRoute(f"{MEETING_ROOMS_PATH}people/{{meeting_id:path}}", _people, name="meeting-people"),
    Route(f"{MEETING_ROOMS_PATH}recorder/{{meeting_id:path}}", _record, methods=["POST"]),
    Route(f"{MEETING_ROOMS_PATH}messages", _message, methods=["POST"]),
    Route(f"{MEETING_ROOMS_PATH}active-recording/{{meeting_id:path}}", _active_recording, methods=["GET"]),
]
