"""Pages that people can use although something is wrong with them, and pages that nobody can use."""

import asyncio
from typing import Any

import pytest

from recording_farm.browser_bot.errors import PageError, PageOverError
from recording_farm.browser_bot.page import opening, readiness
from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.page.hints import PageHints
from recording_farm.browser_bot.stage.stage import Stage
from testkit.browser_bot.pictures import Color, grab
from testkit.browser_bot.sites import Answer, Site, answer, hang
from testkit.browser_bot.stages import HEIGHT, WIDTH

# What a page that is there takes to be joined on a busy machine.
SOON = 60.0
BLUE: Color = (0, 0, 255)
ROOM = "<body style='margin:0;background:rgb(0,0,255);color:rgb(0,0,255)'>room"
START = "<script>document.addEventListener('DOMContentLoaded', () => console.log('START_RECORDING'))</script>"

pytestmark = pytest.mark.asyncio(loop_scope="module")


def hints(**said: Any) -> PageHints:
    return PageHints.model_validate(said)


async def shows_the_room(stage: Stage) -> bool:
    return BLUE in (await grab(stage.display, WIDTH, HEIGHT)).colors()


@pytest.mark.parametrize("contract", [PageContract.CONSOLE, PageContract.AUTO, PageContract.PLAIN])
@pytest.mark.parametrize(
    "part",
    [
        "<img src=/hang>",
        "<iframe src=/hang></iframe>",
        "<script async src=/hang></script>",
        "<style>@font-face { font-family: late; src: url(/hang) } p { font-family: late }</style><p>text",
        "<video src=/hang preload=auto></video>",
    ],
    ids=["image", "frame", "script", "font", "video"],
)
async def test_part_that_never_loads_should_not_keep_a_page_from_being_joined(
    stage: Stage, site: Site, contract: PageContract, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "LOAD_TIMEOUT", 0.5)
    monkeypatch.setattr(readiness, "SETTLE_TIMEOUT", 0.5)
    site.pages["/hang"] = hang
    page = ROOM + part + (START if contract is not PageContract.PLAIN else "")
    bot = Bot(stage.browser, contract)
    await asyncio.wait_for(bot.join(site.add("/", page), seconds=SOON, tries=1), SOON / 2)
    assert site.asked.count("/") == 1
    assert await shows_the_room(stage)


async def test_hints_should_be_followed_on_a_page_that_never_loads_all(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "LOAD_TIMEOUT", 0.5)
    monkeypatch.setattr(readiness, "SETTLE_TIMEOUT", 0.2)
    site.pages["/hang"] = hang
    page = (
        """<button onclick="document.body.style.background = 'rgb(0,0,255)'">Join</button><img src=/hang>"""
    )
    bot = Bot(stage.browser, PageContract.PLAIN, hints=hints(join=[{"click": "button"}]))
    await asyncio.wait_for(bot.join(site.add("/", page), seconds=SOON, tries=1), SOON)
    assert await shows_the_room(stage)


def streamed(*parts: str, every: float) -> Answer:
    """A page that comes part by part, and never ends."""

    async def give(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n")
        for part in parts:
            writer.write(part.encode())
            await writer.drain()
            await asyncio.sleep(every)
        await asyncio.Event().wait()

    return give


@pytest.mark.parametrize(
    "page",
    [
        streamed(ROOM, "<p>more", "<p>more", every=0.2),
        answer(ROOM + "<script src=/hang></script>"),
    ],
    ids=["streamed", "waits for a script"],
)
async def test_document_that_is_never_whole_should_be_recorded_as_far_as_it_is_seen(
    stage: Stage, site: Site, page: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "LOAD_TIMEOUT", 0.2)
    monkeypatch.setattr(readiness, "SETTLE_TIMEOUT", 0.2)
    site.pages |= {"/": page, "/hang": hang}
    await asyncio.wait_for(Bot(stage.browser, PageContract.AUTO).join(site.url(), seconds=2, tries=1), SOON)
    assert await shows_the_room(stage)


async def test_page_that_begins_before_its_document_is_whole_should_be_joined_at_once(
    stage: Stage, site: Site
) -> None:
    site.pages["/"] = streamed(ROOM + "<script>console.log('START_RECORDING')</script>", every=1)
    bot = Bot(stage.browser, PageContract.CONSOLE)
    await asyncio.wait_for(bot.join(site.url(), seconds=60, tries=1), SOON)


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("<head><script src=/hang></script></head>" + ROOM, "was not there after 1 s"),
        (ROOM + "<script>const until = Date.now() + 6000; while (Date.now() < until);</script>",
         "was not there after 1 s, its script hangs"),
    ],
    ids=["waits for a script", "hangs in a script"],
)  # fmt: skip
async def test_page_that_shows_nothing_or_hangs_should_be_an_error(
    stage: Stage, site: Site, page: str, words: str
) -> None:
    site.pages["/hang"] = hang
    with pytest.raises(PageError, match=words):
        await Bot(stage.browser, PageContract.AUTO).join(site.add("/", page), seconds=1, tries=1)


LATER = "<script>setTimeout(() => console.log('START_RECORDING'), 300)</script>"


@pytest.mark.parametrize("status", ["404 Not Found", "403 Forbidden", "500 Internal Server Error"])
@pytest.mark.parametrize("contract", [PageContract.CONSOLE, PageContract.AUTO])
async def test_application_that_is_served_as_an_error_should_be_joined_when_it_starts(
    stage: Stage, site: Site, status: str, contract: PageContract
) -> None:
    url = site.add("/", answer(ROOM + LATER, status=status))
    await asyncio.wait_for(Bot(stage.browser, contract).join(url, seconds=SOON, tries=1), SOON)
    assert site.asked.count("/") == 1
    assert await shows_the_room(stage)


async def test_application_that_is_served_as_an_error_should_be_joined_when_its_hint_is_seen(
    stage: Stage, site: Site
) -> None:
    page = (
        f"<script>setTimeout(() => {{ document.body.innerHTML = '<main>here</main>' }}, 300)</script>{ROOM}"
    )
    url = site.add("/", answer(page, status="404 Not Found"))
    bot = Bot(stage.browser, PageContract.PLAIN, hints=hints(wait_for="main"))
    await asyncio.wait_for(bot.join(url, seconds=SOON, tries=1), SOON)


async def test_error_page_that_leads_to_the_application_should_be_joined_there(
    stage: Stage, site: Site
) -> None:
    site.add("/app", ROOM)
    url = site.add("/", answer("<script>location.replace('/app')</script>", status="404 Not Found"))
    await asyncio.wait_for(Bot(stage.browser, PageContract.PLAIN).join(url, seconds=SOON, tries=1), SOON)
    assert await shows_the_room(stage)


@pytest.mark.parametrize(
    ("contract", "page", "words"),
    [
        (PageContract.AUTO, "<h1>Not Found</h1>nginx", "it answered 404 Not Found"),
        (PageContract.CONSOLE, "<h1>Not Found</h1>nginx", "it answered 404 Not Found"),
        (PageContract.PLAIN, ROOM, "it answered 404 Not Found; if it is the meeting anyway, name"),
        (PageContract.AUTO, "<h1>Lost?</h1><script>0</script>", "404 Not Found, and it did not start within"),
        (PageContract.CONSOLE, "<body onload='0'>Lost?", "404 Not Found, and it did not start within"),
    ],
)
async def test_error_page_should_not_be_taken_for_the_meeting(
    stage: Stage,
    site: Site,
    contract: PageContract,
    page: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recording_farm.browser_bot.page.joining.SIGNAL_TIMEOUT", 1.0)
    url = site.add("/", answer(page, status="404 Not Found"))
    with pytest.raises(PageError, match=words):
        await asyncio.wait_for(Bot(stage.browser, contract).join(url, seconds=1.5, tries=1), SOON)


async def test_error_page_on_which_a_hint_finds_nothing_should_be_reported_with_its_status(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recording_farm.browser_bot.page.steps.STEP_TIMEOUT", 0.3)
    url = site.add("/", answer(ROOM, status="500 Oh\x1bno"))
    bot = Bot(stage.browser, PageContract.PLAIN, hints=hints(wait_for="main"))
    with pytest.raises(PageError, match=r"it answered 500 Ohno, and .* the hint 'main' found no element"):
        await bot.join(url, seconds=5, tries=1)


@pytest.mark.parametrize("contract", [PageContract.CONSOLE, PageContract.AUTO])
async def test_page_that_ends_before_it_begins_should_end_the_joining_at_once(
    stage: Stage, site: Site, contract: PageContract
) -> None:
    url = site.add("/", ROOM + "<script>setTimeout(() => console.log('END_RECORDING'), 300)</script>")
    with pytest.raises(PageOverError, match="printed END_RECORDING before START_RECORDING"):
        await asyncio.wait_for(Bot(stage.browser, contract).join(url, seconds=60, tries=3), SOON)
    assert site.asked.count("/") == 1


async def test_page_that_begins_and_ends_at_once_should_be_over_and_no_error(
    stage: Stage, site: Site
) -> None:
    url = site.add("/", "<script>console.log('START_RECORDING'); console.log('END_RECORDING')</script>")
    bot = Bot(stage.browser, PageContract.CONSOLE)
    await bot.join(url, seconds=SOON, tries=1)
    await asyncio.wait_for(bot.over(), SOON)
