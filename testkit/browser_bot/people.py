"""People in the built-in meeting: headless Chromiums, each seen as one color and heard as one tone."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, Playwright

RGB = tuple[int, int, int]

SCREEN: RGB = (0, 136, 0)
"""What Chromium's fake screen mostly shows."""


@dataclass(frozen=True)
class Look:
    """How somebody looks and sounds: a name, a color and a tone in Hz."""

    name: str
    color: RGB
    tone: int


def _devices(look: Look, directory: Path) -> tuple[Path, Path]:
    """A file for the camera and one for the microphone."""
    camera, microphone = directory / f"{look.name}.y4m", directory / f"{look.name}.wav"
    color = "0x{:02x}{:02x}{:02x}".format(*look.color)
    # The tone swells four times a second: what sounds the same for long is noise, and browsers remove it.
    tone = f"aevalsrc='0.5*sin(2*PI*{look.tone}*t)*pow(sin(2*PI*2*t)\\,2)':s=48000:d=10"
    for source, options, file in (
        (f"color=c={color}:s=640x360:r=15:d=1", ["-pix_fmt", "yuv420p"], camera),
        (tone, [], microphone),
    ):
        command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, *options, str(file)]
        subprocess.run(command, check=True, timeout=60)
    return camera, microphone


@contextmanager
def somebody(playwright: Playwright, look: Look, directory: Path) -> Iterator[Page]:
    """A page in a browser of somebody's own; close it and they are gone."""
    camera, microphone = _devices(look, directory)
    browser = playwright.chromium.launch(
        executable_path="/usr/bin/chromium",
        ignore_default_args=["--mute-audio"],
        args=[
            "--no-sandbox",
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-video-capture={camera}",
            f"--use-file-for-fake-audio-capture={microphone}",
            "--autoplay-policy=no-user-gesture-required",
            "--allow-loopback-in-peer-connection",
        ],
        timeout=60_000,
    )
    try:
        page = browser.new_context().new_page()
        page.set_default_timeout(60_000)
        yield page
    finally:
        browser.close()


def join(page: Page, url: str, look: Look) -> None:
    """Go through the lobby, with camera and microphone."""
    page.goto(url)
    page.locator("#lobby-video[aria-pressed=true]").wait_for()
    page.locator("#lobby-audio[aria-pressed=true]").wait_for()
    page.fill("#name", look.name)
    page.click("#join")
    page.locator("#stage .tile.own").wait_for()
