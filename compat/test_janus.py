"""Janus from Debian's packages: its own pages for a video room and for a stream, recorded."""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import sync_playwright

from compat.recorded import download, share_of
from testkit.browser_bot.people import RGB, Look, somebody
from testkit.network.ports import free_port
from testkit.running_farm import RunningFarm

DEMOS: Final = Path("/usr/share/janus/demos")
SCRIPTS: Final = Path("/usr/share/javascript")
SECONDS: Final = 6
COLOR: Final[RGB] = (180, 40, 160)
SHARE: Final = 0.02
"""Of the frame, at least, that the other's picture fills on these pages."""

# The pages' own way in; what a person clicks.
VIDEO_ROOM: Final[dict[str, Any]] = {
    "join": [{"click": "#start"}, {"fill": "#username", "text": "recorder"}, {"click": "#register"}],
    "wait_for": "#videoremote1 video",
    "settle_seconds": 2,
}
STREAM: Final[dict[str, Any]] = {
    "join": [
        {"click": "#start"},
        {"click": "#streamset"},
        {"click": "#streamslist a"},
        {"click": "#watch"},
    ],
    "wait_for": "#mstream0 video >> visible=true",
    "settle_seconds": 3,
}

_MAIN: Final = """
general: {{ configs_folder = "{directory}", debug_level = 3, session_timeout = 60, log_to_stdout = true,
            server_name = "compat" }}
nat: {{ ice_lite = false }}
media: {{ rtp_port_range = "{first}-{last}" }}
"""
_HTTP: Final = """
general: {{ json = "compact", base_path = "/janus", http = true, port = {port}, ip = "127.0.0.1",
            https = false }}
admin: {{ admin_http = false }}
"""
_ROOM: Final = """
room-1234: {{ description = "Demo", publishers = 6, bitrate = 512000, fir_freq = 10, videocodec = "vp8" }}
"""
_STREAMS: Final = """
demo: {{ type = "rtp", id = 1, description = "Demo", audio = true, video = true, audioport = {audio},
         audiopt = 111, audiocodec = "opus", videoport = {video}, videopt = 100, videocodec = "vp8" }}
"""
_SETTINGS: Final = """
var server = "http://127.0.0.1:{port}/janus";
var iceServers = null, token = "", apisecret = "";
"""


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {name: free_port() for name in ("port", "audio", "video")}


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int]) -> Iterator[str]:
    """Where the pages of a running Janus are."""
    with (
        _janus(tmp_path_factory.mktemp("janus"), ports),
        _demos(_SETTINGS.format(**ports)) as url,
    ):
        yield url


def test_video_room_should_be_joined_and_the_others_be_seen(
    farm: RunningFarm, demos: str, tmp_path: Path
) -> None:
    look = Look("somebody", COLOR, 440)
    url = f"{demos}/videoroomtest.html"
    with sync_playwright() as playwright, somebody(playwright, look, tmp_path) as page:
        page.goto(url)
        page.click("#start")
        page.fill("#username", look.name)
        page.click("#register")
        page.wait_for_selector("#videolocal video")
        file = _recorded(farm, url, VIDEO_ROOM, tmp_path)
    assert share_of(file, COLOR) >= SHARE


def test_stream_should_be_seen(farm: RunningFarm, demos: str, ports: dict[str, int], tmp_path: Path) -> None:
    with _streaming(ports):
        file = _recorded(farm, f"{demos}/streamingtest.html", STREAM, tmp_path)
    assert share_of(file, COLOR) >= SHARE


def _recorded(farm: RunningFarm, url: str, hints: dict[str, Any], directory: Path) -> Path:
    size = {"width": 1280, "height": 720}
    wanted = {"url": url, "page_hints": hints, "video_config": size, "max_seconds": SECONDS}
    recording = farm.start(meeting_id="janus", **wanted)
    return download(farm.wait_for(recording["id"], "UPLOADED", timeout=120), directory)


@contextmanager
def _janus(directory: Path, ports: dict[str, int]) -> Iterator[None]:
    """A Janus of our own on the loopback."""
    first = 20_000 + ports["port"] % 10_000
    for name, text in (
        ("janus", _MAIN.format(directory=directory, first=first, last=first + 400)),
        ("janus.transport.http", _HTTP.format(**ports)),
        ("janus.plugin.videoroom", _ROOM.format()),
        ("janus.plugin.streaming", _STREAMS.format(**ports)),
    ):
        (directory / f"{name}.jcfg").write_text(text)
    command = ["janus", "-F", str(directory), "-C", str(directory / "janus.jcfg")]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while not _answers(f"http://127.0.0.1:{ports['port']}/janus/info"):
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline, (directory / "log").read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


class _Demos(SimpleHTTPRequestHandler):
    """Serves the pages as Debian lays them out, with settings of ours."""

    def __init__(self, *arguments: Any, settings: str, **more: Any) -> None:
        self._settings = settings
        super().__init__(*arguments, directory=str(DEMOS), **more)

    def translate_path(self, path: str) -> str:
        name = path.partition("?")[0].lstrip("/")
        if name.startswith("javascript/"):
            return str(SCRIPTS / Path(name).relative_to("javascript"))
        return super().translate_path(path)

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/settings.js":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript")
        self.end_headers()
        self.wfile.write(self._settings.encode())

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@contextmanager
def _demos(settings: str) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Demos, settings=settings))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def _streaming(ports: dict[str, int]) -> Iterator[None]:
    """What Janus' stream shows: the color, and a tone."""
    color = "0x{:02x}{:02x}{:02x}".format(*COLOR)
    picture = ["-re", "-f", "lavfi", "-i", f"color=c={color}:s=640x360:r=15"]
    tone = ["-re", "-f", "lavfi", "-i", "sine=440:sample_rate=48000"]
    video = ["-map", "0:v", "-c:v", "libvpx", "-deadline", "realtime", "-g", "15", "-payload_type", "100"]
    audio = ["-map", "1:a", "-c:a", "libopus", "-payload_type", "111"]
    to_video = ["-f", "rtp", f"rtp://127.0.0.1:{ports['video']}"]
    to_audio = ["-f", "rtp", f"rtp://127.0.0.1:{ports['audio']}"]
    command = ["ffmpeg", "-v", "error", *picture, *tone, *video, *to_video, *audio, *to_audio]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)
