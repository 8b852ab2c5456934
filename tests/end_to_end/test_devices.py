"""A page that nobody joins without devices, recorded by `farm record` in a language and a zone."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from testkit.pages import serve_pages

pytestmark = pytest.mark.long

PAGE = """<!doctype html><body style="margin:0"><script>
const around = [navigator.language, Intl.DateTimeFormat().resolvedOptions().timeZone].join();
navigator.mediaDevices.getUserMedia({audio: true, video: {width: 1280}}).then((stream) => {
  const sound = new AudioContext();
  sound.createMediaStreamSource(stream).connect(sound.destination);
  if (around === "de-AT,Europe/Vienna") document.body.style.background = "rgb(0, 200, 0)";
  console.log("START_RECORDING");
});
</script>"""
WIDTH, HEIGHT = 320, 180


def decoded(file: Path, *arguments: str) -> bytes:
    command = ["ffmpeg", "-v", "error", "-i", str(file), *arguments, "-"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=60).stdout


def test_devices_should_be_neither_seen_nor_heard_in_a_recording(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "room.html").write_text(PAGE)
    file = tmp_path / "room.mp4"
    with serve_pages(tmp_path / "pages") as url:
        command = [
            sys.executable,
            "-m",
            "recording_farm.farm.cli",
            "record",
            f"{url}/room.html",
            "--out",
            str(file),
        ]
        command += ["--seconds", "2", "--size", f"{WIDTH}x{HEIGHT}", "--contract", "console", "--json"]
        command += ["--locale", "de-AT", "--timezone", "Europe/Vienna"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["reason"] == "MAX_DURATION"
    samples = np.frombuffer(decoded(file, "-f", "s16le"), np.int16)
    assert samples.size > 48_000
    assert np.abs(samples).max() <= 1
    frames = decoded(file, "-f", "rawvideo", "-pix_fmt", "rgb24")
    pixels = np.frombuffer(frames, np.uint8).reshape(-1, HEIGHT, WIDTH, 3).astype(int)
    assert len(pixels) > 30
    # The page's green from corner to corner, in the last frame as in the first.
    assert np.abs(pixels[[0, -1]] - [0, 200, 0]).max() <= 12
