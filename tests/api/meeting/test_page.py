"""The demo meeting in a real Chromium: what it shows and plays has really gone through WebRTC."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio
import uvicorn
from playwright.async_api import Browser, ConsoleMessage, Page, ViewportSize, async_playwright
from starlette.applications import Starlette

from recording_farm.api.meeting.page import meeting_routes
from testkit.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Every participant says hello in the first seconds; the rest is for a busy machine, which encodes and decodes
# four videos in software beside the other tests.
HEARD_TIMEOUT = 30.0
START_TIMEOUT = 30.0

VIDEOS = """() => demoMeeting.participants.map(({ video }) => ({
    width: video.videoWidth, time: video.currentTime,
    frames: video.getVideoPlaybackQuality().totalVideoFrames, muted: video.muted }))"""
SOUND_ENERGY = """() => Promise.all(demoMeeting.participants.map(async ({ connection }) => {
    const stats = [...(await connection.receiver.getStats()).values()];
    return stats.find((s) => s.type === "inbound-rtp" && s.kind === "audio").totalAudioEnergy; }))"""
OVERFLOW = """() => [document, document.querySelector("iframe").contentDocument].map(
    ({ scrollingElement: e }) => [e.scrollWidth - e.clientWidth, e.scrollHeight - e.clientHeight])"""
OUTSIDE = """() => [...document.querySelectorAll("header, .chip, .tile, .plate, iframe")].filter((shown) => {
    const { left, top, right, bottom } = shown.getBoundingClientRect();
    return left < 0 || top < 0 || right > innerWidth + 0.5 || bottom > innerHeight + 0.5; }).length"""


class Visit:
    """One visit to a meeting, and what its page has said."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.logs: list[str] = []
        self.errors: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _hear(self, message: ConsoleMessage) -> None:
        (self.errors if message.type in ("error", "warning") else self.logs).append(message.text)

    async def said(self, text: str) -> None:
        """Wait until the page has printed exactly `text`."""
        await until(lambda: text in self.logs, START_TIMEOUT, f"{text} (errors: {self.errors})")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address() -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=meeting_routes), log_level="warning", lifespan="off", ws="none")
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listener.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            # Muted, as Playwright would have it, there is no sound to be measured.
            ignore_default_args=["--mute-audio"],
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
        )
        try:
            yield browser
        finally:
            await browser.close()


async def visit(browser: Browser, url: str, width: int = 1280, height: int = 720) -> Visit:
    page = await browser.new_page(viewport=ViewportSize(width=width, height=height))
    visited = Visit(page)
    await page.goto(url)
    await visited.said("START_RECORDING")
    return visited


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def meeting(browser: Browser, address: str) -> AsyncIterator[Visit]:
    visited = await visit(browser, f"{address}/meet/weekly?demo&layout=grid&seconds=1.5")
    yield visited
    await visited.page.close()


async def test_page_should_play_four_decoded_videos(meeting: Visit) -> None:
    before: list[dict[str, Any]] = await meeting.page.evaluate(VIDEOS)
    await asyncio.sleep(1)
    after: list[dict[str, Any]] = await meeting.page.evaluate(VIDEOS)

    assert len(before) == len(after) == 4
    for earlier, later in zip(before, after, strict=True):
        assert later["width"] > 0
        assert later["time"] > earlier["time"]
        assert later["frames"] > earlier["frames"]
        assert not later["muted"]


async def test_page_should_announce_start_and_end_once(meeting: Visit) -> None:
    await meeting.said("END_RECORDING")

    assert meeting.logs == ["START_RECORDING", "END_RECORDING"]


async def test_page_should_let_every_participant_be_heard(meeting: Visit) -> None:
    async def heard() -> bool:
        energies: list[float] = await meeting.page.evaluate(SOUND_ENERGY)
        return len(energies) == 4 and min(energies) > 1e-3

    await until(heard, HEARD_TIMEOUT, "sound of all four")


async def test_page_should_mark_who_is_speaking(meeting: Visit) -> None:
    async def marked() -> bool:
        return bool(await meeting.page.locator(".tile.speaking").count())

    await until(marked, HEARD_TIMEOUT, "a tile with the speaking border")


async def test_page_should_log_no_errors(meeting: Visit) -> None:
    assert meeting.errors == []


@pytest.mark.parametrize("layout", ["grid", "spotlight"])
async def test_page_should_fit_the_viewport_in_layout(browser: Browser, address: str, layout: str) -> None:
    visited = await visit(browser, f"{address}/meet/fit?demo&layout={layout}")

    try:
        assert await visited.page.locator(f"#people[data-layout={layout}]").count() == 1
        for width, height in [(1280, 720), (720, 1280), (320, 180), (1920, 1080)]:
            await visited.page.set_viewport_size(ViewportSize(width=width, height=height))
            assert await visited.page.evaluate(OVERFLOW) == [[0, 0], [0, 0]]
            assert await visited.page.evaluate(OUTSIDE) == 0
        assert visited.errors == []
    finally:
        await visited.page.close()


async def test_page_should_show_a_hostile_id_as_text(browser: Browser, address: str) -> None:
    hostile = '"><script>console.error(1)</script><img src=x onerror=console.error(2)>/…/李雷 %'
    visited = await visit(browser, f"{address}/meet/{quote(hostile, safe='')}?demo")

    try:
        assert await visited.page.locator("#meeting-id").text_content() == hostile
        assert await visited.page.locator("#meeting-id > *").count() == 0
        assert hostile in await visited.page.title()
        assert visited.errors == []
    finally:
        await visited.page.close()


async def test_page_should_reconnect_when_a_connection_is_lost(browser: Browser, address: str) -> None:
    visited = await visit(browser, f"{address}/meet/broken?demo")

    async def back() -> bool:
        connected: bool = await visited.page.evaluate(
            """() => demoMeeting.participants[0].connection.attempts > 1 &&
                demoMeeting.participants[0].connection.receiver?.connectionState === "connected" &&
                document.getElementById("banner").hidden"""
        )
        return connected

    try:
        await visited.page.evaluate("demoMeeting.participants[0].connection.sender.close()")
        await visited.page.locator("#banner", has_text="Connection problem").wait_for()
        await until(back, START_TIMEOUT, f"a new connection (errors: {visited.errors})")
        assert any("trying again" in error for error in visited.errors)
        assert visited.logs.count("START_RECORDING") == 1
    finally:
        await visited.page.close()


async def test_routes_should_answer_with_security_headers(address: str) -> None:
    async with httpx.AsyncClient(base_url=address) as client:
        page = await client.get("/meet/any%2Fthing?demo")
        script = await client.get("/meet-assets/demo/demo.js")
        elsewhere = await client.get("/meet-assets/%2e%2e/meeting.py")

    assert page.status_code == script.status_code == 200
    assert elsewhere.status_code == 404
    assert page.headers["cache-control"] == "no-store"
    assert script.headers["content-type"].startswith("text/javascript")
    for answer in (page, script):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/meet", "/meet/", "/meet/?layout=spotlight"])
async def test_meet_should_redirect_to_a_new_meeting(address: str, path: str) -> None:
    async with httpx.AsyncClient(base_url=address) as client:
        answers = [await client.get(path) for _ in range(2)]

    places = [answer.headers["location"] for answer in answers]
    assert [answer.status_code for answer in answers] == [303, 303]
    assert places[0] != places[1]
    for place in places:
        assert re.fullmatch(r"/meet/[a-z]{4}-[a-z]{4}-[a-z]{4}(\?layout=spotlight)?", place)
        assert ("?layout=spotlight" in place) == ("?" in path)


@pytest.mark.parametrize("meeting_id", ["x" * 129, "%00", "%20", "%2e%2e"])
async def test_bad_meeting_id_should_get_a_page_that_says_so(address: str, meeting_id: str) -> None:
    async with httpx.AsyncClient(base_url=address) as client:
        answer = await client.get(f"/meet/{meeting_id}")

    assert answer.status_code == 404
    assert "This is not a meeting address" in answer.text
    assert "content-security-policy" in answer.headers
