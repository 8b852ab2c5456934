"""Storages that answer without end, or very slowly: each backend gives up in time and with little memory."""

import gzip
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
MOST_MEMORY = 60 * MEGABYTE
"""More than before, of a process that reads a hostile answer."""


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


def bomb() -> Iterator[bytes]:
    packed = gzip.compress(bytes(500 * MEGABYTE))
    yield packed


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


ACT = """
import resource, sys, time
from pathlib import Path
from recording_farm.farm.storage.backend import Checkpoint, StorageError
from recording_farm.farm.storage.backends import answers
kind, port, what, directory = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])
address = f"http://127.0.0.1:{port}"
if kind == "s3":
    from recording_farm.farm.storage.backends.s3 import S3Backend
    from recording_farm.farm.storage.backends.s3_client import S3Bucket
    backend = S3Backend(S3Bucket("bucket", "key", "secret", endpoint=address), tries=1)
elif kind == "azure":
    from recording_farm.farm.storage.backends.azure import AzureBackend, AzureContainer
    from testkit.storage.azure_account import connection_string
    backend = AzureBackend(AzureContainer("container", connection_string(int(port))), tries=1)
elif kind == "gcs":
    from recording_farm.farm.storage.backends.gcs import GcsBackend, GcsBucket
    backend = GcsBackend(GcsBucket("bucket", None, endpoint=address))
else:
    from recording_farm.farm.storage.backends.sftp import SftpBackend, SftpServer
    backend = SftpBackend(SftpServer("127.0.0.1", "user", int(port), password="x"))
if sys.argv[5:]:
    answers.ANSWER_SECONDS = float(sys.argv[5])
source = directory / "file"
source.write_bytes(bytes(20 << 20))
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
try:
    if what == "check":
        backend.check_writing("recordings")
    elif what == "upload":
        backend.upload(source, "file", Checkpoint(directory / "checkpoint"), "video/mp4")
    elif what == "fetch":
        backend.fetch("file", directory / "fetched")
    reason = "none"
except StorageError as error:
    reason = f"{error.reason}: {error.message}"
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(after - before, time.monotonic() - began, reason)
"""


def act(tmp_path: Path, kind: str, port: int, what: str, *seconds: str) -> tuple[str, float]:
    """What a process says that uses a storage of `kind`, and its seconds; its memory is looked at here."""
    arguments = [kind, str(port), what, str(tmp_path), *seconds]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ACT), *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kilobytes, taken, reason = done.stdout.split(" ", 2)
    assert int(kilobytes) * 1024 < MOST_MEMORY
    return reason.strip(), float(taken)


@pytest.mark.parametrize("what", ["check", "upload"])
@pytest.mark.parametrize("kind", ["s3", "azure", "gcs"])
def test_endless_answer_should_be_a_storage_error(tmp_path: Path, kind: str, what: str) -> None:
    with hostile(endless) as port:
        reason, seconds = act(tmp_path, kind, port, what)
    assert reason.startswith("bad_answer: the server's answer is larger than 2 MiB")
    assert seconds < 20


@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_endless_error_in_place_of_a_file_should_be_a_storage_error(tmp_path: Path, kind: str) -> None:
    with hostile(endless, 500) as port:
        reason, _ = act(tmp_path, kind, port, "fetch")
    assert reason.startswith("bad_answer: ")


def test_file_without_a_length_should_not_fill_the_disk(tmp_path: Path) -> None:
    with hostile(endless, 200, ETag='"x"') as port:
        reason, _ = act(tmp_path, "s3", port, "fetch")
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


def test_endless_range_of_a_file_should_be_a_storage_error(tmp_path: Path) -> None:
    with file_with_hostile_ranges(endless) as port:
        reason, seconds = act(tmp_path, "azure", port, "fetch")
    assert reason.startswith("bad_answer: the server's answer is larger than 10 MiB")
    assert seconds < 20


def test_slow_range_of_a_file_should_end_in_time(tmp_path: Path) -> None:
    with file_with_hostile_ranges(drip) as port:
        reason, seconds = act(tmp_path, "azure", port, "fetch", "2")
    assert reason == "timed_out: the server's answer took longer than 2 s"
    assert seconds < 20


@pytest.mark.parametrize("kind", ["s3", "azure", "gcs"])
def test_slow_answer_should_end_in_time(tmp_path: Path, kind: str) -> None:
    with hostile(drip) as port:
        reason, seconds = act(tmp_path, kind, port, "check", "1")
    assert reason == "timed_out: the server's answer took longer than 1 s"
    assert seconds < 20


@pytest.mark.parametrize("kind", ["azure", "gcs"])
@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "br"])
def test_compressed_answer_should_be_limited(tmp_path: Path, kind: str, encoding: str) -> None:
    with hostile(bomb, Content_Encoding=encoding) as port:
        reason, _ = act(tmp_path, kind, port, "check")
    assert reason.startswith("bad_answer: ")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_of_s3_should_be_a_clear_error(tmp_path: Path, status: int) -> None:
    with hostile(lambda: iter(()), status, Location="http://127.0.0.1:1/", Content_Length="0") as port:
        reason, _ = act(tmp_path, "s3", port, "check")
    assert reason.startswith("redirected: ")


@pytest.mark.parametrize(
    "greeting",
    [b"SSH-2.0-x\r\n" + b"\xff\xff\xff\xf0\x04" + bytes(MEGABYTE), b"x" * MEGABYTE],
    ids=["a packet of 4 GiB", "a banner without end"],
)
def test_ssh_server_without_end_should_be_a_storage_error(tmp_path: Path, greeting: bytes) -> None:
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
        reason, seconds = act(tmp_path, "sftp", listener.getsockname()[1], "check")
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


def test_sftp_packet_without_end_should_be_a_storage_error(tmp_path: Path) -> None:
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
        reason, seconds = act(tmp_path, "sftp", listener.getsockname()[1], "check")
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
