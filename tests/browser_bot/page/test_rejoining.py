"""Pages that load themselves anew or go elsewhere: they are joined again by their hints, and it is told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from recording_farm.browser_bot.page import readiness, rejoining
from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.page.hints import PageHints
from recording_farm.browser_bot.page.rejoining import PageEvent, RateLimit
from recording_farm.browser_bot.stage.stage import Stage
from testkit.browser_bot.pictures import grab
from testkit.browser_bot.sites import Site, answer
from testkit.browser_bot.stages import HEIGHT, WIDTH, blank

SOON = 60.0
BLUE, GREEN, RED = (0, 0, 255), (0, 128, 0), (255, 0, 0)
# A lobby in red that becomes a room in blue; `leave` is what the room does a second later.
LOBBY = """<body style="margin:0;background:red;overflow:hidden">
<input id=name><button id=join onclick="
  document.body.innerHTML = `<main>${document.querySelector('#name').value}</main>`;
  document.body.style.background = 'blue';
  if (!sessionStorage.been) setTimeout(() => { sessionStorage.been = 1; LEAVE }, 1000);
">Join</button>"""
JOIN = [{"fill": "#name", "text": "Recorder"}, {"click": "#join"}]

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Told:
    """What was told of a page."""

    def __init__(self) -> None:
        self.events: list[PageEvent] = []
        self._changed = asyncio.Event()

    async def tell(self, event: PageEvent) -> None:
        self.events.append(event)
        self._changed.set()

    async def until(self, holds: Callable[[list[PageEvent]], bool]) -> None:
        async with asyncio.timeout(SOON):
            while not holds(self.events):
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def recorded(stage: Stage, url: str, **hints: Any) -> AsyncIterator[Told]:
    """A page that has been joined and is watched over, as while it is recorded."""
    told = Told()
    bot = Bot(stage.browser, PageContract.PLAIN, hints=PageHints.model_validate(hints), on_event=told.tell)
    await asyncio.wait_for(bot.join(url, seconds=SOON, tries=1), SOON)
    over = asyncio.ensure_future(bot.over())
    try:
        yield told
        assert not over.done()
    finally:
        over.cancel()
        await asyncio.gather(over, return_exceptions=True)
        await bot.close()


async def colors(stage: Stage) -> set[tuple[int, int, int]]:
    return (await grab(stage.display, WIDTH, HEIGHT)).colors()


async def shown(stage: Stage, selector: str) -> str | None:
    return await stage.browser.page.locator(selector).first.text_content(timeout=SOON * 1000)


IN_FRAME = [{"fill": "#name", "text": "Recorder", "frame": "iframe"}, {"click": "#join", "frame": "iframe"}]


@pytest.mark.parametrize("place", ["page", "frame"])
async def test_lobby_that_is_back_without_another_document_should_be_joined_again(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A single-page application that has lost its meeting, or a frame that loads itself anew."""
    monkeypatch.setattr(rejoining, "POLL_SECONDS", 0.2)
    if place == "page":
        back = "history.pushState(0, '', '/lobby'); document.body.innerHTML = lobby; "
        back += "document.body.style.background = 'red'"
        url = site.add(
            "/", LOBBY.replace("LEAVE", back) + "<script>const lobby = document.body.innerHTML</script>"
        )
        join = JOIN
    else:
        site.add("/room", LOBBY.replace("LEAVE", "location.reload()"))
        url = site.add(
            "/", "<body style='margin:0'><iframe src=/room style='border:0;width:100vw;height:100vh'>"
        )
        join = IN_FRAME
    async with recorded(stage, url, join=join) as told:
        await told.until(bool)
        async with asyncio.timeout(SOON):
            while BLUE not in await colors(stage):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert told.events == [
        PageEvent("rejoined", "the page showed its lobby again, and was joined again by its hints")
    ]


async def test_button_that_stays_in_the_room_should_not_be_clicked_again(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejoining, "POLL_SECONDS", 0.05)
    page = "<button id=join onclick=\"document.title += 'clicked '\">Join</button>"
    async with recorded(stage, site.add("/", page), join=[{"click": "#join"}]) as told:
        await asyncio.sleep(1)
        assert await stage.browser.page.title() == "clicked"
    assert told.events == []


@pytest.mark.parametrize("leave", ["location.reload()", "location = '/other'"])
async def test_page_that_is_back_in_its_lobby_should_be_joined_again(
    stage: Stage, site: Site, leave: str
) -> None:
    url = site.add("/", LOBBY.replace("LEAVE", leave))
    site.add("/other", LOBBY)
    async with recorded(stage, url, join=JOIN) as told:
        assert await shown(stage, "main") == "Recorder"
        await told.until(lambda events: len(events) == 1)
        assert told.events[0].event == "rejoined"
        assert await shown(stage, "main") == "Recorder"
        assert await colors(stage) >= {BLUE}
        assert RED not in await colors(stage)


async def test_only_the_steps_that_are_left_should_be_followed_again(stage: Stage, site: Site) -> None:
    # Who has logged in once comes to the lobby at once.
    login = """<form onsubmit="document.cookie = `in=1`">
    <input id=user><button id=login>Log in</button></form>
    <script>if (document.cookie.includes('in=1')) location.replace('/lobby')</script>"""
    site.add("/?", login)
    url = site.add("/", login)
    site.add("/lobby", LOBBY.replace("LEAVE", "location = '/'"))
    steps = [{"fill": "#user", "text": "u"}, {"click": "#login"}, {"wait_for": "#name"}, *JOIN]
    async with recorded(stage, url, join=steps) as told:
        await told.until(lambda events: [each.event for each in events] == ["rejoined"])
        assert await shown(stage, "main") == "Recorder"
    await stage.browser.context.clear_cookies()


BANNER = "<body style='margin:0;background:blue'><div class=banner style='background:red;height:90px'></div>"


@pytest.mark.parametrize("after", [300, 3500], ids=["before it is ready", "while it is recorded"])
async def test_css_should_be_there_after_the_page_has_gone_elsewhere(
    stage: Stage, site: Site, after: int
) -> None:
    site.add("/room", BANNER)
    url = site.add("/", f"{BANNER}<script>setTimeout(() => location = '/room', {after})</script>")
    async with recorded(stage, url, css=".banner { visibility: hidden }") as told:
        await told.until(lambda events: len(events) == 1)
        assert told.events == [
            PageEvent("rejoined", "the page navigated to another address, and the hinted CSS was added again")
        ]
        assert stage.browser.page.url.endswith("/room")
        assert await colors(stage) == {BLUE}


async def test_css_should_be_there_from_the_first_frame_on_although_the_page_goes_elsewhere(
    stage: Stage, site: Site
) -> None:
    site.add("/room", BANNER)
    url = site.add("/", f"{BANNER}<meta http-equiv=refresh content='1;url=/room'>")
    async with recorded(stage, url, css=".banner { visibility: hidden }"):
        assert stage.browser.page.url.endswith("/room")
        assert await colors(stage) == {BLUE}


async def test_page_that_a_step_has_led_to_should_not_be_taken_for_the_lobby(
    stage: Stage, site: Site
) -> None:
    room = f"{BANNER}<button onclick='document.body.style.background = `red`'>Leave</button>"
    site.add("/room", room)
    url = site.add("/", "<a href='/room'><button>Join</button></a>")
    hints = {"join": [{"click": "button"}], "css": ".banner, button { visibility: hidden }"}
    async with recorded(stage, url, **hints) as told:
        assert stage.browser.page.url.endswith("/room")
        assert await colors(stage) == {BLUE}
    assert told.events == []


async def test_css_should_be_in_the_room_that_the_last_step_leads_to(stage: Stage, site: Site) -> None:
    site.add("/room", f"{BANNER}<main>room</main>")
    url = site.add("/", "<button onclick='setTimeout(() => location = `/room`, 500)'>Join</button>")
    hints = {"join": [{"click": "button"}], "css": ".banner, main { visibility: hidden }"}
    async with recorded(stage, url, **hints):
        assert await colors(stage) == {BLUE}
    async with recorded(stage, url, wait_for="body:has(main)", **hints) as told:
        await asyncio.sleep(0.5)
        assert await colors(stage) == {BLUE}
    assert told.events == []


async def test_change_of_a_page_without_hints_should_be_reported(stage: Stage, site: Site) -> None:
    site.add("/room", BANNER)
    url = site.add("/", "<script>setTimeout(() => location = '/room', 3000)</script>quiet")
    async with recorded(stage, url) as told:
        await stage.browser.page.evaluate("history.pushState({}, '', '/same-document')")
        await told.until(lambda events: len(events) == 1)
        assert told.events == [PageEvent("page_changed", "the page navigated to another address")]


async def test_step_that_finds_nothing_any_more_should_be_reported_and_the_page_be_recorded(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recording_farm.browser_bot.page.steps.STEP_TIMEOUT", 0.5)
    site.add("/full", LOBBY.replace("<button id=join", "<button disabled id=join"))
    url = site.add("/", LOBBY.replace("LEAVE", "location = '/full'"))
    async with recorded(stage, url, join=JOIN) as told:
        await told.until(lambda events: len(events) == 1)
        assert told.events[0].event == "warning"
        assert "the hint '#join' found an element that stayed disabled" in told.events[0].message


async def test_page_that_keeps_reloading_itself_should_be_joined_again_in_its_turns(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejoining, "RateLimit", lambda: RateLimit(2, 300))
    monkeypatch.setattr(readiness, "SETTLE_TIMEOUT", 0.1)
    url = site.add("/", LOBBY.replace("LEAVE", "sessionStorage.clear(); location.reload()"))
    async with recorded(stage, url, join=JOIN) as told:
        await told.until(lambda events: len(events) == 2)
        await asyncio.sleep(3)
        assert len(told.events) == 2
        assert await colors(stage) >= {RED}


async def test_page_that_never_stays_should_be_recorded_as_it_is(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recording_farm.browser_bot.page.bot.MAX_NAVIGATIONS", 3)
    url = site.add("/", f"{BANNER}<script>setTimeout(() => location.reload(), 200)</script>")
    async with recorded(stage, url):
        assert await colors(stage) >= {BLUE}
    await blank(stage)


async def test_pace_should_let_so_many_through_in_its_time() -> None:
    limit = RateLimit(2, 10)
    for now in (0.0, 1.0):
        assert limit.wait(now) == 0
        limit.done(now)
    assert limit.wait(2) == 8
    assert limit.wait(10) == 0
    limit.done(10)
    assert (limit.wait(10.5), limit.wait(11)) == (0.5, 0)


async def test_page_whose_server_is_away_for_a_moment_should_be_reloaded(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recording_farm.browser_bot.page.bot.FIRST_PAUSE", 0.2)
    monkeypatch.setattr(readiness, "SETTLE_TIMEOUT", 0.1)
    away = answer("<h1>502 Bad Gateway</h1>nginx", status="502 Bad Gateway")
    first = LOBBY.replace("LEAVE", "location.reload()")
    url = site.add("/", first, away, away, LOBBY)
    async with recorded(stage, url, join=JOIN) as told:
        await told.until(lambda events: len(events) == 2)
        assert [event.event for event in told.events] == ["warning", "rejoined"]
        assert "the page reloaded itself, and it answered 502 Bad Gateway" in told.events[0].message
        assert await shown(stage, "main") == "Recorder"
        assert RED not in await colors(stage)


@pytest.mark.parametrize("is_wanted", [False, True], ids=["moved", "loaded anew"])
async def test_joining_again_that_is_interrupted_should_be_done_all_the_same(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch, *, is_wanted: bool
) -> None:
    monkeypatch.setattr(readiness, "SETTLE_TIMEOUT", 0.1)
    told = Told()
    hints = PageHints.model_validate({"join": JOIN})
    bot = Bot(stage.browser, PageContract.PLAIN, hints=hints, on_event=told.tell)
    url = site.add("/", LOBBY.replace("LEAVE", "0" if is_wanted else "location.reload()"))
    await bot.join(url, seconds=SOON, tries=1)
    if is_wanted:
        bot.reload("it went offline")
    for last in (False, True):
        # As when an order comes: it is waited for with the others.
        over = asyncio.ensure_future(bot.over())
        if last:
            await told.until(lambda events: len(events) == 1)
        else:
            async with asyncio.timeout(SOON):
                while site.asked.count("/") < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        over.cancel()
        await asyncio.gather(over, return_exceptions=True)
    assert told.events[0].event == "rejoined"
    assert await shown(stage, "main") == "Recorder"
