"""Which connections the API accepts, and how long a client may keep one waiting.

An entry in `Connections` exists from the moment a connection is accepted until its socket is closed. A sweep
each second closes connections whose clients do not read, or do not finish their request. A client is an IPv4
address or the /64 of an IPv6 address. A trusted proxy is no client: its connections belong to many clients,
so `ClientRequests` counts their concurrent requests instead.
"""

import asyncio
import logging
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address, ip_network
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from recording_farm.api.error_responses import error_response
from recording_farm.api.services.rate_limit import network_of

logger = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 1.0

UNREAD_SECONDS: Final = 30.0
"""A client that reads less than about 100 KiB of a response in this time is disconnected."""

CLOSING_SECONDS: Final = 30.0
"""Time for a client to read the rest of a response after which the connection closes."""

MAX_CONNECTIONS: Final = 10_000
_OTHER_FILES: Final = 256
"""File descriptors for everything but connections and downloads."""

CONNECTION_STATE: Final = "connection"
"""Name of the Connection in the state of an ASGI scope."""

_RETRY_SECONDS: Final = 5
"""The Retry-After of a refused connection."""


class Refusal(Enum):
    """Why a connection or request is refused: the HTTP status, the error's type and its message."""

    CLIENT = 429, "too_many_connections", "this address has too many connections; close some"
    ALL = 503, "too_many_connections", "the farm has too many connections; try again later"


def connections_allowed() -> int:
    """How many connections this process can hold; raises its limit of open files as far as it may.

    Each connection may also read a file, so it counts twice.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS + _OTHER_FILES
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max((soft - _OTHER_FILES) // 2, 16))


@dataclass(eq=False)
class Connection:
    """One open connection. The protocol that reads it sets `check`, which may close a slow one."""

    address: str
    client: str | None
    """None for a trusted proxy."""
    transport: asyncio.Transport | None = None
    """None during the handshake of TLS, which has a time-out of its own."""

    check: Callable[[float], None] = field(default=lambda _now: None)
    unread_since: float | None = None
    """Since when the transport has had more to send than it buffers."""

    _closing_since: float | None = None

    def sweep(self, now: float) -> None:
        """Abort the connection of a client that does not read; let `check` judge a client that sends."""
        if self.transport is None:
            return
        if self.transport.is_closing():
            self._closing_since = self._closing_since or now
            if now - self._closing_since > CLOSING_SECONDS:
                self.transport.abort()
        elif self.unread_since is not None:
            if now - self.unread_since > UNREAD_SECONDS:
                logger.info("closed the connection of a client that does not read")
                self.transport.abort()
        else:
            self.check(now)


class Connections:
    """All open connections of the API."""

    def __init__(self, most: int, most_of_client: int, trusted_proxies: str) -> None:
        """Allow `most` in all, and `most_of_client` of each client; 0 for no limit of the latter."""
        self._most = most
        self._most_of_client = most_of_client
        self._proxies = tuple(ip_network(part.strip()) for part in trusted_proxies.split(",") if part.strip())
        self._open: set[Connection] = set()
        self._of_clients: Counter[str] = Counter()
        self._requests: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def enter(self, address: str) -> Connection | Refusal:
        """Count a new connection from `address`, unless it is one too many."""
        client = None if self._is_proxy(address) else network_of(address)
        if len(self._open) >= self._most:
            return Refusal.ALL
        if client is not None and self._is_full(self._of_clients[client]):
            return Refusal.CLIENT
        connection = Connection(address, client)
        self._open.add(connection)
        if client is not None:
            self._of_clients[client] += 1
        return connection

    def leave(self, connection: Connection) -> None:
        """Forget a connection whose socket is closed; no error if it is forgotten already."""
        if connection in self._open:
            self._open.discard(connection)
            if connection.client is not None:
                _subtract(self._of_clients, connection.client)

    @contextmanager
    def request_of(self, address: str) -> Iterator[bool]:
        """Count a request that a trusted proxy forwards for `address`; yields whether it is one too many."""
        client = network_of(address)
        refused = self._is_full(self._requests[client])
        self._requests[client] += 1
        try:
            yield refused
        finally:
            _subtract(self._requests, client)

    def sweep(self, now: float) -> None:
        """Close the connections of clients that are too slow."""
        for connection in tuple(self._open):
            connection.sweep(now)

    async def keep_swept(self) -> None:
        """Sweep until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep(loop.time())

    def _is_full(self, count: int) -> bool:
        return 0 < self._most_of_client <= count

    def _is_proxy(self, address: str) -> bool:
        try:
            ip = ip_address(address)
        except ValueError:
            return False
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return any(ip in network for network in self._proxies)


class ClientRequests:
    """An ASGI middleware: limits concurrent requests of each client behind a trusted proxy."""

    def __init__(self, app: ASGIApp, connections: Connections) -> None:
        """Limit the requests to `app`; `connections` counts them."""
        self._app = app
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        client = _forwarded_client(scope)
        if client is None:
            await self._app(scope, receive, send)
            return
        with self._connections.request_of(client) as is_refused:
            if not is_refused:
                await self._app(scope, receive, send)
            elif scope["type"] == "http":
                await refusal_response(Refusal.CLIENT)(scope, receive, send)
            else:
                await receive()
                await send({"type": "websocket.close"})


def _forwarded_client(scope: Scope) -> str | None:
    """The client's address in a request that a trusted proxy forwards."""
    connection = (scope.get("state") or {}).get(CONNECTION_STATE)
    if connection is None or connection.client is not None or not scope.get("client"):
        return None
    address = str(scope["client"][0])
    return address if address != connection.address else None


def refusal_response(refusal: Refusal) -> Response:
    """The response to a refused request."""
    status, kind, message = refusal.value
    return error_response(status, kind, message, {"Retry-After": str(_RETRY_SECONDS)})


def _subtract(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]
