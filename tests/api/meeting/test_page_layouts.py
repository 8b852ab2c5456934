"""The meeting's layouts, with drawn participants, in a real Chromium."""

import itertools
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect, sync_playwright
from starlette.applications import Starlette

from recording_farm.api.meeting.page import meeting_routes
from testkit.api.serving import app_in_thread

STATES = [*(f"grid-{count}" for count in (1, 2, 4, 6, 9)), "spotlight", "screen", "whiteboard", "page"]
GRIDS = {"grid-1", "grid-4", "grid-6"}
"""What the grids of two and of nine show as well."""
SIZES = [(1280, 720), (720, 1280), (320, 180), (1920, 1080)]

SHOWN = """() => [...document.querySelectorAll("#stage .tile, #stage .plugin:not([hidden])")].map((shown) => {
    const { left, top, right, bottom } = shown.getBoundingClientRect();
    return { left, top, right, bottom, name: shown.querySelector(".name")?.textContent ?? "" }; })"""
OVERFLOW = """() => { const e = document.scrollingElement;
    return [e.scrollWidth - e.clientWidth, e.scrollHeight - e.clientHeight]; }"""
LAYOUT = """async ([count, width, height, gap]) => {
    const { grid } = await import("/meet-assets/layout.js");
    return grid(count, { left: 0, top: 0, width, height }, gap); }"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with app_in_thread(Starlette(routes=meeting_routes)) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    page.set_default_timeout(60_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type in ("error", "warning") else None)
    yield page
    page.close()
    assert errors == []


def show(page: Page, address: str, state: str, width: int = 1280, height: int = 720) -> None:
    page.set_viewport_size(ViewportSize(width=width, height=height))
    with page.expect_console_message(lambda line: line.text == "START_RECORDING"):
        page.goto(f"{address}/meet/layouts?state={state}")


def apart(one: dict[str, Any], other: dict[str, Any]) -> bool:
    across = one["right"] <= other["left"] or other["right"] <= one["left"]
    return bool(across or one["bottom"] <= other["top"] or other["bottom"] <= one["top"])


@pytest.mark.parametrize(
    "state", [pytest.param(state, marks=pytest.mark.long if state in GRIDS else ()) for state in STATES]
)
def test_state_should_fit_every_size_without_overlap(page: Page, address: str, state: str) -> None:
    show(page, address, state)
    for width, height in SIZES:
        page.set_viewport_size(ViewportSize(width=width, height=height))
        page.wait_for_function(
            "size => innerWidth === size[0] && innerHeight === size[1]", arg=[width, height]
        )
        page.evaluate("() => new Promise(requestAnimationFrame)")
        shown = page.evaluate(SHOWN)
        people = int(state[5:]) if state.startswith("grid") else None
        assert len(shown) == people or (people is None and len(shown) >= 4)
        for one in shown:
            assert one["left"] >= 0
            assert one["top"] >= 0
            assert one["right"] <= width
            assert one["bottom"] <= height
            # Whole pixels: a half one would blur an edge.
            assert all(float(one[edge]).is_integer() for edge in ("left", "top", "right", "bottom"))
        assert all(apart(one, other) for one, other in itertools.combinations(shown, 2))
        assert page.evaluate(OVERFLOW) == [0, 0]


def test_large_one_should_take_most_of_the_page(page: Page, address: str) -> None:
    for state in ("spotlight", "screen", "whiteboard", "page"):
        show(page, address, state)
        areas = sorted(
            (one["right"] - one["left"]) * (one["bottom"] - one["top"]) for one in page.evaluate(SHOWN)
        )
        assert areas[-1] > 0.6 * 1280 * 720
        assert areas[-1] > 5 * areas[-2]


@pytest.mark.long
@pytest.mark.parametrize("state", ["grid-4", "whiteboard"])
def test_state_should_look_the_same_each_time(page: Page, address: str, state: str) -> None:
    pictures = []
    for _ in range(2):
        show(page, address, state)
        pictures.append(page.screenshot())
    assert pictures[0] == pictures[1]


def test_grid_should_have_equal_tiles_in_centred_rows(page: Page, address: str) -> None:
    show(page, address, "grid-1")
    for count in range(1, 10):
        tiles = page.evaluate(LAYOUT, [count, 1260, 700, 10])
        assert len({(tile["width"], tile["height"]) for tile in tiles}) == 1
        assert 1.3 < tiles[0]["width"] / tiles[0]["height"] < 1.8
        for _, row in itertools.groupby(tiles, key=lambda tile: tile["top"]):
            in_row = list(row)
            left, right = in_row[0]["left"], 1260 - in_row[-1]["left"] - in_row[-1]["width"]
            assert abs(left - right) <= 1


def test_hostile_id_should_be_text_in_the_lobby(page: Page, address: str) -> None:
    hostile = '"><script>console.error(1)</script><img src=x onerror=console.error(2)>/…/李雷 %'
    page.goto(f"{address}/meet/{quote(hostile, safe='')}")
    page.locator("#lobby-form").wait_for()
    assert page.locator("#lobby .meeting-id").text_content() == hostile
    assert page.locator(".meeting-id > *").count() == 0
    assert hostile in page.title()


def test_meeting_should_be_worked_by_keyboard(page: Page, address: str) -> None:
    page.goto(f"{address}/meet/layouts?state=grid-2&controls")
    page.locator("#leave").wait_for()
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached[:6] == ["audio", "video", "share", "layout-switch", "whiteboard", "share-page"]
    assert "leave" in reached


def test_label_that_changes_should_have_no_pressed_state(page: Page, address: str) -> None:
    page.route_web_socket("**/meet-rooms/**", lambda _: None)
    page.goto(f"{address}/meet/layouts")
    page.fill("#name", "Ada")
    page.click("#join")
    for button, label in (("audio", "Unmute"), ("video", "Start camera"), ("share", "Share screen")):
        assert page.locator(f"#{button}").inner_text() == label
        assert page.locator(f"#{button}").get_attribute("aria-pressed") is None
    assert page.locator("#whiteboard").get_attribute("aria-pressed") == "false"


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (800, 600), (390, 844)])
def test_controls_should_fit_every_screen(page: Page, address: str, width: int, height: int) -> None:
    page.set_viewport_size(ViewportSize(width=width, height=height))
    page.goto(f"{address}/meet/layouts")
    page.locator("#lobby-form").wait_for()
    outside = """() => [...document.querySelectorAll("#lobby-form *, .controls button")].filter((each) => {
        const { left, right, width } = each.getBoundingClientRect();
        const card = each.closest(".card")?.getBoundingClientRect() ?? { left: 0, right: innerWidth };
        return width > 0 && (left < card.left || right > card.right); }).map((each) => each.id)"""
    assert page.evaluate(outside) == []
    for role in ("", "&host"):
        page.goto(f"{address}/meet/layouts?state=grid-2&controls{role}")
        page.locator("#leave").wait_for()
        assert page.evaluate(outside) == []
        tops = page.evaluate(
            """() => { const tops = {}; document.querySelectorAll(".controls button").forEach((each) => {
                const { top, width } = each.getBoundingClientRect();
                if (width > 0) (tops[Math.round(top)] ??= []).push(each.id); });
                return Object.values(tops); }"""
        )
        # One row, or two of which none has a button alone.
        assert len(tops) <= (2 if width < 640 else 1)
        assert all(len(row) > 1 for row in tops)


def test_empty_page_should_tell_nobody_yet_from_everyone_gone(page: Page, address: str) -> None:
    show(page, address, "grid-0")
    assert page.locator("#empty").inner_text() == "Nobody is here yet"
    page.evaluate(
        """async () => {
            const { View } = await import("/meet-assets/view.js");
            const { Tile } = await import("/meet-assets/tile.js");
            const empty = document.getElementById("empty");
            const view = new View(document.getElementById("stage"), { plugin: { open: false }, empty });
            view.add("a", new Tile()); view.remove("a"); }"""
    )
    assert page.locator("#empty").inner_text() == "Everyone has left"


def test_color_should_be_the_same_for_everybody(page: Page, address: str) -> None:
    show(page, address, "grid-1")
    colors = page.evaluate(
        """async () => {
            const { Tile } = await import("/meet-assets/tile.js");
            return ["Ada (you)", "Ada"].map((name) => { const tile = new Tile(); tile.name(name);
                tile.color("0123456789abcdef"); return tile.parts.avatar.style.background; }); }"""
    )
    assert colors[0] == colors[1] != ""


HOST = """async () => {
    const { Record } = await import("/meet-assets/record.js");
    const [record, pause, notice] = ["record", "pause", "notice"].map((id) => document.getElementById(id));
    new Record({ record, pause, notices: [notice] }, "layouts", "token", console.error); }"""


def test_host_should_pause_resume_and_learn_where_the_recording_is(page: Page, address: str) -> None:
    recording: dict[str, Any] = {"id": "r1", "status": "RECORDING", "started_time": "2026-12-01T08:00:00Z"}
    actions: list[str] = []

    def act(route: Route) -> None:
        if route.request.method == "PUT":
            actions.append(json.loads(route.request.post_data or "")["action"])
            ended = {"status": "UPLOADED", "download_url": f"{address}/file.mp4"}
            after = {"pause": {"status": "PAUSED"}, "resume": {"status": "RECORDING"}, "stop": ended}
            recording.update(after[actions[-1]])
        route.fulfill(json={"data": recording})

    def look(route: Route) -> None:
        runs = recording["status"] != "UPLOADED"
        route.fulfill(json={"data": {"recording": recording if runs else None}})

    page.route("**/v2/recordings/*", act)
    page.route("**/meet-rooms/active-recording/*", look)
    page.goto(f"{address}/meet/layouts?state=grid-2&controls&host")
    page.evaluate(HOST)
    for shown in ("Pause", "Resume", "Pause"):
        expect(page.locator("#pause span")).to_have_text(shown, timeout=60_000)
        if len(actions) < 2:
            page.click("#pause")
    page.click("#record")
    notice = page.locator("#notice")
    expect(notice).to_have_text("The recording is ready. Download · Show it in the portal", timeout=60_000)
    assert notice.locator("a").first.get_attribute("href") == f"{address}/file.mp4"
    assert actions == ["pause", "resume", "stop"]
    expect(page.locator("#pause")).to_be_hidden()
