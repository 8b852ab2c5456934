"""Receivers of webhooks: real HTTP servers on the loopback that keep what comes and answer as told."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast


@dataclass(frozen=True)
class Received:
    """One request: its headers (names in lower case), its body, and when it came."""

    headers: Mapping[str, str]
    body: bytes
    time: float

    @property
    def status(self) -> str:
        """The state of the recording that it tells of."""
        return str(json.loads(self.body)["recording"]["status"])

    @property
    def recording_id(self) -> str:
        """The recording that it tells of."""
        return str(json.loads(self.body)["recording"]["id"])


@dataclass(frozen=True)
class Reply:
    """What a receiver answers."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    hangs: bool = False
    """No answer at all, until the receiver is closed."""


Decide = Callable[[Received, int], Reply]
"""What to answer to a request, of which there were so many before."""


class Receiver:
    """A running receiver."""

    def __init__(self, port: int, closing: threading.Event) -> None:
        """It listens at `port` of the loopback."""
        self.port = port
        self.url = f"http://127.0.0.1:{port}/hook"
        self.received: list[Received] = []
        self.answered: list[tuple[Received, int]] = []
        self.decide: Decide = lambda _received, _before: Reply()
        self.closing = closing
        self.lock = threading.Lock()

    @property
    def accepted(self) -> list[str]:
        """The states that were answered with success, in their order."""
        return [received.status for received, status in self.answered if 200 <= status < 300]

    def wait_for(self, count: int, timeout: float = 60) -> list[Received]:
        """Wait until so many requests have come."""
        deadline = time.monotonic() + timeout
        while len(self.received) < count:
            assert time.monotonic() < deadline, f"{len(self.received)} of {count} requests came"
            time.sleep(0.002)
        return self.received


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        receiver = cast("Any", self.server).receiver
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        received = Received(headers, body, time.time())
        with receiver.lock:
            before = len(receiver.received)
            receiver.received.append(received)
        reply = receiver.decide(received, before)
        if reply.hangs:
            receiver.closing.wait(60)
            self.close_connection = True
            return
        with receiver.lock:
            receiver.answered.append((received, reply.status))
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class _Server(ThreadingHTTPServer):
    receiver: Receiver
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that is gone is what some tests are about."""


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Run a receiver on a free port."""
    server = _Server(("127.0.0.1", 0), _Handler)
    closing = threading.Event()
    server.receiver = Receiver(server.server_address[1], closing)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="receiver")
    thread.start()
    try:
        yield server.receiver
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
