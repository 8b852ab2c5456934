"""The program that sends a recording to a receiver, against real ones."""

import asyncio
import json
import os
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import psutil
import pytest

from recording_farm.farm.live.outputs import receiver_of
from recording_farm.farm.live.stream import StreamSpec, why_ended
from recording_farm.farm.recording.outputs import read_stream_url
from testkit.encoder.takes import make_take
from testkit.network.ports import free_port
from testkit.network.rtmp import RtmpServer, rtmp_server
from testkit.network.rtmp_login import login_server

SRT = "srt://127.0.0.1:{port}?passphrase=0123456789&streamid=the-room"


@contextmanager
def silent_server(port: int) -> Iterator[None]:
    """A TCP server that accepts, and says nothing for half a second."""
    with socket.create_server(("127.0.0.1", port)) as server:
        thread = threading.Thread(target=lambda: _hang_up(server), daemon=True)
        thread.start()
        yield


def _hang_up(server: socket.socket) -> None:
    with suppress(OSError):
        connection, _ = server.accept()
        with connection:
            time.sleep(0.5)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A recording whose age nobody knows: what is 10 s old would be too late for a receiver."""
    directory = tmp_path / "spool"
    directory.mkdir()
    make_take(directory, seconds=3).with_suffix(".json").unlink()
    return directory


@pytest.fixture
def rtmp(tmp_path: Path) -> Iterator[RtmpServer]:
    with rtmp_server(tmp_path / "rtmp") as server:
        yield server


def send(spool: Path, url: str, **environment: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the program over a recording that has ended; its exit code and what it said."""
    stream = read_stream_url(url)
    # What the recorder would say, with what the program's environment has.
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        receiver = receiver_of(stream, "127.0.0.1")
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    order = StreamSpec(str(spool), 30, audio_only=False, receiver=receiver, secrets=list(stream.secrets))
    done = subprocess.run(
        [sys.executable, "-m", "recording_farm.farm.live.stream"],
        input=json.dumps(asdict(order)).encode() + b"\n",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == b""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_recording_that_ended_should_arrive_up_to_its_last_packet(spool: Path, rtmp: RtmpServer) -> None:
    code, said = send(spool, f"{rtmp.url}/key")
    assert code == 0
    assert said[-1]["sent_us"] > 0
    assert len(rtmp.recorded("key")) == 1


def test_address_with_a_query_before_the_key_and_a_login_should_arrive(spool: Path, rtmp: RtmpServer) -> None:
    address = rtmp.url.replace("rtmp://", "rtmp://user:password@")
    code, _ = send(spool, f"{address}?backup=1/ab12#cd34?auth=a/b")
    assert code == 0
    assert len(rtmp.recorded("ab12%23cd34")) == 1


def command_lines(ended: threading.Event) -> set[str]:
    """The command lines of all programs below this process until `ended`."""
    seen: set[str] = set()
    while not ended.wait(0.01):
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                seen.add(" ".join(process.cmdline()))
    return seen


@pytest.mark.parametrize(
    "url",
    [
        "rtmp://127.0.0.1:{port}/live/the-key?auth=t0ken",
        "rtmp://the-user:pass-w0rd@127.0.0.1:{port}/live/the-key?auth=t0ken",
        SRT,
    ],
)
def test_credentials_of_an_output_should_be_on_no_command_line(spool: Path, url: str) -> None:
    ended, port = threading.Event(), free_port()
    with ThreadPoolExecutor(1) as pool, silent_server(port):
        seen = pool.submit(command_lines, ended)
        send(spool, url.format(port=port))
        ended.set()
        lines = "\n".join(seen.result())
    assert "ffmpeg -hide_banner" in lines
    for secret in ("the-key", "t0ken", "0123456789", "the-room", "the-user", "pass-w0rd"):
        assert secret not in lines


def test_server_should_admit_the_login_of_the_url(spool: Path) -> None:
    with login_server("alice", "s3cret+") as server:
        send(spool, f"rtmp://alice:s3cret+@127.0.0.1:{server.port}/live?backup=1/the-key")
        assert server.admitted == ["alice"]


def test_wrong_login_should_be_reported_without_it(spool: Path) -> None:
    with login_server("alice", "s3cret") as server:
        code, said = send(spool, f"rtmp://alice:wr0ng@127.0.0.1:{server.port}/live/the-key")
    assert (code, server.admitted, said) == (1, [], [{"error": "Incorrect username/password"}])


def test_server_that_goes_away_should_be_reported_with_a_login_too(spool: Path) -> None:
    code, said = send(spool, f"rtmp://alice:s3cret@127.0.0.1:{free_port()}/live/the-key")
    assert code == 1
    assert "Connection refused" in said[-1]["error"]
    assert "s3cret" not in json.dumps(said)


def test_refusal_should_be_reported_without_the_key(spool: Path, rtmp: RtmpServer) -> None:
    rtmp.kill()
    code, said = send(spool, f"{rtmp.url}/the-key")
    assert code == 1
    assert said[-1]["error"]
    assert "the-key" not in json.dumps(said)


PASSPHRASE = 'p@ss/word+1&x=%41 "'


@contextmanager
def srt_listener(file: Path, passphrase: str) -> Iterator[int]:
    """An ffmpeg that waits for one SRT stream and writes it to `file`; its port."""
    port = free_port()
    listener = subprocess.Popen(
        [
            *(shutil.which("ffmpeg") or "ffmpeg", "-loglevel", "error", "-y", "-mode", "listener"),
            *("-passphrase", passphrase, "-i", f"srt://127.0.0.1:{port}", "-c", "copy", str(file)),
        ],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for_udp(port)
        yield port
    finally:
        listener.kill()
        listener.wait()


def _wait_for_udp(port: int) -> None:
    deadline = time.monotonic() + 20
    while f":{port:04X} " not in Path("/proc/net/udp").read_text():
        assert time.monotonic() < deadline, f"nobody listens at {port}"
        time.sleep(0.05)


@contextmanager
def relay(port: int, passed: list[bytes]) -> Iterator[int]:
    """A UDP port that passes everything on to another one, and keeps what came."""
    over = threading.Event()

    def run(near: socket.socket) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            far.connect(("127.0.0.1", port))
            caller = None
            while not over.is_set():
                for ready in select.select([near, far], [], [], 0.1)[0]:
                    with suppress(ConnectionError):
                        if ready is near:
                            data, caller = near.recvfrom(65536)
                            passed.append(data)
                            far.send(data)
                        elif caller is not None:
                            near.sendto(far.recv(65536), caller)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
        near.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=run, args=(near,))
        thread.start()
        try:
            yield near.getsockname()[1]
        finally:
            over.set()
            thread.join()


def test_srt_should_arrive_with_the_very_passphrase_and_stream_id(spool: Path, tmp_path: Path) -> None:
    stream_id, passed = "#!::r=live/x,m=publish", list[bytes]()
    options = urlencode({"streamid": stream_id, "passphrase": PASSPHRASE, "pbkeylen": 24, "latency": 200})
    with srt_listener(tmp_path / "received.ts", PASSPHRASE) as port, relay(port, passed) as near:
        code, said = send(spool, f"srt://127.0.0.1:{near}?{options}")
        # The listener accepts nobody with another passphrase.
        assert code == 0, said
    # SRT's handshake has texts as words of 32 bits with the last byte first.
    words = b"".join(data[at : at + 4][::-1] for data in passed for at in range(0, len(data), 4))
    assert stream_id.encode() in words


def test_srt_refusal_should_be_reported_without_the_passphrase(spool: Path, tmp_path: Path) -> None:
    passphrase = "p@ss/word+1"
    options = urlencode({"streamid": "s3cret/id", "passphrase": passphrase})
    with srt_listener(tmp_path / "received.ts", "another passphrase") as port:
        code, said = send(spool, f"srt://127.0.0.1:{port}?{options}")
        assert code == 1
        assert said[-1]["error"]
        for secret in (passphrase, "s3cret/id"):
            for form in (secret, quote(secret), quote(secret, safe=""), quote_plus(secret)):
                assert form not in json.dumps(said)


def make_certificate(directory: Path, name: str) -> tuple[Path, Path]:
    key, certificate = directory / f"{name}.key", directory / f"{name}.pem"
    subprocess.run(
        [
            *(shutil.which("openssl") or "openssl", "req", "-x509", "-newkey", "ec", "-nodes"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={name}", "-days", "2"),
            *("-addext", f"subjectAltName=DNS:{name}"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return key, certificate


@contextmanager
def tls_in_front_of(port: int, key: Path, certificate: Path) -> Iterator[int]:
    """A TLS server that passes everything on to a port of the loopback."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    loop = asyncio.new_event_loop()
    started = threading.Event()
    ports: list[int] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer))

    async def run(stop: asyncio.Event) -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        ports.append(server.sockets[0].getsockname()[1])
        started.set()
        await stop.wait()
        server.close()
        await server.wait_closed()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(stop),))
    thread.start()
    try:
        assert started.wait(10)
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def test_rtmps_should_arrive_where_the_certificate_is_good_and_nowhere_else(
    spool: Path, rtmp: RtmpServer, tmp_path: Path
) -> None:
    key, certificate = make_certificate(tmp_path, "localhost")
    with tls_in_front_of(rtmp.port, key, certificate) as port:
        code, said = send(spool, f"rtmps://localhost:{port}/live/good", SSL_CERT_FILE=str(certificate))
        assert (code, len(rtmp.recorded("good"))) == (0, 1), said
        _, another = make_certificate(tmp_path, "other.example")
        code, said = send(spool, f"rtmps://localhost:{port}/live/bad", SSL_CERT_FILE=str(another))
        assert (code, rtmp.recorded("bad")) == (1, []), said
        code, said = send(
            spool, f"rtmps://user:password@localhost:{port}/live/login", SSL_CERT_FILE=str(another)
        )
        assert (code, rtmp.recorded("login")) == (1, []), said
        assert "certificate is not valid" in said[-1]["error"]
        trusted = str(certificate)
        code, said = send(spool, f"rtmps://user:password@localhost:{port}/live/login", SSL_CERT_FILE=trusted)
        assert (code, len(rtmp.recorded("login"))) == (0, 1), said


def test_certificate_should_be_named_and_not_the_line_behind_it() -> None:
    # What Debian's ffmpeg 5.1 says.
    said = [
        "[tls @ 0x55b4be799c00] Peer certificate failed verification",
        "[rtmps @ 0x55b4be79c940] Cannot open connection tls://localhost:40865",
        "rtmps://localhost:40865/live/key: Input/output error",
        "",
    ]
    assert why_ended(said).startswith("the receiver's certificate is not valid")
    assert why_ended(said[1:]) == said[2]
    assert why_ended([]) == "the connection was closed"
