"""`GET /events`: an organization's changes as Server-Sent Events."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Annotated, Final

import anyio
from pydantic import BaseModel, ConfigDict, Field
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from recording_farm.api.auth import is_still_admitted, organization_of
from recording_farm.api.context import Context, context_of
from recording_farm.api.operations import Operation
from recording_farm.api.routes.common import shown
from recording_farm.api.schema.requests import matching, read_headers, read_query
from recording_farm.farm.db.streams import EntryId
from recording_farm.farm.recording.feeds import Change
from recording_farm.farm.recording.model import Recording

_HEARTBEAT_SECONDS: Final = 15
"""Seconds between two comments, which keep proxies from closing an idle connection."""

_SEND_SECONDS: Final = 60.0
"""How long a client may stop reading before its stream ends."""

_GOODBYE_SECONDS: Final = 1.0
"""How long a stream may take to end when the server shuts down."""

_EVENT_ID: Final = "[0-9]{1,19}(-[0-9]{1,19})?"
"""A number of 19 digits is always less than 2^64, the limit of Redis."""

EventId = Annotated[
    str,
    matching(_EVENT_ID, "the id of an event, such as 1767171600000-0"),
    Field(json_schema_extra={"pattern": f"^{_EVENT_ID}$"}),
]

_LAST_EVENT: Final = "the id of the last event that was received; those after it follow"


class FollowQuery(BaseModel):
    """The query of GET /events."""

    model_config = ConfigDict(extra="forbid")

    last_event_id: EventId | None = Field(
        default=None, description=f"{_LAST_EVENT}; the header of this name takes precedence"
    )


class FollowHeaders(BaseModel):
    """The headers of GET /events."""

    last_event_id: EventId | None = Field(default=None, alias="Last-Event-ID", description=_LAST_EVENT)


async def _follow(request: Request) -> Response:
    query = read_query(request, FollowQuery)
    last = read_headers(request, FollowHeaders).last_event_id or query.last_event_id
    return _Events(request, EntryId.parse(last) if last else None)


class _Events(Response):
    """An event stream, subscribed to its feed while it is sent."""

    def __init__(self, request: Request, after: EntryId | None) -> None:
        self._request = request
        self._context = context_of(request)
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        render = partial(_text, self._context)
        async with self._context.feeds.feed(organization_of(self._request), render) as feed:
            stopping = anyio.Event()
            changes = feed.follow(self._after, stopping.wait)
            response = EventSourceResponse(
                _events(changes, partial(is_still_admitted, self._request)),
                ping=_HEARTBEAT_SECONDS,
                ping_message_factory=lambda: ServerSentEvent(comment=""),
                send_timeout=_SEND_SECONDS,
                shutdown_event=stopping,
                shutdown_grace_period=_GOODBYE_SECONDS,
            )
            await response(scope, receive, send)


async def _events(
    changes: AsyncIterator[Change], is_welcome: Callable[[], Awaitable[bool]]
) -> AsyncIterator[ServerSentEvent]:
    # Sent at once, so that the client and proxies see that the stream is open.
    yield ServerSentEvent(comment="")
    async for change in changes:
        if not await is_welcome():
            return
        yield _event(change)


def _event(change: Change) -> ServerSentEvent:
    if change.text is None:
        return ServerSentEvent(json.dumps({"last_event_id": str(change.id)}), event="farm.gap")
    return ServerSentEvent(change.text, event="recording.statusUpdate", id=str(change.id))


def _text(context: Context, recording: Recording) -> str:
    return shown(context, recording).model_dump_json(by_alias=True)


event_operations: Final = (
    Operation(
        "follow_events",
        "GET",
        "/events",
        _follow,
        "Follow all changes of recordings, as Server-Sent Events",
        "events",
        query=FollowQuery,
        headers=FollowHeaders,
        errors=(422,),
        media_types=("text/event-stream",),
    ),
)
