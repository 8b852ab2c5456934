"""The server process of the API."""

import asyncio
import gc
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import Final

import uvicorn

from recording_farm.api.app import create_app
from recording_farm.api.connections import ClientRequests, Connections, connections_allowed
from recording_farm.api.http_protocol import KEEP_ALIVE_SECONDS, Entrance
from recording_farm.api.meeting.messages import MAX_MESSAGE
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.faults import refuse_eviction
from recording_farm.farm.host.startup import require_free_port, require_writable_directory

SHUTDOWN_SECONDS = 5
"""How long a shutdown waits for open connections."""

UNREAD_SECONDS = 120
"""How long a client may leave sent data unacknowledged before its connection is closed."""

_UNSENT_BYTES: Final = 128 << 10
"""How much of a response the kernel takes before it can send it: so a client that reads slowly shows soon."""

_TCP_NOTSENT_LOWAT: Final = 25
"""linux/tcp.h; Python has no name for it."""


def serve(settings: Settings) -> None:
    """Serve the API until SIGTERM or SIGINT.

    Raises SettingsError for an invalid setting or a port in use, RedisEvictsError when Redis may evict
    records.
    """
    require_writable_directory(settings.data_dir, "FARM_DATA_DIR")
    require_free_port("FARM", settings.host, settings.port)
    refuse_eviction(settings.redis_address)
    server_of(settings).run()


def server_of(settings: Settings) -> "ApiServer":
    """Create the server without running it. Raises SettingsError for an invalid setting."""
    connections = Connections(
        connections_allowed(), settings.connections_per_address, settings.trusted_proxies
    )
    return ApiServer(configuration(settings, connections), connections, settings.base_url)


def configuration(settings: Settings, connections: Connections) -> uvicorn.Config:
    """The server's configuration. Raises SettingsError for an invalid setting."""
    return uvicorn.Config(
        ClientRequests(create_app(settings), connections),
        http=partial(Entrance, connections, None),  # type: ignore[arg-type]  # uvicorn only calls it
        host=settings.host,
        port=settings.port,
        log_config=None,  # use the farm's logging
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ws_max_size=4 * MAX_MESSAGE,  # bytes; a character has four at most
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        # Otherwise uvicorn trusts all programs on this machine.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
    )


class ApiServer(uvicorn.Server):
    """A server that prints its URL once it is ready, and closes connections of slow clients."""

    def __init__(self, configuration: uvicorn.Config, connections: Connections, url: str) -> None:
        """`connections` are those of the protocol in `configuration`; `url` is printed."""
        super().__init__(configuration)
        self.connections = connections
        self._url = url
        self._sweeping: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and start to sweep."""
        await super().startup(sockets)
        for server in self.servers:
            for listening in server.sockets:
                # Otherwise a client that stops reading keeps a file open here for ever. Connections inherit
                # the option from the listening socket; it also covers a zero window.
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNREAD_SECONDS)
                with suppress(OSError):  # a kernel without it only takes longer to notice a slow client
                    listening.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self._sweeping = asyncio.create_task(self.connections.keep_swept(), name="sweep connections")
        # These objects live until the end; scanning them for garbage takes tens of milliseconds.
        gc.collect()
        gc.freeze()
        if self.started:
            print(f"the API is at {self._url}", file=sys.stderr, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close all connections."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await super().shutdown(sockets)
