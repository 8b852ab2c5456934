"""Serves the built-in meeting at a free port, for suites that picture it without a farm."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette

from recording_farm.api.meeting.page import is_demo, meeting_routes
from recording_farm.farm.config.settings import MEETING_PATH


def prints_start(page: str) -> bool:
    """Whether a page of the built-in meeting prints START_RECORDING; `page` is the address after `/meet/`.

    The demo and the drawn states do. The lobby, where people join, does not.
    """
    meeting_id, _, query = page.partition("#")[0].partition("?")
    return is_demo(meeting_id, query) or re.search(r"(?:^|&)state(?:=|&|$)", query) is not None


class _Server(uvicorn.Server):
    """A server that installs no signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def served_meetings() -> AsyncIterator[str]:
    """Serve the meeting's pages at a free loopback port; yields their address without the meeting's id."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = Starlette(routes=meeting_routes)
        # h11 limits the size of a request's header.
        server = _Server(uvicorn.Config(app, http="h11", log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}{MEETING_PATH}"
        finally:
            server.should_exit = True
            await serving
