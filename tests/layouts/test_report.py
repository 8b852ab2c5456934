"""The report in a real browser."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from recording_farm.layouts.check import Checked, Outcome, judge
from recording_farm.layouts.pictures import MADE_BY, write_png
from recording_farm.layouts.report import report_page, write_report
from recording_farm.layouts.suite import State
from testkit.layouts.rooms import draw_room

HOSTILE = '"><script>document.title="owned"</script><img src=x onerror=document.title="owned">'


in_its_loop = pytest.mark.asyncio(loop_scope="module")
"""The loop of the module, which is the browser's."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


def different(directory: Path) -> Checked:
    state = State(name="room", url="https://meet.example.com/room")
    write_png(draw_room(), directory / "baseline" / "room.png")
    return judge(directory, state, draw_room(shift=2))


@in_its_loop
async def test_slider_should_uncover_the_baseline(browser: Browser, tmp_path: Path) -> None:
    index = write_report(tmp_path / "report", "Rooms", [different(tmp_path)])
    page = await browser.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    await page.goto(index.as_uri())

    clip = "document.querySelector('.over').style.clipPath"
    assert await page.evaluate(clip) == "inset(0px 50% 0px 0px)"
    await page.locator("input").fill("80")
    assert await page.evaluate(clip) == "inset(0px 20% 0px 0px)"
    widths = await page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert widths == [320] * 5
    assert errors == []


@in_its_loop
async def test_report_should_show_one_kind_of_states_alone(browser: Browser, tmp_path: Path) -> None:
    same = Checked(State(name="hall", url="https://meet.example.com/hall"), Outcome.SAME, "no pixel differs")
    index = write_report(tmp_path / "report", "Rooms", [different(tmp_path), same])
    page = await browser.new_page()
    await page.goto(index.as_uri())
    names = page.locator("h2:visible")

    assert await names.all_text_contents() == ["room", "hall"]
    await page.get_by_role("button", name="different (1)").click()
    assert await names.all_text_contents() == ["room"]
    await page.get_by_role("button", name="all (2)").click()
    assert await names.all_text_contents() == ["room", "hall"]


@in_its_loop
async def test_report_should_have_all_in_one_file_and_be_ignored_by_git(
    browser: Browser, tmp_path: Path
) -> None:
    index = write_report(tmp_path / "report", "Rooms", [different(tmp_path)])
    page = await browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(index.as_uri())

    assert [url for url in asked if not url.startswith("data:")] == [index.as_uri()]
    assert (tmp_path / "report" / ".gitignore").read_text() == "*\n"


@in_its_loop
async def test_hostile_words_should_be_shown_as_they_are(browser: Browser, tmp_path: Path) -> None:
    state = State.model_construct(
        name=HOSTILE, url=f"https://a/{HOSTILE}", meeting=None, viewport=HOSTILE, masks=()
    )
    file = tmp_path / "report.html"
    failed = Checked(state, Outcome.FAILED, HOSTILE, warnings=(HOSTILE,))
    file.write_text(report_page(HOSTILE, [failed], approve=HOSTILE))
    page = await browser.new_page()
    await page.goto(file.as_uri())

    assert await page.title() == f"{HOSTILE}: 1 failed"
    assert await page.locator("img, script:not(:last-child)").count() == 0
    assert await page.locator("h2").text_content() == HOSTILE
    assert await page.locator("p", has_text=HOSTILE).count() == 2


@in_its_loop
async def test_policy_should_keep_foreign_scripts_from_running(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    text = report_page("Rooms", [])
    file.write_text(text.replace("<main>", "<main><script>document.title = 'owned'</script>"))
    page = await browser.new_page()
    await page.goto(file.as_uri())

    assert await page.title() == "Rooms:"


def test_what_matters_should_come_first(tmp_path: Path) -> None:
    def state(name: str) -> State:
        return State(name=name, meeting="a")

    room = draw_room()
    checked = [
        Checked(state("same"), Outcome.SAME, "", room, room),
        Checked(state("new"), Outcome.NEW, "", actual=room),
        different(tmp_path),
        Checked(state("failed"), Outcome.FAILED, ""),
    ]

    page = report_page("Rooms", checked)

    assert "Rooms: 1 failed, 1 different, 1 new, 1 same" in page
    places = [page.index(f"<h2>{name}</h2>") for name in ("failed", "room", "new", "same")]
    assert places == sorted(places)


def test_report_should_tell_the_browser_the_command_that_approves_and_what_did_not_load(
    tmp_path: Path,
) -> None:
    checked = different(tmp_path)
    assert checked.actual is not None
    checked.actual.info[MADE_BY] = "Chrome/999.0"
    checked = replace(checked, warnings=("image https://meet.example.com/a.png answered 404",))

    page = report_page("Rooms", [checked], approve="farm layouts approve rooms")

    assert "<p>Pictures by Chrome/999.0.</p>" in page
    assert "actual (Chrome/999.0)" in page
    assert "<code>farm layouts approve rooms</code>" in page
    assert "<li>image https://meet.example.com/a.png answered 404</li>" in page
    same = Checked(checked.state, Outcome.SAME, "", checked.actual, checked.actual)
    assert "approve rooms" not in report_page("Rooms", [same], approve="farm layouts approve rooms")
