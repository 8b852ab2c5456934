"""The server process of the API."""

import gc
import socket
import sys

import uvicorn

from recording_farm.api.app import create_app
from recording_farm.api.meeting.messages import MAX_MESSAGE
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.faults import refuse_eviction
from recording_farm.farm.host.startup import require_free_port, require_writable_directory

SHUTDOWN_SECONDS = 5
"""How long a shutdown waits for open connections."""

UNREAD_SECONDS = 120
"""How long a client may leave sent data unacknowledged before its connection is closed."""


def serve(settings: Settings) -> None:
    """Serve the API until SIGTERM or SIGINT.

    Raises SettingsError for an invalid setting or a port in use, RedisEvictsError when Redis may evict
    records.
    """
    require_writable_directory(settings.data_dir, "FARM_DATA_DIR")
    require_free_port("FARM", settings.host, settings.port)
    refuse_eviction(settings.redis_address)
    server_of(settings).run()


def server_of(settings: Settings) -> uvicorn.Server:
    """Create the server without running it. Raises SettingsError for an invalid setting."""
    return _Server(configuration(settings), settings.base_url)


def configuration(settings: Settings) -> uvicorn.Config:
    """The server's configuration. Raises SettingsError for an invalid setting."""
    return uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,  # use the farm's logging
        log_level="warning",
        access_log=False,
        server_header=False,
        ws_max_size=4 * MAX_MESSAGE,  # bytes; a character has four at most
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        # Otherwise uvicorn trusts all programs on this machine.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
    )


class _Server(uvicorn.Server):
    """A server that prints its URL once it is ready."""

    def __init__(self, configuration: uvicorn.Config, url: str) -> None:
        super().__init__(configuration)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            for listening in server.sockets:
                # Otherwise a client that stops reading keeps a file open here for ever. Connections inherit
                # the option from the listening socket; it also covers a zero window.
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNREAD_SECONDS)
        # These objects live until the end; scanning them for garbage takes tens of milliseconds.
        gc.collect()
        gc.freeze()
        if self.started:
            print(f"the API is at {self._url}", file=sys.stderr, flush=True)
