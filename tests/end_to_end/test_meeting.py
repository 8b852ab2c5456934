"""The built-in meeting with people in it, recorded through the service: all of it is found in the file.

Each person is a Chromium of their own with a camera of one color and a microphone of one tone.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Page, sync_playwright

from testkit.browser_bot.people import RGB, SCREEN, Look, join, somebody
from testkit.running_farm import RunningFarm, running_farm

ADA = Look("Ada", (200, 30, 30), 500)
SOREN = Look("Søren", (30, 60, 200), 1300)
PAGE: RGB = (120, 20, 140)
BOARD: RGB = (251, 250, 246)
GREEN_INK: RGB = (31, 157, 97)

HELD_SECONDS = 2.5
"""How long each scene is held; the machine may be slow, and a phase of the file must be clear."""

PAGE_HOST = "127.0.0.2"
"""Where the shared page is: the farm is told to allow it, and nothing else that is not public."""


@dataclass(frozen=True)
class Moment:
    """What the file shows and plays in one second of it."""

    picture: NDArray[np.uint8]
    sound: NDArray[np.float32]

    def shows(self, color: RGB, share: float = 0.02) -> bool:
        """Whether at least that share of the picture is nearly of a color."""
        distance = np.abs(self.picture.astype(int) - np.array(color)).max(axis=2)
        return bool((distance < 48).mean() >= share)

    def plays(self, tone: int) -> bool:
        """Whether there is a tone of so many Hz."""
        spectrum = np.abs(np.fft.rfft(self.sound * np.hanning(len(self.sound))))
        near = spectrum[tone - 8 : tone + 9].max()
        return bool(near > 30 * np.median(spectrum[200:4000]) and near > 20)

    def has(self, look: Look) -> bool:
        """Whether somebody is seen and heard."""
        return self.shows(look.color) and self.plays(look.tone)

    def lacks(self, look: Look) -> bool:
        """Whether somebody is neither seen nor heard."""
        return not self.shows(look.color, 0.005) and not self.plays(look.tone)


def moments(file: Path) -> list[Moment]:
    """The file, a second at a time."""
    pictures: list[tuple[float, NDArray[np.uint8]]] = []
    with av.open(str(file)) as source:
        for frame in source.decode(video=0):
            # The first one in the middle of each second or after it: any may be missing on a slow machine.
            if frame.time is not None and frame.time >= len(pictures) + 0.5:
                pictures.append((frame.time, frame.to_ndarray(format="rgb24").astype(np.uint8)))
    with av.open(str(file)) as source:
        rate = source.streams.audio[0].rate
        sound = np.concatenate(
            [frame.to_ndarray().astype(np.float32).mean(axis=0) for frame in source.decode(audio=0)]
        )
    around = [(picture, sound[max(0, int((time - 0.5) * rate)) :][:rate]) for time, picture in pictures]
    return [Moment(picture, heard) for picture, heard in around if len(heard) == rate]


@contextmanager
def page_of_one_color(directory: Path) -> Iterator[str]:
    """A page to share, at an address of its own."""
    html = f"<!doctype html><body style='background:rgb{PAGE}'>shared"
    (directory / "shared.html").write_text(html)
    server = ThreadingHTTPServer((PAGE_HOST, 0), partial(SimpleHTTPRequestHandler, directory=str(directory)))
    serving = Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://{PAGE_HOST}:{server.server_address[1]}/shared.html"
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


def others(page: Page) -> "Callable[[int], None]":
    """Wait until somebody sees so many others."""

    def wait(count: int) -> None:
        tiles = page.locator(".tile:not(.own):not(.screen)")
        deadline = time.monotonic() + 60
        while tiles.count() != count:
            assert time.monotonic() < deadline, f"{tiles.count()} others, not {count}"
            time.sleep(0.1)

    return wait


def draw(page: Page) -> None:
    """Draw thick lines on the whiteboard in green."""
    board = page.frame_locator("#plugin iframe")
    board.locator(".pen.green").click()
    box = board.locator("#board").bounding_box()
    assert box is not None
    for row in range(12):
        y = box["y"] + box["height"] * 0.3 + row * 4
        page.mouse.move(box["x"] + 40, y)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 40, y, steps=4)
        page.mouse.up()


def record_meeting(farm: RunningFarm, directory: Path, shared_page: str) -> Path:
    """Let the meeting happen; returns the file that was recorded of it by its own Record button."""
    base = farm.address
    farm.answer(farm.client.put("/v2/recording_config", json={"video_config": {"width": 640, "height": 360}}))
    link = farm.answer(farm.client.post("/v2/meetings/standup/host_link"))["url"]
    guest_link = f"{base}/meet/standup"

    def hold() -> None:
        time.sleep(HELD_SECONDS)

    with sync_playwright() as playwright, ExitStack() as people:
        host = people.enter_context(somebody(playwright, ADA, directory))
        join(host, link, ADA)
        host_sees = others(host)
        with somebody(playwright, SOREN, directory) as guest:
            join(guest, guest_link, SOREN)
            host_sees(1)
            host.click("#record")
            host.locator("#record[data-state=recording]").wait_for(timeout=120_000)
            guest.locator("#live").wait_for()
            # Nobody sees the recorder: neither tiles nor the count know of it.
            host_sees(1)
            assert host.locator("#count").inner_text() == "2"
            hold()
        # The guest's whole browser is gone.
        host_sees(0)
        hold()
        guest = people.enter_context(somebody(playwright, SOREN, directory))
        join(guest, guest_link, SOREN)
        host_sees(1)
        hold()
        guest.click("#share")
        host.locator(".tile.screen").wait_for()
        hold()
        guest.click("#share")
        host.locator(".tile.screen").wait_for(state="detached")
        host.click("#whiteboard")
        draw(host)
        hold()
        guest.click("#share-page")
        guest.fill("#page-url", shared_page)
        guest.keyboard.press("Enter")
        host.locator("#plugin[data-kind=page]").wait_for()
        hold()
        recording = farm.answer(farm.client.get("/v2/recordings/active-recording/standup"))
        host.click("#end")
        host.click("#end-agreed")
        guest.locator("#over").wait_for()
    ended = farm.wait_for(recording["id"], "UPLOADED", timeout=120)
    assert ended["stop_reason"]["reason"] == "PAGE_ENDED"
    return farm.download(ended, directory / "meeting.mp4")


# Three browsers and the recorder's want the machine for themselves: starved ones lose each other.
@pytest.mark.exact
@pytest.mark.timeout(600)
def test_meeting_should_be_recorded_as_people_saw_and_heard_it(tmp_path: Path) -> None:
    with (
        page_of_one_color(tmp_path) as shared_page,
        running_farm(tmp_path / "data", FARM_ALLOW_PRIVATE_ADDRESSES=PAGE_HOST) as farm,
    ):
        file = record_meeting(farm, tmp_path, shared_page)

    scenes: list[tuple[str, Callable[[Moment], bool]]] = [
        ("both are there", lambda now: now.has(ADA) and now.has(SOREN)),
        ("one has left", lambda now: now.has(ADA) and now.lacks(SOREN)),
        ("and is back", lambda now: now.has(ADA) and now.has(SOREN)),
        ("a screen is shared", lambda now: now.shows(SCREEN, 0.3) and now.has(SOREN)),
        (
            "somebody draws",
            lambda now: now.shows(BOARD, 0.2) and now.shows(GREEN_INK, 0.01) and now.plays(ADA.tone),
        ),
        ("a page is shared", lambda now: now.shows(PAGE, 0.3) and now.plays(SOREN.tone)),
    ]
    seen = iter(moments(file))
    for scene, holds in scenes:
        assert any(holds(moment) for moment in seen), f"not in the file, or not in this order: {scene}"
