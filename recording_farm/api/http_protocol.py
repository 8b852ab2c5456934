"""The HTTP and WebSocket protocols of the API: uvicorn's, with limits on what a client sends and when.

HTTP is parsed by h11, which has a limit on everything that it buffers: request line and header, the header of
a chunk, trailers. httptools, which uvicorn prefers, joins a header without limit, and keeps any number of
pipelined requests.
"""

import asyncio
import re
import sys
from http import HTTPStatus
from typing import Any, Final

import h11
from starlette.responses import Response
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame

from recording_farm.api.connections import CONNECTION_STATE, Connection, Connections
from recording_farm.api.error_responses import error_response

MAX_HEADER: Final = 32 << 10
"""Bytes of a request line and header, as most servers and proxies have it."""

HEADER_SECONDS: Final = 10.0
"""Time for a client to send the header of a request, from its connection or the last response."""

BODY_SECONDS: Final = 30.0
"""Time for a client to send the body of a request; none is larger than 1 MiB."""

KEEP_ALIVE_SECONDS: Final = 5
"""How long a connection may be idle between two requests."""

MAX_PIECES: Final = 4096
"""Chunks or packets of a request body: tiny ones cost more than their bytes."""

MAX_FRAGMENTS: Final = 1024
"""Frames of a WebSocket message: empty ones do not count in its size."""

_BUFFERED_BYTES: Final = 64 << 10
"""Of a response; a client that leaves more of it unread is slow."""

_ABSOLUTE_FORM: Final = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)

_MALFORMED: Final = 400, "malformed_http", "the request is not valid HTTP"
_TOO_LARGE: Final = (
    431,
    "header_too_large",
    f"the header of the request is larger than {MAX_HEADER >> 10} KiB",
)
_LATE: Final = 408, "request_timeout", "the request did not arrive in time"


class _NotesUnread(asyncio.Protocol):
    """What HTTP and WebSockets share: the entry in `Connections` says since when the client does not read."""

    _connection: Connection
    loop: asyncio.AbstractEventLoop

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        super().pause_writing()
        self._connection.unread_since = self.loop.time()

    def resume_writing(self) -> None:
        """Note that the client reads."""
        super().resume_writing()
        self._connection.unread_since = None


class BoundedHttp(_NotesUnread, H11Protocol):
    """HTTP/1.1 with a limit on the header, and on the time for header and body."""

    def __init__(
        self,
        connections: Connections,
        connection: Connection,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        """`connection` is the entry in `connections`; the others are uvicorn's."""
        super().__init__(config, server_state, {**app_state, CONNECTION_STATE: connection})
        self.conn = _Parser()
        self._connections = connections
        self._connection = connection
        self._waiting_for: object = None
        self._since = 0.0
        self._heard = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to read requests."""
        transport.set_write_buffer_limits(_BUFFERED_BYTES)
        super().connection_made(transport)
        self._connection.transport = transport
        self._since = self.loop.time()
        self._connection.check = self._check

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self.transport is not None:  # else it is lost during the handshake of TLS
            super().connection_lost(exc)
        self._connections.leave(self._connection)

    def data_received(self, data: bytes) -> None:
        """Read a part of a request."""
        self._heard = True
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Start to wait for the next request."""
        self._waiting_for, self._since = None, self.loop.time()
        self._heard = False
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Answer a request that h11 rejects, and close the connection."""
        error = sys.exception()
        too_large = isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431
        self._refuse(*(_TOO_LARGE if too_large else _MALFORMED))

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over to the WebSocket protocol."""

        def web_socket(**arguments: Any) -> BoundedWebSocket:
            return BoundedWebSocket(self._connections, self._connection, **arguments)

        self.ws_protocol_class = web_socket  # type: ignore[assignment]
        super().handle_websocket_upgrade(event)

    def _check(self, now: float) -> None:
        """Close the connection of a client that is late with its request."""
        phase = self.conn.their_state
        if phase is not self._waiting_for:
            self._waiting_for, self._since = phase, now if phase is h11.SEND_BODY else self._since
        if phase is h11.IDLE:
            if now - self._since > HEADER_SECONDS:
                self._give_up()
        elif phase is h11.SEND_BODY and not self.flow.read_paused and now - self._since > BODY_SECONDS:
            self._give_up()

    def _give_up(self) -> None:
        # A connection that a browser opened in advance has sent nothing: it expects no answer.
        if self._heard:
            self._refuse(*_LATE)
        else:
            self.transport.close()

    def _refuse(self, status: int, kind: str, message: str) -> None:
        """Answer instead of the app, unless it has begun to answer, and close the connection."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            response = error_response(status, kind, message)
            self.transport.write(plain(response))
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


class _Parser(h11.Connection):
    """h11, with an exact limit on headers, and one on the pieces of a body."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MAX_HEADER)
        self._pieces = 0

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._pieces = 0
            # h11 applies its limit to what is incomplete.
            fields = sum(len(name) + len(value) + 4 for name, value in event.headers)
            if len(event.target) + fields > MAX_HEADER:
                raise h11.RemoteProtocolError("the header is too large", 431)
            return _in_origin_form(event)
        if isinstance(event, h11.Data):
            self._pieces += 1
            if self._pieces > MAX_PIECES:
                raise h11.RemoteProtocolError("the body has too many pieces", 400)
        return event


def _in_origin_form(event: h11.Request) -> h11.Request:
    """A request whose target is a path; a server must accept whole URLs too (RFC 9112, 3.2.2)."""
    match = _ABSOLUTE_FORM.match(event.target)
    if match is None:
        return event
    path = event.target[match.end() :]
    return h11.Request(
        method=event.method,
        target=path if path.startswith(b"/") else b"/" + path,
        headers=event.headers,
        http_version=event.http_version,
    )


class BoundedWebSocket(_NotesUnread, WebSocketsSansIOProtocol):
    """A WebSocket with limits on the fragments of a message and on the pongs that a client leaves unread."""

    def __init__(self, connections: Connections, connection: Connection, **arguments: Any) -> None:
        """`connection` is the entry in `connections`; the others are uvicorn's."""
        super().__init__(**arguments)
        self._connections = connections
        self._connection = connection
        connection.check = lambda _now: None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._connections.leave(self._connection)

    def handle_cont(self, event: Frame) -> None:
        """Add a fragment to a message."""
        if len(self.frames) < MAX_FRAGMENTS:
            super().handle_cont(event)
        elif not self.close_sent:
            self.frames = []
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
            self.handle_parser_exception()

    def handle_ping(self) -> None:
        """Send the pong, unless the client leaves earlier ones unread."""
        if self._connection.unread_since is None:
            super().handle_ping()
        else:
            self.conn.data_to_send()


def plain(response: Response) -> bytes:
    """A response as bytes of HTTP/1.1, for a connection that closes after it."""
    status = HTTPStatus(response.status_code)
    lines = [f"HTTP/1.1 {status} {status.phrase}".encode()]
    lines += [name + b": " + value for name, value in response.raw_headers]
    return b"\r\n".join([*lines, b"connection: close", b"", bytes(response.body)])
