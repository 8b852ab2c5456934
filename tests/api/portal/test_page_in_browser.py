"""The portal in a real Chromium, with a real farm behind it."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    Route,
    ViewportSize,
    expect,
    sync_playwright,
)

from testkit.machine.processes import wait_until_none
from testkit.pages import FIDELITY_PAGE, serve_pages
from testkit.receivers import receiver
from testkit.running_farm import SMALL, RunningFarm, running_farm

HOSTILE = "<script>document.title='run'</script>\"'><img src=x onerror=document.title='run'>"
WITHOUT_SPACES = HOSTILE.replace(" ", "/")
DESKTOP = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=360, height=740)
# In ms. A recording takes seconds to begin and to be finished on a machine that does other things besides.
SOON = 30_000
A_WHILE = 90_000

OVERFLOW = "() => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFarm]:
    # Of a recording that the portal starts no frame is looked at; the built-in meeting costs thrice as much.
    with (
        serve_pages(FIDELITY_PAGE.parent) as pages,
        running_farm(
            tmp_path_factory.mktemp("farm"),
            FARM_SLOTS="2",
            FARM_API_KEYS="acme:key,other:other-key",
            FARM_MEETING_URL=f"{pages}/page.html?meeting={{meeting_id}}",
        ) as farm,
    ):
        farm.answer(farm.client.put("/v2/recording_config", json={"video_config": SMALL}))
        yield farm
    assert wait_until_none() == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(
    browser: Browser,
    farm: RunningFarm,
    organization: str = "acme",
    key: str = "key",
    *,
    expected: Sequence[str] = (),
    **options: Any,
) -> Iterator[Page]:
    """Log in; at the end the page must have had nothing to complain about but what is expected."""
    context = browser.new_context(
        base_url=str(farm.client.base_url), **{"viewport": DESKTOP, "locale": "en-GB", **options}
    )
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(message.text)

    try:
        page = context.new_page()
        page.set_default_timeout(SOON)
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto("/")
        page.get_by_label("Organization").fill(organization)
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="Recordings")).to_be_visible()
        yield page
        assert len(complaints) == len(expected), complaints
        assert all(part in text for part, text in zip(expected, complaints, strict=True)), complaints
    finally:
        context.close()


def until(holds: Callable[[], bool], page: Page) -> None:
    """Ask again and again; Playwright's own way needs eval, which the pages' policy forbids."""
    deadline = time.monotonic() + SOON / 1000
    while not holds():
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)


def state(page: Page) -> Locator:
    return page.locator("#commands .state")


@pytest.mark.timeout(400)
def test_recording_should_be_started_watched_paused_stopped_and_played(
    browser: Browser, farm: RunningFarm
) -> None:
    with visit(browser, farm) as page, visit(browser, farm) as onlooker:
        page.get_by_role("link", name="Start a recording").click()
        page.get_by_label("Meeting ID").fill("demo")
        page.get_by_role("button", name="Start").click()
        # Nobody loads the page again from here on: what changes comes by the event stream.
        expect(state(page)).to_have_text("recording", timeout=A_WHILE)
        row = onlooker.locator("#list tr", has_text="demo").first
        expect(row.locator(".state")).to_have_text("recording", timeout=SOON)
        expect(page.locator("#picture")).to_be_visible()
        expect(page.locator("svg.timeline rect.take")).to_have_count(1)
        recorded = page.locator("#commands [data-running]")
        expect(recorded).to_have_text(re.compile(r"0:0[2-9]|0:[1-9]\d"), timeout=SOON)

        page.get_by_role("button", name="Pause").click()
        expect(state(page)).to_have_text("paused", timeout=SOON)
        expect(page.get_by_role("status")).to_have_text("Paused.")
        assert "done" not in page.url
        expect(page.locator("svg.timeline rect.pause")).to_have_count(1)  # it is drawn while it lasts
        page.get_by_role("button", name="Resume").click()
        expect(state(page)).to_have_text("recording", timeout=SOON)
        expect(page.locator("svg.timeline rect.take")).to_have_count(2, timeout=SOON)
        page.wait_for_timeout(2000)
        page.get_by_role("button", name="Stop").click()
        expect(state(page)).to_have_text("uploaded", timeout=A_WHILE)
        expect(row.locator(".state")).to_have_text("uploaded", timeout=SOON)

        expect(page.locator("svg.timeline rect.take")).to_have_count(2)
        expect(page.locator("svg.timeline rect.pause")).to_have_count(1)
        expect(page.locator("#quality")).to_contain_text("Takes")
        video = page.locator("video#player")
        video.evaluate("video => { video.muted = true; return video.play(); }")
        until(lambda: float(video.evaluate("video => video.currentTime")) > 0.5, page)
        # A click at the middle of the second take goes to the middle of that.
        second = page.locator("svg.timeline rect.take").nth(1)
        video.evaluate("video => video.pause()")
        second.click()
        at, start, end = (float(second.get_attribute(f"data-{name}") or 0) for name in ("at", "start", "end"))
        place = float(video.evaluate("video => video.currentTime"))
        assert place == pytest.approx(at + (end - start) / 2, abs=0.2)
        head = float(page.locator("svg.timeline .head").get_attribute("x") or 0)
        whole = float(page.locator("svg.timeline").get_attribute("data-seconds") or 1)
        assert head == pytest.approx((start + (end - start) / 2) / whole * 1000, abs=20)

        with page.expect_download() as download:
            page.get_by_role("link", name="Download", exact=True).click()
        assert download.value.suggested_filename.endswith(".mp4")
        with page.expect_download() as evidence:
            page.get_by_role("link", name="Evidence").click()
        assert evidence.value.suggested_filename.startswith("evidence-")


def test_what_happens_before_the_stream_of_events_is_open_should_be_shown(
    browser: Browser, farm: RunningFarm
) -> None:
    recording = farm.start(meeting_id="early", url="http://127.0.0.1:9/")

    def stop_first(route: Route) -> None:
        farm.order(recording["id"], "stop")
        route.continue_()

    with visit(browser, farm) as page:
        page.route("**/v2/events", stop_first, times=1)
        page.goto(f"/recordings/{recording['id']}")
        expect(state(page)).to_have_text("cancelled", timeout=SOON)


@pytest.mark.timeout(300)
def test_keyboard_alone_should_do(browser: Browser, farm: RunningFarm) -> None:
    with visit(browser, farm) as page:
        tab_to(page, "Start a recording")
        page.keyboard.press("Enter")
        page.wait_for_url("**/start")
        page.keyboard.type("demo")  # the first field has the focus
        page.keyboard.press("Enter")
        page.wait_for_url("**/recordings/*")
        expect(state(page)).to_have_text("recording", timeout=A_WHILE)
        tab_to(page, "Stop")
        outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        page.keyboard.press("Enter")
        expect(state(page)).to_have_text("uploaded", timeout=A_WHILE)
        page.locator("h1").click()
        tab_to(page, "Take 1")
        page.keyboard.press("Enter")
        assert "at=" not in page.url  # the player was moved, no page was loaded


@pytest.mark.long
@pytest.mark.timeout(300)
def test_page_should_stay_up_to_date_after_a_refusal_with_a_wrong_clock_and_late_answers(
    browser: Browser, farm: RunningFarm
) -> None:
    recording = farm.start(meeting_id="late")

    def answer_late(route: Route) -> None:
        """Answer with what was true before the recording ended, when the last event of that is long past."""
        before = route.fetch()
        farm.order(recording["id"], "stop")
        farm.wait_for(recording["id"], "UPLOADED")
        time.sleep(4)
        route.fulfill(response=before)

    farm.wait_for(recording["id"], "RECORDING", timeout=90)
    with visit(browser, farm, expected=["409"]) as page, visit(browser, farm) as onlooker:
        page.add_init_script("const now = Date.now; Date.now = () => now() + 3_600_000;")
        page.goto(f"/recordings/{recording['id']}")
        recorded = page.locator("#commands [data-running]")
        expect(recorded).to_have_text(re.compile(r"^0:\d\d$"))
        before = recorded.text_content()
        expect(recorded).not_to_have_text(before or "", timeout=3000)
        # As if somebody else had been quicker.
        page.locator("#command-pause").evaluate("button => { button.value = 'resume'; button.click(); }")
        expect(page.get_by_role("alert")).to_be_visible()
        assert page.url.endswith("/command")
        onlooker.route(lambda address: urlsplit(address).path == "/", answer_late, times=1)
        onlooker.evaluate("() => void refresh()")
        row = onlooker.locator("#list tr", has_text="late").first
        expect(row.locator(".state")).to_have_text("uploaded", timeout=A_WHILE)
        expect(state(page)).to_have_text("uploaded", timeout=SOON)
        link = page.locator("svg.timeline a[data-at]").first.get_attribute("href") or ""
        assert link.startswith(f"/recordings/{recording['id']}?at=")


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has the focus is called so."""
    said = ""
    for _ in range(60):
        page.keyboard.press("Tab")
        said = page.evaluate(
            "() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"
        )
        if said.strip().startswith(name):
            return
    pytest.fail(f"no {name} by Tab, at last {said!r}")


@pytest.mark.timeout(300)
def test_pages_should_fit_a_phone_and_be_dark_where_that_is_wanted(
    browser: Browser, farm: RunningFarm
) -> None:
    long = "a-meeting-with-a-very-long-name-without-any-break-" * 2
    recording = farm.start(meeting_id=long)
    farm.order(recording["id"], "stop")
    paths = ["/", "/start", f"/recordings/{recording['id']}", "/settings", "/settings/storage", "/nodes"]
    for scheme, looked_at in (("light", paths[:1]), ("dark", paths)):
        with visit(browser, farm, viewport=PHONE, color_scheme=scheme, has_touch=True) as page:
            for path in looked_at:
                page.goto(path)
                assert page.evaluate(OVERFLOW) == 0, path
                ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
                dark = sum(map(int, re.findall(r"\d+", ground)[:3])) < 200
                assert dark == (scheme == "dark"), path


def test_pages_should_do_without_their_script(browser: Browser, farm: RunningFarm) -> None:
    with visit(browser, farm, java_script_enabled=False) as page:
        page.goto("/start")
        page.get_by_label("Meeting ID").fill("no-script")
        page.get_by_role("button", name="Start").click()
        page.wait_for_url("**/recordings/*")
        page.locator("#command-stop").click()
        expect(page.get_by_role("status")).to_contain_text(re.compile("Stopped|Cancelled"))
        page.goto("/settings")
        page.get_by_label("Name of the new key").fill("made without a script")
        page.get_by_role("button", name="Create key").click()
        assert page.get_by_label("API key", exact=False).first.input_value().startswith("farm_")


@pytest.mark.timeout(300)
def test_hostile_text_should_run_nowhere(browser: Browser, farm: RunningFarm) -> None:
    with receiver() as hook, visit(browser, farm) as page:
        farm.answer(
            farm.client.post(
                "/v2/webhooks",
                json={
                    "name": HOSTILE,
                    "url": f"{hook.url}?{WITHOUT_SPACES}",
                    "events": ["recording.statusUpdate"],
                },
            )
        )
        recording = farm.start(meeting_id=HOSTILE, url=f"{farm.address}/meet/x?{WITHOUT_SPACES}")
        hook.wait_for(1)
        page.goto("/settings")
        page.get_by_label("Name of the new key").fill(HOSTILE[:100])
        page.get_by_role("button", name="Create key").click()
        (webhook,) = [each["id"] for each in farm.client.get("/v2/webhooks").json()["data"]]
        for path in (
            "/",
            f"/recordings/{recording['id']}",
            "/settings",
            f"/settings/webhooks/{webhook}",
            f"/?search={HOSTILE}",
            f"/start?meeting={HOSTILE}",
            "/rq/0/view/workers",
            f"/rq/0/view/job/{recording['id']}",
        ):
            page.goto(path)
            shown = page.locator("#job-data .description-scroll") if "/job/" in path else page.locator("body")
            if path not in {"/rq/0/view/workers", f"/start?meeting={HOSTILE}", f"/?search={HOSTILE}"}:
                expect(shown).to_contain_text("<script>")
            assert page.title() != "run", path
            assert page.locator("img[src=x]").count() == 0, path
        farm.client.put(f"/v2/recordings/{recording['id']}", json={"action": "stop"})
        farm.client.delete(f"/v2/webhooks/{webhook}")


@pytest.mark.long
def test_webhook_should_be_tested_from_its_page(browser: Browser, farm: RunningFarm) -> None:
    with receiver() as hook, visit(browser, farm) as page:
        page.goto("/settings")
        page.get_by_label("Name", exact=True).fill("mine")
        page.get_by_label("URL", exact=True).first.fill(hook.url)
        page.get_by_role("button", name="Add webhook").click()
        assert page.get_by_label("Secret of mine").first.input_value().startswith("whsec_")
        page.get_by_role("button", name="I have saved it").click()
        page.get_by_role("link", name="Back").click()
        page.get_by_role("button", name="Test mine").click()
        expect(page.locator("#attempts [data-state=delivered]").first).to_be_visible(timeout=SOON)
        assert hook.received
        page.get_by_role("button", name="Send again").first.click()
        expect(page.locator("#attempts [data-state=delivered]")).to_have_count(2, timeout=SOON)
        page.get_by_role("link", name="Back").click()
        page.get_by_label("Delete mine").click()
        page.get_by_role("button", name="Delete webhook").locator("visible=true").click()
        expect(page.get_by_text(hook.url)).to_have_count(0)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_drained_node_should_begin_nothing_until_it_is_wanted_again(
    browser: Browser, farm: RunningFarm
) -> None:
    with visit(browser, farm) as page:
        page.goto("/nodes")
        expect(page.get_by_text(re.compile(r"\d of 2$"))).to_be_visible(timeout=SOON)
        expect(page.locator("#nodes dl")).to_contain_text(re.compile(r"Warm stages\s*[12]"), timeout=SOON)
        page.get_by_role("button", name="Drain").click()
        expect(page.locator("#nodes .state")).to_have_text("drained")
        page.wait_for_timeout(5000)  # a slot looks each two seconds; what it had looked at before counts
        waiting = farm.start(meeting_id="drained")
        page.wait_for_timeout(4000)
        assert farm.answer(farm.client.get(f"/v2/recordings/{waiting['id']}"))["status"] == "INVOKED"
        expect(page.locator("#nodes")).to_contain_text("1 recording is waiting", timeout=SOON)
        page.get_by_role("button", name="Resume recording on this node").click()
        expect(page.locator("#nodes .state")).to_have_text("ready")
        farm.wait_for(waiting["id"], "RECORDING", timeout=90)
        farm.order(waiting["id"], "stop")
        farm.wait_for(waiting["id"], "UPLOADED", timeout=90)


def test_dashboard_of_the_queues_should_work_without_complaints(browser: Browser, farm: RunningFarm) -> None:
    with visit(browser, farm) as page:
        page.goto("/rq/")
        expect(page.locator("#queues")).to_contain_text("recordings", timeout=SOON)
        page.goto("/rq/0/view/workers")
        expect(page.locator("#workers")).to_contain_text("recordings", timeout=SOON)


@pytest.mark.long
def test_session_that_ends_should_lead_to_the_login(browser: Browser, farm: RunningFarm) -> None:
    with visit(browser, farm) as page:
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        page.go_back()
        page.goto("/settings")
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
