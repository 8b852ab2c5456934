"""Hints on pages as people make them: with frames, shadow roots, banners that come and go, and policies."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from recording_farm.browser_bot.errors import PageError
from recording_farm.browser_bot.page import steps
from recording_farm.browser_bot.page.added_css import combine_answers
from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.page.hints import PageHints
from recording_farm.browser_bot.page.rejoining import PageEvent
from recording_farm.browser_bot.stage.stage import Stage
from testkit.browser_bot.pictures import grab
from testkit.browser_bot.sites import Site, answer
from testkit.browser_bot.stages import HEIGHT, WIDTH
from testkit.waiting import until

SOON = 60.0
RED, GREEN, WHITE = (255, 0, 0), (0, 128, 0), (255, 255, 255)
HIDE = ".banner { display: none !important }"
BANNER = "<div class=banner style='background: red; height: 180px'></div>"
ROOT = f"document.querySelector('x-room').attachShadow({{ mode: 'MODE' }}).innerHTML = \"{BANNER}\""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def told() -> list[str]:
    return []


BOTS: list[Bot] = []


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def closed_bots() -> AsyncIterator[None]:
    """No bot that reaches into the next test's pages."""
    yield
    while BOTS:
        await BOTS.pop().close()


async def join(stage: Stage, url: str, told: list[str] | None = None, **hints: Any) -> Bot:
    async def tell(event: PageEvent) -> None:
        if told is not None:
            told.append(event.message)

    bot = Bot(stage.browser, PageContract.PLAIN, hints=PageHints.model_validate(hints), on_event=tell)
    BOTS.append(bot)
    await asyncio.wait_for(bot.join(url, seconds=SOON, tries=1), SOON)
    return bot


async def shows(stage: Stage, color: tuple[int, int, int]) -> bool:
    return color in (await grab(stage.display, WIDTH, HEIGHT)).colors()


@pytest.mark.parametrize(
    "page",
    [
        BANNER,
        f"<script>window.eval = window.CSSStyleSheet = () => {{}};</script>{BANNER}",
        f"<script>Array.prototype.push = Array.prototype[Symbol.iterator] = () => {{}};</script>{BANNER}",
        f"<x-room></x-room><script>{ROOT.replace('MODE', 'open')}</script>",
        f"<x-room></x-room><script>{ROOT.replace('MODE', 'closed')}</script>",
        f"<x-room><template shadowrootmode=open>{BANNER}</template></x-room>",
        # A root in a root, which takes the sheets that its library gives it.
        f"""<x-room></x-room><script>
        const outer = document.querySelector('x-room').attachShadow({{ mode: 'open' }});
        outer.innerHTML = "<x-inner></x-inner>";
        const inner = outer.firstChild.attachShadow({{ mode: 'open' }});
        inner.innerHTML = "{BANNER}";
        for (const each of [document, outer, inner]) each.adoptedStyleSheets = [new CSSStyleSheet()];
        </script>""",
    ],
    ids=["page", "eval", "arrays", "open root", "closed root", "declared root", "sheets of its own"],
)
async def test_hinted_css_should_hold_wherever_the_page_has_its_elements(
    stage: Stage, site: Site, page: str
) -> None:
    policy = "content-security-policy: default-src 'none'; script-src 'unsafe-inline'; style-src-attr *"
    policy = policy.replace("*", "'unsafe-inline'")
    await join(stage, site.add("/", answer(page, more=policy)), css=HIDE)
    assert not await shows(stage, RED)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same origin", "another site"])
async def test_hinted_css_should_hold_in_frames_and_documents_that_come_later(
    stage: Stage, site: Site, host: str
) -> None:
    site.add("/frame", BANNER)
    url = site.add("/", f"<style>body {{ margin: 0 }}</style><p>room{BANNER}")
    await join(stage, url, css=HIDE)
    frame = f"""(() => {{ const frame = document.createElement('iframe');
    frame.src = '{site.url("/frame", host)}'; document.body.append(frame);
    frame.onload = () => document.title = 'there';
    const room = document.createElement('x-room'); document.body.append(room);
    setTimeout(() => {ROOT.replace("MODE", "open")}, 100); }})()"""
    page = stage.browser.page
    await page.evaluate(frame)
    await page.wait_for_function("document.title === 'there'")
    await asyncio.sleep(0.5)
    assert not await shows(stage, RED)
    # Without the bot's doing: from the document's beginning.
    await page.reload()
    assert not await shows(stage, RED)


async def test_hinted_css_that_finds_nothing_should_be_reported(
    stage: Stage, site: Site, told: list[str]
) -> None:
    css = f"{HIDE} .bannr {{ color: red }} @media all {{ a:hover > #no::before {{ color: red }} }}"
    css += " p:hover, p::after, ::selection, :host { color: red }"
    page = f"<p><x-room></x-room><script>{ROOT.replace('MODE', 'closed')}</script>"
    for url, hint, words in (
        (site.add("/", page), css, "matches nothing so far: '.bannr', 'a:hover > #no::before'"),
        (site.url(), "banner display: none", "has no valid rule"),
    ):
        bot = await join(stage, url, told, css=hint)
        over = asyncio.ensure_future(bot.over())
        await until(lambda: bool(told), SOON, "told of it")
        assert told == [f"the hinted CSS {words}"]
        told.clear()
        over.cancel()
        await asyncio.gather(over, return_exceptions=True)
        await bot.close()


async def test_answers_of_frames_about_css_should_be_put_together() -> None:
    assert combine_answers(2, ["10", "00"]) == [True, False]
    assert combine_answers(1, [None, "11", "x", 1, "", "0"]) == [False]


ROOM = "document.body.style.background='green';this.textContent='joined'"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same origin", "another site"])
async def test_steps_should_reach_into_frames_within_frames_and_shadow_roots(
    stage: Stage, site: Site, host: str
) -> None:
    inner = """<x-lobby></x-lobby><script>
    const root = document.querySelector('x-lobby').attachShadow({ mode: 'open' });
    root.innerHTML = '<input><button>Join</button>';
    root.querySelector('button').onclick = () => {
      document.body.style.background = 'green';
      root.querySelector('button').textContent = `In the room as ${root.querySelector('input').value}`;
    };
    </script>"""
    site.add("/inner", inner)
    site.add("/outer", f"<iframe id=inner src='{site.url('/inner', '127.0.0.1')}'></iframe>")
    url = site.add("/", f"<iframe id=outer src='{site.url('/outer', host)}'></iframe>")
    frame = ["#outer", "#inner"]
    await join(
        stage,
        url,
        join=[
            {"fill": "input", "text": "Recorder", "frame": frame},
            {"click": "text=Join", "frame": frame},
            {"wait_for_text": "in the room as recorder", "frame": frame},
        ],
    )
    assert await shows(stage, GREEN)


LOBBY = """<style>body { margin: 0 } #cookies { position: fixed; inset: 0; background: red }</style>
<button id=spare style="display: none">Join</button><button id=join onclick="ROOM">Join</button>
<div id=cookies HIDDEN><button onclick="this.parentNode.remove()">Accept</button></div>""".replace(
    "ROOM", ROOM
)


@pytest.mark.parametrize("banner", ["", "hidden"], ids=["there", "not there"])
async def test_optional_step_should_be_taken_if_it_can_be(
    stage: Stage, site: Site, banner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "OPTIONAL_TIMEOUT", 0.5)
    wanted = [{"click": "text=Accept", "optional": True}, {"click": "text=Join"}, {"wait_for_text": "Joined"}]
    await join(stage, site.add("/", LOBBY.replace("HIDDEN", banner)), join=wanted)
    assert await shows(stage, GREEN)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"click": "#nothing"}, "the hint '#nothing' found no element in 1 s"),
        ({"click": "#spare"}, "the hint '#spare' found an element that stayed hidden"),
        ({"click": "#join"}, "found an element that stayed covered by another one"),
        ({"click": "#off"}, "found an element that stayed disabled"),
        ({"fill": "#on", "text": "s3cret"}, "cannot be written to"),
        ({"fill": "[readonly]", "text": "s3cret"}, "found a field that could not be written to"),
        ({"wait_for_text": "Welcome"}, "the hinted text 'Welcome' found no element"),
        ({"click": "b", "frame": "#frame"}, "found no frame '#frame'"),
        ({"click": "##"}, "the hint '##' is not a valid selector"),
    ],
)
async def test_step_without_effect_should_be_told_for_what_it_is(
    stage: Stage, site: Site, step: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "STEP_TIMEOUT", 1.4)
    more = (
        "<div style='position: relative; z-index: 2'><button id=off disabled>x</button>"
        "<button id=on>x</button><input readonly></div>"
    )
    with pytest.raises(PageError, match="the page loaded, but") as failed:
        await join(stage, site.add("/", LOBBY.replace("HIDDEN", "") + more), join=[step])
    assert words in str(failed.value)
    assert "s3cret" not in str(failed.value)


@pytest.mark.parametrize(
    "host", [None, "127.0.0.1", "localhost"], ids=["page", "frame", "frame of another site"]
)
async def test_pointer_and_cursor_of_the_steps_should_be_gone_after_them(
    stage: Stage, site: Site, host: str | None
) -> None:
    page = """<style>
    body { margin: 0 } #tile { display: none; position: fixed; inset: 0; background: white }
    #bar { display: none; background: red; height: 100px } #tile:hover #bar { display: block }
    input { position: fixed; left: 0; top: 110px; width: 40px; height: 20px; z-index: 2 }
    input:focus { background: red; outline: 2px solid red } button { width: 320px; height: 100px }
    </style><input><button onclick="tile.style.display='block'">Join</button>
    <div id=tile><div id=bar></div></div>"""
    url = site.add("/", page)
    where = {}
    if host is not None:
        frame = f"<iframe src='{site.url('/', host=host)}' width=300 height=160></iframe>"
        url, where = site.add("/outer", frame), {"frame": "iframe"}
    steps = [{"click": "button", **where}, {"fill": "input", "text": "me", **where}]
    for order in (steps, [steps[1], steps[0]]):
        await join(stage, url, join=order)
        assert not await shows(stage, RED)


async def test_hints_should_lead_into_the_meeting_and_hide_controls(stage: Stage, site: Site) -> None:
    page = """<!doctype html><meta http-equiv="Content-Security-Policy" content="style-src 'none'">
    <div id="bar">controls</div><input name="name"><button onclick="later()">Join</button><script>
    const later = () => setTimeout(() => {
      const text = document.querySelector("input").value;
      document.body.insertAdjacentHTML("beforeend", `<main>${text}</main>`);
    }, 300);
    </script>"""
    await join(
        stage,
        site.add("/", page),
        join=[{"wait_for": "button"}, {"fill": "input", "text": "s3cret name"}, {"click": "text=Join"}],
        # What the steps act on, too.
        css="#bar, input, button { visibility: hidden }",
        wait_for="main",
    )
    page_ = stage.browser.page
    assert await page_.locator("main").text_content() == "s3cret name"
    assert not await page_.locator("#bar").is_visible()


async def test_lobby_that_the_css_hides_should_be_joined_again(
    stage: Stage, site: Site, told: list[str]
) -> None:
    page = f'<button onclick="{ROOM};setTimeout(() => location.reload(), 3500)">Join</button>'
    bot = await join(
        stage, site.add("/", page), told, join=[{"click": "button"}], css="button { visibility: hidden }"
    )
    over = asyncio.ensure_future(bot.over())
    await until(lambda: any("joined again" in line for line in told), SOON, f"joined again: {told}")
    assert await shows(stage, GREEN)
    assert not await stage.browser.page.locator("button").is_visible()
    over.cancel()
    await asyncio.gather(over, return_exceptions=True)


async def test_hint_should_be_named_but_not_its_text(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(steps, "STEP_TIMEOUT", 0.5)
    with pytest.raises(PageError, match="the hint '#password' found no element") as failed:
        await join(stage, site.add("/", "lobby"), join=[{"fill": "#password", "text": "s3cret"}])
    assert "s3cret" not in str(failed.value)
    assert "s3cret" not in caplog.text
