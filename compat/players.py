"""Players and what editors read files with, on a recording that was paused: MP4 and WebM."""

import json
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx

from compat.tried import Tried, debian_version
from tests.end_to_end.conftest import Farm, running_farm
from tests.pages import FIDELITY_PAGE, serve_pages

SECONDS: Final = 3.0
"""Before the pause, and behind it."""

PLAY_SECONDS: Final = 60.0

PROGRAMS: Final[dict[str, tuple[str, Sequence[str]]]] = {
    "ffmpeg": ("ffmpeg", ("ffmpeg", "-v", "error", "-xerror", "-i", "{file}", "-f", "null", "-")),
    "mpv": (
        "mpv",
        ("mpv", "--no-config", "--vo=null", "--ao=null", "--untimed", "--msg-level=all=error", "{file}"),
    ),
    "GStreamer": (
        "gstreamer1.0-tools",
        (
            *("gst-launch-1.0", "-q", "playbin", "uri=file://{file}"),
            *("video-sink=fakesink", "audio-sink=fakesink"),
        ),
    ),
}
"""Of each program its package and how it plays a file to the end; it says nothing, and ends with 0."""

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


def run(directory: Path) -> Iterator[Tried]:
    """Play both files with everything."""
    with serve_pages(FIDELITY_PAGE.parent) as pages, running_farm(directory / "data") as farm:
        for codec in ("H264", "VP8"):
            recording = _paused_recording(farm, f"{pages}/page.html", codec)
            file = directory / recording["output_file_name"]
            file.write_bytes(httpx.get(recording["download_url"], timeout=30).content)
            kind = "MP4" if codec == "H264" else "WebM"
            for name, (package, command) in PROGRAMS.items():
                yield _played(f"{name}, {kind}", package, command, file)
            yield _media_info(kind, file)
            for name, package, browser in (
                ("Chromium", "chromium", _chromium),
                ("Firefox", "firefox-esr", _firefox),
            ):
                told = _told_by(browser, recording["download_url"], directory)
                works = told.get("what") == "ended"
                yield Tried(f"{name}, {kind} by its link", debian_version(package), works, _in_words(told))


def _paused_recording(farm: Farm, page: str, codec: str) -> dict[str, Any]:
    size = {"codec": codec, "width": 640, "height": 360}
    recording = farm.start(meeting_id="players", url=page, page_contract="plain", video_config=size)
    farm.wait_for(recording["id"], "RECORDING")
    threading.Event().wait(SECONDS)
    for action, state in (("pause", "PAUSED"), ("resume", "RECORDING")):
        farm.order(recording["id"], action)
        farm.wait_for(recording["id"], state)
    threading.Event().wait(SECONDS)
    farm.order(recording["id"], "stop")
    return farm.wait_for(recording["id"], "UPLOADED")


def _played(name: str, package: str, command: Sequence[str], file: Path) -> Tried:
    words = [word.format(file=file) for word in command]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=PLAY_SECONDS, stdin=subprocess.DEVNULL
    )
    said = done.stderr.strip().splitlines()
    works = done.returncode == 0 and not said
    return Tried(name, debian_version(package), works, "played to its end" if works else said[-1][:200])


def _media_info(kind: str, file: Path) -> Tried:
    """As editors do, it decides whether a file has one frame rate."""
    command = ["mediainfo", "--Output=JSON", str(file)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=PLAY_SECONDS)
    (video,) = (each for each in json.loads(done.stdout)["media"]["track"] if each["@type"] == "Video")
    rate = f"{video.get('FrameRate_Mode')} {video.get('FrameRate')} fps, also behind a pause"
    works = (video.get("FrameRate_Mode"), video.get("FrameRate")) == ("CFR", "30.000")
    return Tried(f"MediaInfo, {kind}", debian_version("mediainfo"), works, rate)


def _in_words(told: dict[str, Any]) -> str:
    if not told:
        return f"it told nothing within {PLAY_SECONDS:.0f} s"
    if told["what"] == "error":
        return str(told["error"])
    return f"played to its end, {told['seconds']:.1f} of {told['duration']:.1f} s"


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
            return {}
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
