import asyncio
import socket
import threading
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from recording_farm.api import listener, server
from recording_farm.farm.config.settings import Settings
from testkit.network.ports import free_port, wait_for_port


def test_client_that_reads_no_further_should_be_sent_nothing_more(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    async def without_end() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1 << 16)
                await asyncio.sleep(0)  # what reads a file waits, too: then the end can be heard
        finally:
            ended.set()

    async def answer(_request: Request) -> StreamingResponse:
        return StreamingResponse(without_end())

    monkeypatch.setattr(listener, "UNREAD_SECONDS", 1)
    monkeypatch.setattr(server, "create_app", lambda _settings: Starlette(routes=[Route("/", answer)]))
    settings = settings.model_copy(update={"port": free_port()})
    api = server.server_of(settings)
    thread = threading.Thread(target=api.run, daemon=True)
    thread.start()
    try:
        wait_for_port(settings.port)
        with socket.create_connection(("127.0.0.1", settings.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: farm\r\n\r\n")
            assert client.recv(15) == b"HTTP/1.1 200 OK"
            assert ended.wait(30)
    finally:
        api.should_exit = True
        thread.join(10)
