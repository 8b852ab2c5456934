"""Storages that answer without end, or very slowly: each backend gives up in time and with little memory."""

import gzip
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import paramiko
import pytest
import urllib3
from paramiko.common import AUTH_SUCCESSFUL, MSG_CHANNEL_DATA, OPEN_SUCCEEDED

from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.backends import answers

MEGABYTE = 1 << 20
MOST_MEMORY = 100 * MEGABYTE
"""More than before, of a process that reads a hostile answer: Azure reads ranges of 10 MiB, four at once."""


class Hostile(BaseHTTPRequestHandler):
    """A server of one hostile answer, whatever it is asked."""

    protocol_version = "HTTP/1.1"
    status = 403
    headers_sent: tuple[tuple[str, str], ...] = ()
    pieces: Callable[[], Iterator[bytes]]

    def answer(self) -> None:
        """Answer with all pieces."""
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        self.close_connection = True
        try:
            self.send_response(self.status)
            self.send_header("Connection", "close")
            for name, value in self.headers_sent:
                self.send_header(name, value)
            self.end_headers()
            for piece in type(self).pieces():
                self.wfile.write(piece)
        except OSError:
            pass

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815 - http.server calls them so

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def endless() -> Iterator[bytes]:
    yield b'<?xml version="1.0"?><Error><Code>'
    for _ in range(600):
        yield b"a" * MEGABYTE


def drip() -> Iterator[bytes]:
    for _ in range(600):
        yield b" "
        time.sleep(0.05)


@cache
def _packed() -> bytes:
    return gzip.compress(bytes(500 * MEGABYTE), 1)


def bomb() -> Iterator[bytes]:
    yield _packed()


@contextmanager
def hostile(pieces: Callable[[], Iterator[bytes]], status: int = 403, **headers: str) -> Iterator[int]:
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    attributes = {"pieces": staticmethod(pieces), "status": status, "headers_sent": named}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Hostile,), attributes))
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


Act = Callable[..., tuple[str, float]]


@pytest.fixture(scope="module")
def _actor() -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "testkit.storage.acting"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as actor:
        yield actor
        assert actor.stdin is not None
        actor.stdin.close()


@pytest.fixture
def act(_actor: "subprocess.Popen[str]", tmp_path: Path) -> Act:
    """Use a storage in a process of its own: why it fails, and its seconds. Its memory is looked at here."""

    def use(kind: str, port: int, what: str, answer_seconds: float | None = None) -> tuple[str, float]:
        assert _actor.stdin is not None
        assert _actor.stdout is not None
        print(json.dumps([kind, port, what, str(tmp_path), answer_seconds]), file=_actor.stdin, flush=True)
        done = json.loads(_actor.stdout.readline())
        assert "failed" not in done, f"it ended with {done['failed']}"
        assert done["memory"] < MOST_MEMORY
        return done["reason"], done["seconds"]

    return use


@pytest.mark.parametrize("what", ["check", "upload"])
@pytest.mark.parametrize("kind", ["s3", "azure", "gcs"])
def test_endless_answer_should_be_a_storage_error(act: Act, kind: str, what: str) -> None:
    with hostile(endless) as port:
        reason, seconds = act(kind, port, what)
    assert reason.startswith("bad_answer: the server's answer is larger than 2 MiB")
    assert seconds < 20


@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_endless_error_in_place_of_a_file_should_be_a_storage_error(act: Act, kind: str) -> None:
    with hostile(endless, 500) as port:
        reason, _ = act(kind, port, "fetch")
    assert reason.startswith("bad_answer: ")


def test_file_without_a_length_should_not_fill_the_disk(act: Act) -> None:
    with hostile(endless, 200, ETag='"x"') as port:
        reason, _ = act("s3", port, "fetch")
    assert reason.startswith("bad_answer: ")


@contextmanager
def file_with_hostile_ranges(pieces: Callable[[], Iterator[bytes]]) -> Iterator[int]:
    """An Azure blob of 40 MiB: its first range is as asked, the others are hostile."""

    class Ranges(Hostile):
        def do_GET(self) -> None:
            first, last = map(int, self.headers["x-ms-range"].removeprefix("bytes=").split("-"))
            self.send_response(206)
            self.send_header("Connection", "close")
            self.send_header("Content-Range", f"bytes {first}-{last}/{40 * MEGABYTE}")
            self.send_header("ETag", '"x"')
            self.send_header("x-ms-blob-type", "BlockBlob")
            if first == 0:
                self.send_header("Content-Length", str(last + 1))
            self.end_headers()
            self.close_connection = True
            with suppress(OSError):
                for piece in [bytes(last + 1)] if first == 0 else pieces():
                    self.wfile.write(piece)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def test_endless_range_of_a_file_should_be_a_storage_error(act: Act) -> None:
    with file_with_hostile_ranges(endless) as port:
        reason, seconds = act("azure", port, "fetch")
    assert reason.startswith("bad_answer: the server's answer is larger than 10 MiB")
    assert seconds < 20


def test_slow_range_of_a_file_should_end_in_time(act: Act) -> None:
    with file_with_hostile_ranges(drip) as port:
        reason, seconds = act("azure", port, "fetch", 2)
    assert reason == "timed_out: the server's answer took longer than 2 s"
    assert seconds < 20


@pytest.mark.parametrize("kind", ["s3", "azure", "gcs"])
def test_slow_answer_should_end_in_time(act: Act, kind: str) -> None:
    with hostile(drip) as port:
        reason, seconds = act(kind, port, "check", 1)
    assert reason == "timed_out: the server's answer took longer than 1 s"
    assert seconds < 20


@pytest.mark.parametrize("kind", ["azure", "gcs"])
@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "br"])
def test_compressed_answer_should_be_limited(act: Act, kind: str, encoding: str) -> None:
    with hostile(bomb, Content_Encoding=encoding) as port:
        reason, _ = act(kind, port, "check")
    assert reason.startswith("bad_answer: ")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_of_s3_should_be_a_clear_error(act: Act, status: int) -> None:
    with hostile(lambda: iter(()), status, Location="http://127.0.0.1:1/", Content_Length="0") as port:
        reason, _ = act("s3", port, "check")
    assert reason.startswith("redirected: ")


@pytest.mark.parametrize(
    "greeting",
    [b"SSH-2.0-x\r\n" + b"\xff\xff\xff\xf0\x04" + bytes(MEGABYTE), b"x" * MEGABYTE],
    ids=["a packet of 4 GiB", "a banner without end"],
)
def test_ssh_server_without_end_should_be_a_storage_error(act: Act, greeting: bytes) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                while True:
                    connection.sendall(greeting)
        except OSError:
            pass

    server = Thread(target=serve, daemon=True)
    server.start()
    try:
        reason, seconds = act("sftp", listener.getsockname()[1], "check")
    finally:
        listener.close()
    assert reason.split(":")[0] in {"bad_answer", "unreachable", "timed_out"}
    assert seconds < 20


class Flooding(paramiko.SubsystemHandler):
    """Not SFTP: a packet of 16 MiB, in the channel's window or beyond it."""

    def start_subsystem(
        self,
        name: str,  # noqa: ARG002 - the signature of the library
        transport: paramiko.Transport,
        channel: paramiko.Channel,
    ) -> None:
        """Send until the client goes away."""
        version = b"\0\0\0\x05\x02\0\0\0\x03"
        channel.sendall(version + b"\0\xff\xff\xf0")
        with suppress(OSError, EOFError, paramiko.SSHException):
            for _ in range(4000):
                message = paramiko.Message()
                message.add_byte(bytes([MSG_CHANNEL_DATA]))
                message.add_int(channel.remote_chanid)
                message.add_string(bytes(30 << 10))
                transport._send_user_message(message)  # type: ignore[attr-defined]


class AnyLogin(paramiko.ServerInterface):
    def check_auth_password(self, username: str, password: str) -> int:  # noqa: ARG002
        return AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002
        return OPEN_SUCCEEDED


def test_sftp_packet_without_end_should_be_a_storage_error(act: Act) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    transports = []

    def serve() -> None:
        with suppress(OSError, EOFError, paramiko.SSHException):
            connection, _ = listener.accept()
            transport = paramiko.Transport(connection)
            transports.append(transport)
            transport.add_server_key(paramiko.ECDSAKey.generate())
            transport.set_subsystem_handler("sftp", Flooding)
            transport.start_server(server=AnyLogin())

    server = Thread(target=serve, daemon=True)
    server.start()
    try:
        reason, seconds = act("sftp", listener.getsockname()[1], "check")
    finally:
        listener.close()
        server.join(10)
        for transport in transports:
            transport.close()
    assert reason.startswith("bad_answer: the server sends more than it was asked for")
    assert seconds < 20


def test_limits_should_hold_in_their_context_only() -> None:
    with hostile(lambda: iter([b"x" * 3 * MEGABYTE]), 200) as port:
        url = f"http://127.0.0.1:{port}/"
        with pytest.raises(StorageError, match="larger than 2 MiB"), answers.bounded_answers():
            urllib3.request("GET", url)
        assert len(urllib3.request("GET", url).data) == 3 * MEGABYTE


def test_file_should_be_as_long_as_its_header_says() -> None:
    with hostile(lambda: iter([b"x" * 3 * MEGABYTE]), 200, Content_Length=str(3 * MEGABYTE)) as port:
        url = f"http://127.0.0.1:{port}/"
        with answers.bounded_answers(download=True):
            assert len(urllib3.request("GET", url).data) == 3 * MEGABYTE
