"""Files of both kinds of directory, as answers."""

import asyncio
import os
import random
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, nullcontext, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as some
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recording_farm.api.file_response import Shares, asked_bytes, file_response
from recording_farm.farm.storage.backend import Checkpoint
from recording_farm.farm.storage.backends.directory import DirectoryBackend
from recording_farm.farm.storage.backends.encrypted_directory import EncryptedDirectoryBackend
from recording_farm.farm.storage.backends.encrypted_file import CHUNK_BYTES
from recording_farm.farm.storage.backends.stored_file import PIECE_BYTES
from testkit.api.serving import app_in_thread
from testkit.machine.memory import watched_memory

SECRET = b"the farm's secret"
CONTENT = random.Random(2).randbytes(PIECE_BYTES + 3 * CHUNK_BYTES + 99)
SIZE = len(CONTENT)
MEBIBYTE = 1 << 20
FREE = Shares(nullcontext, nullcontext)


@pytest.fixture(params=["plain", "encrypted"])
def films(request: pytest.FixtureRequest, tmp_path: Path) -> DirectoryBackend:
    """An empty directory, of each kind."""
    root = tmp_path / "films"
    return DirectoryBackend(root) if request.param == "plain" else EncryptedDirectoryBackend(root, SECRET)


def put(films: DirectoryBackend, source: Path) -> None:
    films.upload(source, "film.mp4", Checkpoint(source.with_suffix(".checkpoint")), "video/mp4")


@pytest.fixture
def film(films: DirectoryBackend, tmp_path: Path) -> DirectoryBackend:
    """The directory with CONTENT in it."""
    (tmp_path / "film.mp4").write_bytes(CONTENT)
    put(films, tmp_path / "film.mp4")
    return films


def app_with(films: DirectoryBackend) -> Starlette:
    async def answer(request: Request) -> Response:
        return file_response(
            request, films.open("film.mp4"), {"Content-Type": "video/mp4", "X-More": "1"}, FREE
        )

    return Starlette(routes=[Route("/film.mp4", answer)])


@pytest.fixture
async def client(film: DirectoryBackend) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app with CONTENT."""
    transport = httpx.ASGITransport(app_with(film))
    async with httpx.AsyncClient(transport=transport, base_url="http://farm.test") as client:
        yield client


def ask(client: httpx.AsyncClient, **headers: str) -> Any:
    return client.get("/film.mp4", headers={name.replace("_", "-"): text for name, text in headers.items()})


def descriptors_of(path: Path) -> int:
    """How often this process has a file open."""
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists them
            found += os.readlink(f"/proc/self/fd/{descriptor}") == str(path)
    return found


async def test_whole_file_should_say_that_it_can_be_had_in_ranges(client: httpx.AsyncClient) -> None:
    answer = await ask(client)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-length"] == str(SIZE)
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-more"] == "1"
    assert "content-range" not in answer.headers


async def test_head_should_have_the_headers_alone(client: httpx.AsyncClient) -> None:
    for headers in ({}, {"Range": "bytes=0-5"}, {"Range": f"bytes={SIZE}-"}):
        head = await client.head("/film.mp4", headers=headers)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers == (await ask(client)).headers


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, SIZE),
        (f"bytes={CHUNK_BYTES - 1}-{CHUNK_BYTES}", CHUNK_BYTES - 1, CHUNK_BYTES + 1),
        (f"bytes={CHUNK_BYTES}-{2 * CHUNK_BYTES - 1}", CHUNK_BYTES, 2 * CHUNK_BYTES),
        (f"bytes={PIECE_BYTES - 1}-{PIECE_BYTES}", PIECE_BYTES - 1, PIECE_BYTES + 1),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        ("bytes=-500", SIZE - 500, SIZE),
        (f"bytes=-{SIZE}", 0, SIZE),
        (f"bytes=-{SIZE + 1}", 0, SIZE),
        (f"bytes=5-{'9' * 40}", 5, SIZE),
        ("BYTES=5-9", 5, 10),
    ],
)
async def test_range_should_give_that_part(
    client: httpx.AsyncClient, header: str, start: int, end: int
) -> None:
    answer = await ask(client, range=header)
    assert (answer.status_code, answer.content) == (206, CONTENT[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(end - start)
    assert answer.headers["content-type"] == "video/mp4"


@pytest.mark.parametrize("header", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=-0"])
async def test_range_behind_the_end_should_be_refused(client: httpx.AsyncClient, header: str) -> None:
    answer = await ask(client, range=header)
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{SIZE}"
    assert answer.json()["error"]["type"] == "range_not_satisfiable"


@pytest.mark.parametrize(
    "header",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=--5", "bytes=x-y", "bytes=9-2", "bytes=+1-2", "bytes=5"),
        *("bytes=0x1-", "bytes=1 - 2", "bytes=1.0-2", "bytes=1-2-3", "lines=1-2", "bytes 1-2"),
        *("bytes=-1,-2", "bytes=0-1,5-6", "bytes=²-", f"bytes={'1' * 5000}-", "bytes=0-" + ",0-" * 1000),
    ],
)
async def test_range_that_is_not_understood_should_be_ignored(client: httpx.AsyncClient, header: str) -> None:
    answer = await client.get("/film.mp4", headers=[(b"range", header.encode())])
    assert (answer.status_code, len(answer.content)) == (200, SIZE)


async def test_range_should_hold_only_for_the_file_that_the_client_knows(
    client: httpx.AsyncClient, film: DirectoryBackend, tmp_path: Path
) -> None:
    headers = (await ask(client)).headers
    etag, modified = headers["etag"], headers["last-modified"]
    assert parsedate_to_datetime(modified).timestamp() == int(film.path_of("film.mp4").stat().st_mtime)
    for known in (etag, modified):
        assert (await ask(client, range="bytes=1-2", if_range=known)).status_code == 206
    for unknown in ('"other"', f"W/{etag}", "Mon, 01 Jan 2001 00:00:00 GMT", "x", ""):
        assert (await ask(client, range="bytes=1-2", if_range=unknown)).status_code == 200
    (tmp_path / "film.mp4").unlink()
    (tmp_path / "film.mp4").write_bytes(CONTENT[::-1])
    put(film, tmp_path / "film.mp4")
    again = await ask(client, range="bytes=1-2", if_range=etag)
    assert (again.status_code, again.content) == (200, CONTENT[::-1])
    assert again.headers["etag"] != etag


async def test_empty_file_should_be_given(films: DirectoryBackend, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    put(films, tmp_path / "empty")
    transport = httpx.ASGITransport(app_with(films))
    async with httpx.AsyncClient(transport=transport, base_url="http://farm.test") as client:
        whole = await ask(client)
        assert (whole.status_code, whole.content, whole.headers["content-length"]) == (200, b"", "0")
        for header in ("bytes=0-", "bytes=-5"):
            answer = await ask(client, range=header)
            assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */0")


async def test_answers_should_close_the_file(client: httpx.AsyncClient, film: DirectoryBackend) -> None:
    for header in ("bytes=0-", "bytes=5-9", f"bytes={SIZE}-", "x"):
        await ask(client, range=header)
        await client.head("/film.mp4", headers={"Range": header})
    assert descriptors_of(film.path_of("film.mp4")) == 0


@given(first=some.none() | some.integers(0, 300), last=some.none() | some.integers(0, 300))
def test_asked_bytes_should_be_those_of_the_file(first: int | None, last: int | None) -> None:
    text = f"{'' if first is None else first}-{'' if last is None else last}"
    content = bytes(range(200))
    asked = asked_bytes(f"bytes={text}", len(content))
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        assert asked is None
        return
    if first is None:
        expected = content[-last:] if last else b""
    else:
        expected = content[first : None if last is None else last + 1]
    assert asked is not None
    assert content[asked.start : asked.stop] == expected
    assert len(asked) == len(expected)


@given(header=some.text() | some.from_regex(r"bytes=[0-9,\- ]*", fullmatch=True), size=some.integers(0, 999))
def test_asked_bytes_should_always_be_some_of_the_file(header: str, size: int) -> None:
    asked = asked_bytes(header, size)
    assert asked is None or not asked or 0 <= asked.start < asked.stop <= size


class CountedFile:
    """A large file that is never read from a disk."""

    size = 1000 * PIECE_BYTES
    modified_ns = 0

    def __init__(self) -> None:
        self.read = 0
        self.closed = False

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        for _ in range(start, end, PIECE_BYTES):
            assert not self.closed
            self.read += 1
            yield bytes(PIECE_BYTES)

    def copy_to(self, target: Path) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True


async def test_file_should_be_read_no_faster_than_it_is_taken_and_closed_when_the_client_goes() -> None:
    scope = {"type": "http", "method": "GET", "headers": [], "asgi": {"spec_version": "2.3"}}
    file = CountedFile()
    response = file_response(Request(scope), file, {}, FREE)
    gone, waiting = asyncio.Event(), asyncio.Event()
    bodies = 0

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal bodies
        bodies += message["type"] == "http.response.body"
        if bodies == 3:  # the client takes no more
            waiting.set()
            await asyncio.Event().wait()

    async with asyncio.timeout(10):
        answering = asyncio.create_task(response(scope, receive, send))
        await waiting.wait()
        await asyncio.wait({answering}, timeout=0.2)
        assert (file.read, file.closed) == (3, False)
        gone.set()
        await answering
    assert (file.read, file.closed) == (3, True)


def test_file_should_be_closed_when_the_connection_ends(films: DirectoryBackend, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(bytes(64 * MEBIBYTE))
    put(films, tmp_path / "film.mp4")
    path = films.path_of("film.mp4")
    with app_in_thread(app_with(films)) as address:
        with asking(address) as client:
            assert client.recv(1)
            assert descriptors_of(path) == 1
        deadline = time.monotonic() + 10
        while descriptors_of(path):
            assert time.monotonic() < deadline, "the file is still open"
            time.sleep(0.01)


def test_head_should_leave_the_connection_as_it_was(film: DirectoryBackend) -> None:
    with app_in_thread(app_with(film)) as address, httpx.Client(base_url=address) as client:
        for _ in range(2):
            head = client.head("/film.mp4")
            assert (head.headers["content-length"], head.content) == (str(SIZE), b"")
            assert client.get("/film.mp4", headers={"Range": "bytes=5-9"}).content == CONTENT[5:10]


def asking(address: str) -> Any:
    """A connection whose request has been sent, and whose answer nobody reads."""
    host, port = urlsplit(address).hostname, urlsplit(address).port
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    client.settimeout(10)
    client.connect((host, port))
    client.sendall(b"GET /film.mp4 HTTP/1.1\r\nHost: farm.test\r\n\r\n")
    return closing(client)


def test_clients_that_do_not_read_should_cost_little_memory(films: DirectoryBackend, tmp_path: Path) -> None:
    with (tmp_path / "film.mp4").open("wb") as file:
        file.truncate(100 * MEBIBYTE)
    put(films, tmp_path / "film.mp4")
    with (
        app_in_thread(app_with(films)) as address,
        watched_memory() as growth,
        asking(address),
        asking(address),
        asking(address),
        # While somebody else gets all of it, they could have had it too.
        httpx.stream("GET", f"{address}/film.mp4", timeout=30) as answer,
    ):
        assert sum(len(data) for data in answer.iter_bytes()) == 100 * MEBIBYTE
    assert growth.bytes <= 32 * MEBIBYTE


def test_damage_should_break_the_answer_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    films = EncryptedDirectoryBackend(tmp_path / "films", SECRET)
    (tmp_path / "film.mp4").write_bytes(CONTENT)
    put(films, tmp_path / "film.mp4")
    with films.path_of("film.mp4").open("r+b") as file:
        file.seek(PIECE_BYTES + CHUNK_BYTES)
        file.write(b"damage")
    with app_in_thread(app_with(films)) as address:
        url = f"{address}/film.mp4"
        begin = httpx.get(url, headers={"Range": f"bytes=0-{PIECE_BYTES - 1}"})
        assert (begin.status_code, begin.content) == (206, CONTENT[:PIECE_BYTES])
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            httpx.get(url)
    assert "film.mp4 is damaged" in caplog.text
    assert SECRET.decode() not in caplog.text


def test_video_should_play_and_seek_over_http(films: DirectoryBackend, tmp_path: Path) -> None:
    video = tmp_path / "film.mp4"
    subprocess.run(
        [
            *("ffmpeg", "-loglevel", "error"),
            *("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30:duration=20"),
            *("-c:v", "libx264", "-preset", "ultrafast", "-g", "60", "-pix_fmt", "yuv420p", str(video)),
        ],
        check=True,
        timeout=60,
    )
    put(films, video)
    # Its index is at the end, so it cannot be opened but by ranges.
    content = video.read_bytes()
    assert content.index(b"moov") > content.index(b"mdat")
    with app_in_thread(app_with(films)) as address, av.open(f"{address}/film.mp4") as source:
        stream = source.streams.video[0]
        for second in (15, 3, 11):
            source.seek(second * 1_000_000)
            frame = next(source.decode(stream))
            assert second - 2 <= float(frame.time or 0) <= second
        source.seek(0)
        assert sum(1 for _ in source.decode(stream)) == 600
