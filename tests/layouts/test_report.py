"""The report in a real browser."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from recording_farm.layouts.check import Checked, Outcome, judge
from recording_farm.layouts.pictures import write_png
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
    file.write_text(report_page(HOSTILE, [Checked(state, Outcome.FAILED, HOSTILE)]))
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
