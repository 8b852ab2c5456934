"""Limits on connections to a node's HTTP server."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from wsgiref.simple_server import make_server

import httpx
import pytest

from recording_farm.farm.worker import node_server


def answer(_environ: dict[str, Any], start: Any) -> list[bytes]:
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(node_server, "_REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(node_server, "_MAX_CONNECTIONS", 4)
    with make_server("127.0.0.1", 0, answer, node_server._Server, node_server._Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            serving.join(10)


def test_header_that_drips_should_end_in_time(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        began = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - began < 10 and client.send(b"G"):
                time.sleep(0.1)
        assert time.monotonic() - began < 5


def test_further_connections_should_be_closed_and_accepted_again(port: int) -> None:
    opened = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.settimeout(10)
        with suppress(ConnectionError):
            assert client.recv(1) == b""
    for client in opened:
        client.close()
    deadline = time.monotonic() + 10
    while True:
        with suppress(httpx.TransportError):
            assert httpx.get(f"http://127.0.0.1:{port}/healthz").text == "ok"
            return
        assert time.monotonic() < deadline
