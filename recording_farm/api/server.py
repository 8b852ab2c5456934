"""The server process of the API."""

import asyncio
import gc
import logging
import socket
import sys

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from recording_farm.api.app import create_app
from recording_farm.api.connections import ClientRequests, Connection, Connections, connections_allowed
from recording_farm.api.http_protocol import KEEP_ALIVE_SECONDS, BoundedHttp
from recording_farm.api.listener import Listener, listen
from recording_farm.api.meeting.messages import MAX_MESSAGE
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.faults import refuse_eviction
from recording_farm.farm.host.startup import require_free_port, require_writable_directory
from recording_farm.farm.host.tls_files import CHECK_SECONDS, TlsFiles, open_tls_files

logger = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 5
"""How long a shutdown waits for open connections."""


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
    tls = open_tls_files(settings.tls_certificate, settings.tls_key)
    return ApiServer(configuration(settings, connections), connections, tls, settings.base_url)


def configuration(settings: Settings, connections: Connections) -> uvicorn.Config:
    """The server's configuration. Raises SettingsError for an invalid setting."""
    return uvicorn.Config(
        ClientRequests(create_app(settings), connections),
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

    def __init__(
        self, configuration: uvicorn.Config, connections: Connections, tls: TlsFiles | None, url: str
    ) -> None:
        """Serve plain HTTP without `tls`; `url` is printed."""
        super().__init__(configuration)
        self.connections = connections
        self._tls = tls
        self._url = url
        self._watches: tuple[asyncio.Task[None], ...] = ()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and start to sweep."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        try:
            listening = sockets or listen(self.config.host, self.config.port)
        except OSError as error:
            logger.error("cannot listen: %s", error)
            await self.lifespan.shutdown()
            sys.exit(STARTUP_FAILURE)
        self.servers = [Listener(listening, self.connections, self._tls, self._protocol)]  # type: ignore[list-item]
        self.started = True
        self._watches = (
            asyncio.create_task(self.connections.keep_swept(), name="sweep connections"),
            asyncio.create_task(_watch_tls(self._tls), name="watch TLS"),
        )
        # These objects live until the end; scanning them for garbage takes tens of milliseconds.
        gc.collect()
        gc.freeze()
        print(f"the API is at {self._url}", file=sys.stderr, flush=True)

    def _protocol(self, connection: Connection) -> BoundedHttp:
        return BoundedHttp(self.connections, connection, self.config, self.server_state, self.lifespan.state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close all connections."""
        for watch in self._watches:
            watch.cancel()
        await super().shutdown(sockets)


async def _watch_tls(tls: TlsFiles | None) -> None:
    while tls is not None:
        await asyncio.sleep(CHECK_SECONDS)
        await asyncio.to_thread(tls.reload)
