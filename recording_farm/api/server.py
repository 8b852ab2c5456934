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
"""Clients that hang on to a connection do not hold up a shutdown longer than this."""

UNREAD_SECONDS = 120
"""How long a client may take nothing of what is sent to it, before its connection is ended."""


def serve(settings: Settings) -> None:
    """Serve the API until SIGTERM or SIGINT.

    Raises SettingsError when a setting cannot be used or the port is taken, RedisEvictsError when Redis would
    delete records.
    """
    require_writable_directory(settings.data_dir, "FARM_DATA_DIR")
    require_free_port("FARM", settings.host, settings.port)
    refuse_eviction(settings.redis_address)
    server_of(settings).run()


def server_of(settings: Settings) -> uvicorn.Server:
    """The server, which does not run yet. Raises SettingsError when a setting cannot be used."""
    return _Server(configuration(settings), settings.base_url)


def configuration(settings: Settings) -> uvicorn.Config:
    """How the server is to run. Raises SettingsError when a setting cannot be used."""
    return uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,  # its lines go the way of all others
        log_level="warning",
        access_log=False,
        server_header=False,
        ws_max_size=4 * MAX_MESSAGE,  # bytes; a character has four at most
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        # Else uvicorn believes every program on this machine.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
    )


class _Server(uvicorn.Server):
    """A server that says where it is once it is there."""

    def __init__(self, configuration: uvicorn.Config, url: str) -> None:
        super().__init__(configuration)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            for listening in server.sockets:
                # Else a client that reads no further keeps a file open here for as long as it likes. Each
                # connection has this from the socket it came by, and it counts for a closed window too.
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNREAD_SECONDS)
        # What is there now stays until the end; looking through it for garbage takes tens of milliseconds.
        gc.collect()
        gc.freeze()
        if self.started:
            print(f"the API is at {self._url}", file=sys.stderr, flush=True)
