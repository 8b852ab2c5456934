"""People in the meeting, in browsers of their own: what one does, the other sees."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect, sync_playwright

from recording_farm.farm.config.settings import Settings
from testkit.api.serving import served_in_thread
from testkit.browser_bot.people import Look, join, somebody

ADA = Look("Ada", (200, 30, 30), 500)
SOREN = Look("Søren", (30, 60, 200), 1300)
SECONDS = 60_000

PICTURE = """() => { const video = document.querySelector(".tile:not(.own):not(.screen) video");
    return video.videoWidth > 0 && !video.paused; }"""


@pytest.fixture
def two(settings: Settings, tmp_path: Path) -> Iterator[tuple[Page, Page]]:
    """Two people who see each other."""
    expect.set_options(timeout=SECONDS)
    with (
        served_in_thread(settings) as address,
        sync_playwright() as playwright,
        somebody(playwright, ADA, tmp_path) as ada,
        somebody(playwright, SOREN, tmp_path) as soren,
    ):
        for page, look in ((ada, ADA), (soren, SOREN)):
            join(page, f"{address}/meet/two", look)
        for page in (ada, soren):
            expect(page.locator(".tile:not(.own)")).to_have_count(1)
        yield ada, soren


@pytest.mark.timeout(400)
def test_people_should_see_what_others_do(two: tuple[Page, Page]) -> None:
    ada, soren = two
    other = ada.locator(".tile:not(.own):not(.screen)")
    expect(other.locator(".name")).to_have_text(SOREN.name)
    # Heard is who speaks: the border says that sound has come.
    expect(ada.locator(".tile.speaking")).to_have_count(1)
    deadline = time.monotonic() + SECONDS / 1000
    while not ada.evaluate(PICTURE):
        assert time.monotonic() < deadline, "no picture has come"
        ada.wait_for_timeout(100)

    soren.click("#audio")
    expect(ada.locator(".tile.muted:not(.own)")).to_have_count(1)
    expect(ada.locator(".tile.speaking")).to_have_count(0)
    soren.click("#audio")
    expect(ada.locator(".tile.speaking")).to_have_count(1)

    soren.click("#video")
    expect(other.locator(".avatar")).to_be_visible()
    soren.click("#video")
    expect(other.locator(".avatar")).to_be_hidden()

    # Both at once: their offers may meet on the way.
    ada.click("#share")
    soren.click("#share")
    for page in (ada, soren):
        expect(page.locator(".tile.screen")).to_have_count(2)
    ada.click("#share")
    soren.click("#share")
    for page in (ada, soren):
        expect(page.locator(".tile.screen")).to_have_count(0)

    ada.click("#layout-switch")
    large = ada.locator(".tile:not(.own)").bounding_box()
    assert large is not None
    assert large["width"] > 700

    soren.click("#leave")
    expect(ada.locator(".tile:not(.own)")).to_have_count(0)
    expect(ada.locator("#count")).to_have_text("1")
    soren.click("#again")
    soren.click("#join")
    expect(other.locator(".name")).to_have_text(SOREN.name)


COUNT_REMOVED = """() => { globalThis.removed = 0;
    new MutationObserver((changes) => changes.forEach(({ removedNodes }) => (removed += removedNodes.length)))
        .observe(document.getElementById("stage"), { childList: true }); }"""
PLAYED = """() => document.querySelector(".tile:not(.own) video").currentTime"""


@pytest.mark.timeout(300)
def test_tiles_should_stay_while_signaling_reconnects(settings: Settings, tmp_path: Path) -> None:
    connections: list[WebSocketRoute] = []

    def pass_on(people: WebSocketRoute) -> None:
        people.connect_to_server()
        connections.append(people)

    with (
        served_in_thread(settings) as address,
        sync_playwright() as playwright,
        somebody(playwright, ADA, tmp_path) as ada,
        somebody(playwright, SOREN, tmp_path) as soren,
    ):
        ada.route_web_socket("**/meet-rooms/people/*", pass_on)
        for page, look in ((ada, ADA), (soren, SOREN)):
            join(page, f"{address}/meet/stalled", look)
        for page in (ada, soren):
            page.wait_for_function(PICTURE, timeout=SECONDS)
            page.evaluate(COUNT_REMOVED)
        connections[0].close(code=4002)
        expect(ada.locator("#banner")).to_have_text("Connection lost. Reconnecting…", timeout=SECONDS)
        expect(ada.locator("#banner")).to_be_hidden(timeout=SECONDS)
        # What one does still reaches the other.
        ada.click("#video")
        expect(soren.locator(".tile.off:not(.own)")).to_have_count(1, timeout=SECONDS)
        assert [page.evaluate("removed") for page in (ada, soren)] == [0, 0]
        played = ada.evaluate(PLAYED)
        ada.wait_for_function(f"({PLAYED})() > {played}", timeout=SECONDS)
    assert len(connections) == 2


@pytest.mark.timeout(300)
def test_plugin_should_open_though_the_connection_was_dead_when_it_was_asked_for(
    settings: Settings, tmp_path: Path
) -> None:
    connections: list[WebSocketRoute] = []
    swallows = False

    def pass_on(people: WebSocketRoute) -> None:
        room = people.connect_to_server()
        people.on_message(lambda message: None if swallows else room.send(message))
        connections.append(people)

    with (
        served_in_thread(settings) as address,
        sync_playwright() as playwright,
        somebody(playwright, ADA, tmp_path) as ada,
    ):
        ada.route_web_socket("**/meet-rooms/people/*", pass_on)
        join(ada, f"{address}/meet/alone", ADA)
        expect(ada.locator("#count")).to_have_text("1")
        swallows = True
        ada.click("#whiteboard")
        ada.wait_for_timeout(500)
        expect(ada.locator("#plugin[data-kind=whiteboard]")).to_have_count(0)
        swallows = False
        connections[0].close()
        expect(ada.locator("#plugin[data-kind=whiteboard]")).to_be_visible(timeout=SECONDS)
    assert len(connections) == 2


def test_room_that_refuses_the_recorder_should_say_so_to_it(settings: Settings) -> None:
    with served_in_thread(settings) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        try:
            page = browser.new_page()
            with page.expect_console_message(
                lambda line: line.text.startswith("REFUSE_RECORDING: "), timeout=SECONDS
            ) as refusal:
                page.goto(f"{address}/meet/room#recorder=none")
            assert "token" in refusal.value.text
        finally:
            browser.close()
