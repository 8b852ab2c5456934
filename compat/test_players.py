"""Players and what editors read files with, on a recording that was paused: MP4 and WebM."""

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from compat.recorded import download
from testkit.pages import FIDELITY_PAGE, serve_pages
from testkit.running_farm import RunningFarm

SECONDS: Final = 3.0
"""Before the pause, and behind it."""

PLAY_SECONDS: Final = 60.0

PROGRAMS: Final[dict[str, Sequence[str]]] = {
    "ffmpeg": ("ffmpeg", "-v", "error", "-xerror", "-i", "{file}", "-f", "null", "-"),
    "mpv": ("mpv", "--no-config", "--vo=null", "--ao=null", "--untimed", "--msg-level=all=error", "{file}"),
    "gstreamer": (
        *("gst-launch-1.0", "-q", "playbin", "uri=file://{file}"),
        *("video-sink=fakesink", "audio-sink=fakesink"),
    ),
}
"""How each program plays a file to its end; it says nothing then, and ends with 0."""

_PAGE: Final = """
<!doctype html><video id="v" muted autoplay src="{url}"></video><script>
const tell = (what) => fetch("/told", {{ method: "POST", body: JSON.stringify({{
  what, seconds: v.currentTime, duration: v.duration, width: v.videoWidth,
  error: v.error && v.error.message }}) }});
v.playbackRate = 4;
v.onended = () => tell("ended");
v.onerror = () => tell("error");
</script>
"""


@pytest.fixture(scope="module", params=["H264", "VP8"])
def paused(request: pytest.FixtureRequest, farm: RunningFarm) -> dict[str, Any]:
    """A recording that was paused."""
    size = {"codec": request.param, "width": 640, "height": 360}
    with serve_pages(FIDELITY_PAGE.parent) as pages:
        url = f"{pages}/page.html"
        recording = farm.start(meeting_id="players", url=url, page_contract="plain", video_config=size)
        farm.wait_for(recording["id"], "RECORDING")
        time.sleep(SECONDS)
        for action, state in (("pause", "PAUSED"), ("resume", "RECORDING")):
            farm.order(recording["id"], action)
            farm.wait_for(recording["id"], state)
        time.sleep(SECONDS)
        farm.order(recording["id"], "stop")
        return farm.wait_for(recording["id"], "UPLOADED")


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_should_play_it_to_its_end(program: str, paused: dict[str, Any], tmp_path: Path) -> None:
    file = download(paused, tmp_path)
    command = [word.format(file=file) for word in PROGRAMS[program]]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PLAY_SECONDS, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_mediainfo_should_find_one_frame_rate(paused: dict[str, Any], tmp_path: Path) -> None:
    """It decides as editors do."""
    command = ["mediainfo", "--Output=JSON", str(download(paused, tmp_path))]
    done = subprocess.run(command, capture_output=True, check=True, timeout=PLAY_SECONDS)
    (video,) = (each for each in json.loads(done.stdout)["media"]["track"] if each["@type"] == "Video")
    assert (video["FrameRate_Mode"], video["FrameRate"]) == ("CFR", "30.000")


@pytest.mark.parametrize("browser", ["chromium", "firefox"])
def test_browser_should_play_it_by_its_link(browser: str, paused: dict[str, Any], tmp_path: Path) -> None:
    command = {"chromium": _chromium, "firefox": _firefox}[browser]
    told = _told_by(command, paused["download_url"], tmp_path)
    assert (told["what"], told["error"]) == ("ended", None)
    assert told["seconds"] == pytest.approx(told["duration"], abs=0.1)


def _chromium(url: str, directory: Path) -> list[str]:
    profile = f"--user-data-dir={directory / 'chromium'}"
    return ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", profile, url]


def _firefox(url: str, directory: Path) -> list[str]:
    return ["firefox-esr", "--headless", "--no-remote", "--profile", str(directory / "firefox"), url]


def _told_by(browser: Callable[[str, Path], list[str]], url: str, directory: Path) -> dict[str, Any]:
    """What a page in a browser tells of playing the file at `url`."""
    told: queue.Queue[dict[str, Any]] = queue.Queue()
    (directory / "firefox").mkdir(exist_ok=True)
    with _page(_PAGE.format(url=url), told) as page:
        process = subprocess.Popen(
            browser(page, directory),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin", "HOME": str(directory), "TMPDIR": str(directory)},
        )  # fmt: skip
        try:
            return told.get(timeout=PLAY_SECONDS)
        except queue.Empty:
            raise AssertionError(f"the page told nothing within {PLAY_SECONDS:.0f} s") from None
        finally:
            process.terminate()
            process.wait(30)


class _Player(BaseHTTPRequestHandler):
    def __init__(self, *arguments: Any, page: str, told: "queue.Queue[dict[str, Any]]") -> None:
        self._page, self._told = page, told
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self._answer(self._page.encode() if self.path == "/" else b"")

    def do_POST(self) -> None:
        self._told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(b"")

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@contextmanager
def _page(page: str, told: "queue.Queue[dict[str, Any]]") -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Player, page=page, told=told))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
