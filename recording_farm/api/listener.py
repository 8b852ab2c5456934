"""Accepts the API's connections: refuses one that is too many, and starts TLS.

asyncio's own servers call a protocol only after the handshake of TLS, so they do not limit connections that
never finish one.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from recording_farm.api.connections import Connection, Connections, Refusal, refusal_response
from recording_farm.api.http_protocol import HEADER_SECONDS, plain
from recording_farm.farm.host.tls_files import TlsFiles

logger = logging.getLogger(__name__)

UNREAD_SECONDS = 120
"""How long a client may leave sent data unacknowledged before its connection is closed."""

_UNSENT_BYTES: Final = 128 << 10
"""How much of a response the kernel takes before it can send it: so a client that reads slowly shows soon."""

_TCP_NOTSENT_LOWAT: Final = 25
"""linux/tcp.h; Python has no name for it."""

_BACKLOG: Final = 2048
_NO_FILES_SECONDS: Final = 1.0
"""Pause after an error of the system, such as too many open files."""


class Listener:
    """The listening sockets of the API; uvicorn uses it like an asyncio.Server."""

    def __init__(
        self,
        sockets: Iterable[socket.socket],
        connections: Connections,
        tls: TlsFiles | None,
        protocol: Callable[[Connection], asyncio.Protocol],
    ) -> None:
        """Accept connections at `sockets` and give each a `protocol`. It needs a running event loop."""
        self.sockets = tuple(sockets)
        self._connections = connections
        self._tls = tls
        self._protocol = protocol
        self._handshakes: set[asyncio.Task[None]] = set()
        self._accepting = [asyncio.create_task(self._accept(each), name="accept") for each in self.sockets]

    def close(self) -> None:
        """Accept no more connections; open ones stay."""
        for task in (*self._accepting, *self._handshakes):
            task.cancel()
        for listening in self.sockets:
            listening.close()

    async def wait_closed(self) -> None:
        """Return when no connection can come any more."""
        await asyncio.gather(*self._accepting, *self._handshakes, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(listening)
            except ConnectionError:
                continue
            except OSError as error:
                logger.error("cannot accept a connection: %s", error)
                await asyncio.sleep(_NO_FILES_SECONDS)
                continue
            connection = self._connections.enter(str(peer[0]))
            if isinstance(connection, Refusal):
                self._refuse(accepted, connection)
                continue
            opening = asyncio.create_task(self._open(accepted, connection))
            self._handshakes.add(opening)
            opening.add_done_callback(self._handshakes.discard)

    async def _open(self, accepted: socket.socket, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        is_open = False
        try:
            if self._tls is None:
                await loop.connect_accepted_socket(lambda: self._protocol(connection), accepted)
            else:
                await loop.connect_accepted_socket(
                    lambda: self._protocol(connection),
                    accepted,
                    ssl=self._tls.context,
                    ssl_handshake_timeout=HEADER_SECONDS,
                )
            is_open = True
        except OSError as error:
            logger.debug("a connection ended before it was open: %r", error)
        finally:
            if not is_open:
                self._connections.leave(connection)
                accepted.close()

    def _refuse(self, accepted: socket.socket, refusal: Refusal) -> None:
        with accepted, suppress(OSError):
            if self._tls is None:
                accepted.send(plain(refusal_response(refusal)))


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen at all addresses of `host`; accepted ones inherit their limits.

    Raises OSError.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    opened: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listening = socket.socket(family, kind, protocol)
            opened.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # Otherwise a client that stops reading keeps a file open here for ever; it also covers a zero
            # window.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNREAD_SECONDS)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(OSError):  # a kernel without it only takes longer to notice a slow client
                listening.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
            listening.bind(address)
            listening.listen(_BACKLOG)
            listening.setblocking(False)
    except OSError:
        for listening in opened:
            listening.close()
        raise
    return opened
