"""Limits on connections, against the API's own server, by clients that misbehave on a socket."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import psutil
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.sync.client import connect

from recording_farm.api import connections, http_protocol, server
from recording_farm.farm.config.settings import Settings
from testkit.network.ports import free_port, wait_for_port

HEADER = b"POST /body HTTP/1.1\r\nHost: farm\r\n"


async def body(request: Request) -> Response:
    return JSONResponse({"bytes": len(await request.body())})


async def endless(_request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 16)
            await asyncio.sleep(0)

    return StreamingResponse(pieces())


async def wait(request: Request) -> Response:
    await request.app.state.go_on.wait()
    return Response()


async def echo(web_socket: WebSocket) -> None:
    await web_socket.accept()
    with suppress(WebSocketDisconnect):
        while True:
            await web_socket.send_text(str(len(await web_socket.receive_text())))


class Served:
    """The API's server around an app of this file."""

    def __init__(self, port: int, open_connections: Callable[[], int], app: Starlette) -> None:
        self.port, self.open_connections, self.app = port, open_connections, app

    @contextmanager
    def client(self, data: bytes = b"") -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
            client.sendall(data)
            yield client

    def wait_for_connections(self, count: int) -> None:
        deadline = time.monotonic() + 15
        while self.open_connections() != count:
            assert time.monotonic() < deadline, self.open_connections()
            time.sleep(0.02)


@pytest.fixture
def served(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(http_protocol, "HEADER_SECONDS", 0.3)
    monkeypatch.setattr(http_protocol, "BODY_SECONDS", 0.5)
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.5)
    monkeypatch.setattr(connections, "CLOSING_SECONDS", 0.5)
    monkeypatch.setattr(connections, "SWEEP_SECONDS", 0.05)
    routes = [
        Route("/body", body, methods=["POST"]),
        Route("/endless", endless),
        Route("/wait", wait),
        WebSocketRoute("/echo", echo),
    ]
    app = Starlette(routes=routes)
    app.state.go_on = asyncio.Event()
    monkeypatch.setattr(server, "create_app", lambda _settings: app)
    changes = {"port": free_port(), "connections_per_address": 20, "trusted_proxies": "127.0.0.2"}
    settings = settings.model_copy(update=changes)
    api = server.server_of(settings)
    thread = threading.Thread(target=api.run, daemon=True)
    thread.start()
    wait_for_port(settings.port)
    found = Served(settings.port, lambda: len(api.connections), app)
    found.wait_for_connections(0)
    yield found
    api.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def everything(client: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    received = bytearray()
    with suppress(ConnectionError):
        while data := client.recv(1 << 16):
            received += data
    return bytes(received)


def send_until_closed(client: socket.socket, data: bytes, most: int) -> int:
    """Send `data` again and again; returns how many bytes the server took."""
    sent = 0
    with suppress(ConnectionError):
        while sent < most:
            client.sendall(data)
            sent += len(data)
    return sent


def test_endless_header_should_be_refused_before_it_takes_memory(served: Served) -> None:
    before = psutil.Process().memory_info().rss
    with served.client(b"GET / HTTP/1.1\r\nX: ") as client:
        assert send_until_closed(client, b"a" * 65536, 64 << 20) < 16 << 20
        assert everything(client).startswith(b"HTTP/1.1 431 ")
    assert psutil.Process().memory_info().rss - before < 20 << 20


@pytest.mark.parametrize(
    "header",
    [
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: farm\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: farm\r\n" + b"X: y\r\n" * 8_000 + b"\r\n",
        HEADER + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 200_000,
        HEADER + b"Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: " + b"x" * 200_000,
    ],
    ids=["target", "fields", "chunk extension", "trailer"],
)
def test_large_header_should_be_refused_wherever_it_stands(served: Served, header: bytes) -> None:
    with served.client() as client:
        with suppress(ConnectionError):
            client.sendall(header)
        assert everything(client).startswith(b"HTTP/1.1 431 ")


def test_header_of_a_browser_with_many_cookies_should_be_read(served: Served) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{served.port}") as client:
        response = client.post("/body", content=b"x" * 100_000, headers={"Cookie": "x" * 16_000})
    assert response.json() == {"bytes": 100_000}


@pytest.mark.parametrize("target", [b"/body", b"http://farm/body", b"HTTP://farm:8000/body?x=/y"])
def test_target_may_be_a_whole_url(served: Served, target: bytes) -> None:
    header = b"POST " + target + b" HTTP/1.1\r\nHost: farm\r\nContent-Length: 0\r\n\r\n"
    with served.client(header) as client:
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


def test_half_a_header_should_time_out(served: Served) -> None:
    with served.client(b"GET / HTTP/1.1\r\nHost:") as client:
        answer = everything(client)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"type":"request_timeout"' in answer
    served.wait_for_connections(0)


def test_header_that_drips_should_time_out_on_a_kept_connection_too(served: Served) -> None:
    with served.client(HEADER + b"Content-Length: 0\r\n\r\n") as client:
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        began = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - began < 10 and client.send(b"G" if began else b""):
                time.sleep(0.1)
        assert time.monotonic() - began < 5


def test_connection_without_a_request_should_be_closed_silently(served: Served) -> None:
    with served.client() as client:
        assert everything(client) == b""


def test_slow_body_should_time_out(served: Served) -> None:
    with served.client(HEADER + b"Content-Length: 1000\r\n\r\n") as client:
        began = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - began < 10:
                client.sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() - began < 5
    served.wait_for_connections(0)
    with served.client(HEADER + b"Content-Length: 1000\r\n\r\nx") as client:
        assert everything(client).startswith(b"HTTP/1.1 408 ")


def test_body_in_tiny_chunks_should_be_refused(served: Served) -> None:
    with served.client(HEADER + b"Transfer-Encoding: chunked\r\n\r\n") as client:
        send_until_closed(client, b"1\r\nx\r\n" * 10_000, 1 << 20)
        assert everything(client).startswith(b"HTTP/1.1 400 ")


def test_request_that_the_app_works_on_should_not_time_out(served: Served) -> None:
    with served.client(b"GET /wait HTTP/1.1\r\nHost: farm\r\n\r\n") as client:
        time.sleep(1)  # longer than each limit: what is shown is that nothing happens
        served.app.state.go_on.set()
        client.sendall(HEADER + b"Content-Length: 2\r\n\r\nxx")
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("pause", [None, 0.2], ids=["nothing", "a byte now and then"])
def test_client_that_reads_too_slowly_should_be_disconnected(served: Served, pause: float | None) -> None:
    with served.client(b"GET /endless HTTP/1.1\r\nHost: farm\r\n\r\n") as client:
        served.wait_for_connections(1)
        deadline = time.monotonic() + 20
        while served.open_connections():
            assert time.monotonic() < deadline
            if pause is not None:
                client.recv(1)
            time.sleep(pause or 0.05)


def test_client_that_leaves_the_end_of_a_response_unread_should_be_disconnected() -> None:
    class Closing:
        aborted = False

        def is_closing(self) -> bool:
            return True

        def abort(self) -> None:
            self.aborted = True

    transport: Any = Closing()
    connection = connections.Connection("192.0.2.1", "192.0.2.1", transport)
    connection.sweep(100)
    connection.sweep(100 + connections.CLOSING_SECONDS)
    assert not transport.aborted
    connection.sweep(101 + connections.CLOSING_SECONDS)
    assert transport.aborted


def test_address_should_have_so_many_connections_and_no_more(served: Served) -> None:
    opened = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(20)]
    served.wait_for_connections(20)
    with served.client(b"GET / HTTP/1.1\r\nHost: farm\r\n\r\n") as client:
        answer = everything(client)
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b'"type":"too_many_connections"' in answer
    for client in opened:
        client.close()
    served.wait_for_connections(0)
    assert httpx.post(f"http://127.0.0.1:{served.port}/body").status_code == 200


def test_trusted_proxy_should_not_count_as_one_client(served: Served) -> None:
    async def run() -> list[int]:
        transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        url = f"http://127.0.0.1:{served.port}/wait"
        async with httpx.AsyncClient(transport=transport, timeout=20) as client:

            async def ask(address: str) -> int:
                return (await client.get(url, headers={"X-Forwarded-For": address})).status_code

            asked = [asyncio.create_task(ask(f"192.0.2.{i // 20}")) for i in range(40)]
            while served.open_connections() < 40:  # noqa: ASYNC110 - it is in another thread
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)
            refused = await ask("192.0.2.1")
            served.app.state.go_on.set()
            # The event belongs to the server's loop: a further request lets that one look.
            await ask("192.0.2.9")
            return [refused, *await asyncio.gather(*asked)]

    assert asyncio.run(run()) == [429, *[200] * 40]


def test_web_socket_should_be_refused_large_messages_and_endless_fragments(served: Served) -> None:
    # A client that still sends may get the reset of its connection before it reads the close frame.
    refused = "1009|no close frame received"
    url = f"ws://127.0.0.1:{served.port}/echo"
    with connect(url) as web_socket:
        web_socket.send("x" * 1000)
        assert web_socket.recv() == "1000"
        web_socket.send("x" * 1_000_000)
        with pytest.raises(Exception, match=refused):
            web_socket.recv(timeout=10)
    with connect(url) as web_socket:
        with suppress(Exception):
            web_socket.send("" for _ in range(100_000))
        with pytest.raises(Exception, match=refused):
            web_socket.recv(timeout=10)
    served.wait_for_connections(0)


def test_pings_whose_pongs_nobody_reads_should_take_no_memory(served: Served) -> None:
    before = psutil.Process().memory_info().rss
    handshake = (
        b"GET /echo HTTP/1.1\r\nHost: farm\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with served.client(handshake) as client:
        assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
        ping = b"\x89\xfd\0\0\0\0" + b"x" * 125
        send_until_closed(client, ping * 500, 50 << 20)
        assert psutil.Process().memory_info().rss - before < 30 << 20
    served.wait_for_connections(0)


def test_connections_should_leave_file_descriptors_for_the_rest() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 1024));"
        "from recording_farm.api.connections import connections_allowed;"
        "print(connections_allowed(), resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "384 (1024, 1024)"
