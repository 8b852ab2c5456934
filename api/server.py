"""The server process of the API."""

import uvicorn

from api.app import create_app
from farm.settings import Settings

# Clients that hang on to a connection do not hold up a shutdown longer than this.
SHUTDOWN_SECONDS = 5


def serve(settings: Settings) -> None:
    """Serve the API until SIGTERM or SIGINT. Raises SettingsError when a setting cannot be used."""
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
