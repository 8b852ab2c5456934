"""The built-in meeting on a port of its own, for suites that picture it: no farm need run."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette

from recording_farm.api.meeting.page import meeting_routes
from recording_farm.farm.config.settings import MEETING_PATH


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def served_meetings() -> AsyncIterator[str]:
    """Serve the meeting's pages at a free port of the loopback; yields the address that an id follows."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = _Server(uvicorn.Config(Starlette(routes=meeting_routes), log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}{MEETING_PATH}"
        finally:
            server.should_exit = True
            await serving
