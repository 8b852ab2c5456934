"""The program that sends a recording to a receiver, against real ones."""

import asyncio
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from farm.live_outputs import stream_arguments
from farm.outputs import read_stream_url
from farm.stream_out import StreamOrder
from tests.rtmp import RtmpServer, rtmp_server
from tests.takes import make_take


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("spool")
    make_take(directory, seconds=3)
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
        arguments = stream_arguments(stream, "127.0.0.1")
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    order = StreamOrder(str(spool), 30, audio_only=False, arguments=arguments, secrets=list(stream.secrets))
    done = subprocess.run(
        [sys.executable, "-m", "farm.stream_out"],
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


def test_refusal_should_be_told_without_the_key(spool: Path, rtmp: RtmpServer) -> None:
    rtmp.kill()
    code, said = send(spool, f"{rtmp.url}/the-key")
    assert code == 1
    assert said[-1]["error"]
    assert "the-key" not in json.dumps(said)


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
