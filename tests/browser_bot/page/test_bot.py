import asyncio
import logging
import os
import re
import signal
from pathlib import Path

import psutil
import pytest

from recording_farm.browser_bot.errors import PageError, PageLostError, PagePermanentError
from recording_farm.browser_bot.page import bot as bot_module
from recording_farm.browser_bot.page import page_log, readiness
from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.page.readiness import SETTLE_TIMEOUT
from recording_farm.browser_bot.stage.stage import Stage, open_stage
from testkit.browser_bot.pictures import grab
from testkit.browser_bot.sites import Answer, Site, answer, hang, open_site, redirect
from testkit.browser_bot.stages import HEIGHT, WIDTH
from testkit.machine.processes import below, run
from testkit.network.ports import free_port

# What a page that is there takes to be joined on a busy machine.
SOON = 60.0
VIDEO = """<body style="margin:0;background:rgb(0,0,255)"><canvas hidden></canvas><video muted></video>
<script>
const canvas = document.querySelector("canvas"), video = document.querySelector("video");
const context = canvas.getContext("2d");
setInterval(() => {
    context.fillStyle = `hsl(${performance.now()} 80% 50%)`;
    context.fillRect(0, 0, 300, 150);
}, 30);
const start = () => {
    video.srcObject = canvas.captureStream(30);
    video.play();
    window.startedAt = performance.now();
};
</script>"""
STATE = "() => document.querySelector('video').readyState"

pytestmark = pytest.mark.asyncio(loop_scope="module")


def seconds_since(began: float) -> float:
    return asyncio.get_running_loop().time() - began


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_plain_page_with_video_should_be_joined_at_its_first_frame(stage: Stage, site: Site) -> None:
    url = site.add("/", VIDEO + "<script>setTimeout(start, 600)</script>")
    await Bot(stage.browser, PageContract.PLAIN).join(url, seconds=SOON, tries=1)
    assert await stage.browser.page.evaluate(STATE) >= 2
    # Not after the settle time, which is for pages without video.
    waited = await stage.browser.page.evaluate("performance.now() - startedAt")
    assert waited < SETTLE_TIMEOUT * 1000 - 600


async def test_plain_page_should_be_joined_when_pictures_and_fonts_are_in(stage: Stage, site: Site) -> None:
    _, file, _ = await run("fc-match", "-f", "%{file}", "sans", env={})
    font = await asyncio.to_thread(Path(file.decode()).read_bytes)
    picture = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    site.add("/picture", answer(picture, kind="image/svg+xml", after=0.7))
    site.add("/font", answer(font, kind="font/ttf", after=0.5))
    url = site.add(
        "/",
        f"""<style>@font-face {{ font-family: slow; src: url(/font) }} p {{ font-family: slow }}</style>
        {VIDEO}<p>text</p><script>start();
        onload = () => {{ const image = new Image(); image.src = "/picture"; document.body.append(image); }};
        </script>""",
    )
    await Bot(stage.browser, PageContract.PLAIN).join(url, seconds=SOON, tries=1)
    assert (
        await stage.browser.page.evaluate("document.images[0].complete && document.images[0].naturalWidth")
        == 9
    )
    assert await stage.browser.page.evaluate("[...document.fonts].map(font => font.status)") == ["loaded"]


async def test_plain_page_without_video_should_be_joined_when_settled(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "SETTLE_TIMEOUT", 0.8)
    url = site.add("/", "<script>onload = () => { window.loaded = performance.now() }</script>quiet")
    await Bot(stage.browser, PageContract.PLAIN).join(url, seconds=SOON, tries=1)
    waited = await stage.browser.page.evaluate("performance.now() - loaded")
    assert 800 <= waited < 1900


async def test_page_that_hangs_should_be_recorded_as_it_is(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "SETTLE_TIMEOUT", -2.0)
    url = site.add("/", "<script>onload = () => setTimeout(() => { const until = Date.now() + 2500;"
                   "while (Date.now() < until); })</script>")  # fmt: skip
    began = now()
    await Bot(stage.browser, PageContract.PLAIN).join(url, seconds=SOON, tries=1)
    assert seconds_since(began) < 3


async def test_console_page_should_be_joined_and_left_at_its_signals(stage: Stage, site: Site) -> None:
    url = site.add("/", "<script>setTimeout(() => console.log('START_RECORDING'), 500)</script>")
    bot = Bot(stage.browser, PageContract.CONSOLE)
    joining = asyncio.ensure_future(bot.join(url, seconds=SOON, tries=1))
    await asyncio.sleep(0.3)
    assert not joining.done()
    await asyncio.wait_for(joining, SOON)

    over = asyncio.ensure_future(bot.over())
    await stage.browser.page.evaluate("console.log('not END_RECORDING yet')")
    await asyncio.sleep(0.2)
    assert not over.done()
    await stage.browser.page.evaluate("console.log('END_RECORDING')")
    await asyncio.wait_for(over, 5)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_frame_in_the_page_should_neither_begin_nor_end_the_recording(
    stage: Stage, site: Site, host: str
) -> None:
    signals = """for (const signal of ["START_RECORDING", "END_RECORDING"]) {
      console.log(signal);
      // Whatever the recorder has left here.
      for (const name of Object.getOwnPropertyNames(self).filter(name => name.startsWith("__"))) {
        try { self[name](signal); self[name](JSON.stringify({ text: signal })); } catch {}
      }
    }
    console.log("done");"""
    site.add("/frame", f"<script>{signals}</script>")
    url = site.add("/", f"<iframe src='{site.url('/frame', host)}'></iframe>")
    page = stage.browser.page
    bot = Bot(stage.browser, PageContract.CONSOLE)

    async def frame_has_signalled(times: int) -> None:
        async with asyncio.timeout(SOON):
            while sum(line.endswith("page log: 'done'") for line in bot.page_log) < times:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await page.evaluate("0")

    joining = asyncio.ensure_future(bot.join(url, seconds=SOON, tries=1))
    await frame_has_signalled(1)
    assert not joining.done()
    await page.evaluate("console.log('START_RECORDING')")
    await asyncio.wait_for(joining, SOON)

    over = asyncio.ensure_future(bot.over())
    await page.frames[1].evaluate(f"() => {{ {signals} }}")
    await frame_has_signalled(2)
    assert not over.done()
    await page.evaluate("console.log('END_RECORDING')")
    await asyncio.wait_for(over, SOON)


async def test_page_should_be_heard_after_it_has_moved_to_another_site(stage: Stage, site: Site) -> None:
    other = site.add("/other", "<script>console.log('START_RECORDING')</script>")
    moved = other.replace("127.0.0.1", "localhost")
    url = site.add(
        "/", f"<iframe src='{other}'></iframe><script>onload = () => location = '{moved}'</script>"
    )
    bot = Bot(stage.browser, PageContract.CONSOLE)
    await asyncio.wait_for(bot.join(url, seconds=SOON, tries=1), SOON)
    over = asyncio.ensure_future(bot.over())
    await stage.browser.page.evaluate("console.log('END_RECORDING')")
    await asyncio.wait_for(over, SOON)


@pytest.mark.parametrize("contract", [PageContract.AUTO, PageContract.CONSOLE])
async def test_page_that_refuses_should_be_reported_with_its_reason(
    stage: Stage, site: Site, contract: PageContract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "SETTLE_TIMEOUT", 30.0)
    url = site.add("/", "<script>setTimeout(() => console.log('REFUSE_RECORDING: it is full'), 300)</script>")
    with pytest.raises(PageError, match="the page refuses to be recorded: it is full"):
        await asyncio.wait_for(Bot(stage.browser, contract).join(url, seconds=SOON, tries=1), SOON)


async def test_console_page_without_signal_should_be_reported(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "SIGNAL_TIMEOUT", 0.3)
    said = "did not print START_RECORDING within 0 s; it printed nothing"
    with pytest.raises(PageError, match=said):
        await Bot(stage.browser, PageContract.CONSOLE).join(site.add("/", "quiet"), seconds=SOON, tries=1)
    page = "<script>console.log('START'); console.warn({ a: 1 })</script>"
    with pytest.raises(PageError, match=r"its last lines were 'START', '\{a: 1\}'"):
        await Bot(stage.browser, PageContract.CONSOLE).join(site.add("/", page), seconds=SOON, tries=1)


async def test_auto_should_join_at_whichever_comes_first(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "SETTLE_TIMEOUT", 30.0)
    url = site.add("/", "<script>setTimeout(() => console.log('START_RECORDING'), 300)</script>")
    async with asyncio.timeout(SOON):
        await Bot(stage.browser, PageContract.AUTO).join(url, seconds=SOON, tries=1)

    monkeypatch.setattr(readiness, "SETTLE_TIMEOUT", 0.3)
    async with asyncio.timeout(SOON):
        await Bot(stage.browser, PageContract.AUTO).join(site.add("/quiet", "quiet"), seconds=SOON, tries=1)


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        ({"/": answer("no", status="404 Not Found")}, "it answered 404 Not Found"),
        ({"/": answer("oh", status="500 Internal Server Error")}, "it answered 500"),
        (
            {"/": answer("", status="401 Unauthorized", more="www-authenticate: Basic realm=x")},
            "asks for a user name",
        ),
        ({"/": redirect("/")}, "redirects in a circle"),
        ({"/": redirect("file:///etc/passwd")}, "redirects to an address that is not a web page"),
        ({"/": answer(status="204 No Content")}, "the server sent no page"),
        ({"/": answer("x", kind="application/zip")}, "did not load: it is a file to download"),
    ],
)
async def test_page_that_cannot_be_shown_should_be_reported_in_words(
    stage: Stage, site: Site, pages: dict[str, Answer], words: str
) -> None:
    site.pages.update(pages)
    with pytest.raises(PageError, match=words) as told:
        await Bot(stage.browser, PageContract.AUTO).join(site.url(), seconds=SOON, tries=1)
    assert "ERR_" not in str(told.value)
    assert "Call log" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:{port}/", "the server refused the connection"),
        ("http://nosuch.invalid/", "its host name does not resolve"),
        ("http://127.0.0.1:6000/", "browsers block this port"),
        ("http://", "it is not a valid URL"),
    ],
)
async def test_page_that_is_not_there_should_be_reported_in_words(stage: Stage, url: str, words: str) -> None:
    with pytest.raises(PageError, match=words):
        await Bot(stage.browser, PageContract.AUTO).join(url.format(port=free_port()), seconds=SOON, tries=1)


@pytest.mark.parametrize(
    ("page", "seconds"), [(hang, 3.0), (answer("no", status="503 Service Unavailable"), 1.5)]
)
async def test_page_should_be_tried_three_times_within_its_seconds(
    stage: Stage, site: Site, page: Answer, seconds: float, tmp_path: Path
) -> None:
    site.pages["/"] = page
    bot = Bot(stage.browser, PageContract.AUTO)
    began = now()
    with pytest.raises(PageError, match=r"was not there after (1|0.5) s|answered 503") as told:
        await bot.join(site.url(), seconds=seconds, tries=3)
    assert seconds * 2 / 3 <= seconds_since(began) < seconds + 1.5
    tried = re.search(r"\(tried 3 times in (\d+) s\)", str(told.value))
    assert tried is not None
    assert abs(int(tried[1]) - seconds_since(began)) <= 1  # the time that it took, not the time that it had
    assert [path for path in site.asked if path == "/"] == ["/"] * 3
    assert await bot.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("http://127.0.0.1:6000/", None),
        ("http://", None),
        ("file:///nosuchfile.html", None),
        (None, answer("no", status="501 Not Implemented")),
    ],
)
async def test_page_that_no_other_try_can_load_should_fail_at_once(
    stage: Stage, site: Site, url: str | None, page: Answer | None
) -> None:
    if page is not None:
        site.pages["/"] = page
    with pytest.raises(PagePermanentError) as told:
        await Bot(stage.browser, PageContract.AUTO).join(url or site.url(), seconds=600, tries=3)
    assert "tried" not in str(told.value)
    assert [path for path in site.asked if path == "/"] == (["/"] if page else [])


async def test_page_that_works_at_the_second_try_should_be_joined(stage: Stage, site: Site) -> None:
    site.add("/", answer("no", status="502 Bad Gateway"), "<script>console.log('START_RECORDING')</script>")
    bot = Bot(stage.browser, PageContract.CONSOLE)
    await bot.join(site.url(), seconds=1.5, tries=3)
    assert [path for path in site.asked if path == "/"] == ["/"] * 2


async def test_joining_should_be_cancelled_without_a_trace(stage: Stage, site: Site) -> None:
    site.pages["/"] = hang
    before = asyncio.all_tasks()
    joining = asyncio.ensure_future(
        Bot(stage.browser, PageContract.AUTO).join(site.url(), seconds=30, tries=3)
    )
    await asyncio.sleep(0.3)
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    await stage.browser.page.goto("about:blank")
    assert joining not in asyncio.all_tasks()
    assert len(asyncio.all_tasks() - before) <= 2  # the site's own


async def test_dialogs_should_not_hang_the_bot(stage: Stage, site: Site) -> None:
    url = site.add(
        "/",
        """<script>onbeforeunload = event => { event.preventDefault(); return 'stay'; };
        alert('a'); confirm('b'); prompt('c'); console.log('START_RECORDING'); setTimeout(() => alert('d'));
        </script>""",
    )
    for _ in range(2):
        async with asyncio.timeout(SOON):
            await Bot(stage.browser, PageContract.CONSOLE).join(url, seconds=SOON, tries=1)
            # After the last dialog: Chromium may never end a navigation in which one opens.
            await stage.browser.page.evaluate("new Promise(done => setTimeout(done))")
    await stage.browser.page.goto("about:blank")


async def test_window_that_gets_through_should_be_closed(stage: Stage, site: Site) -> None:
    url = site.add(
        "/",
        """<body style='margin:0;background:rgb(0,0,255)'><script>console.log('START_RECORDING');
        onclick = () => { const other = window.open('/other', '', 'width=200,height=100');
        document.title = String(other !== null); }</script>""",
    )
    await Bot(stage.browser, PageContract.CONSOLE).join(url, seconds=SOON, tries=1)
    # At a click no blocker stops it.
    await stage.browser.page.mouse.click(50, 50)
    assert await stage.browser.page.title() == "true"
    async with asyncio.timeout(5):
        while len(stage.browser.context.pages) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    assert (await grab(stage.display, WIDTH, HEIGHT)).colors() == {(0, 0, 255)}
    assert await stage.browser.page.evaluate("[innerWidth, innerHeight]") == [WIDTH, HEIGHT]


async def test_hostile_console_should_not_break_the_log(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_log, "MAX_LINES", 20)
    caplog.set_level(logging.INFO, "recording_farm.browser_bot.page.page_log")
    url = site.add(
        "/",
        """<script>console.log("one\\ntwo\\r\\n2026-01-01 ERROR forged \\u001b[31m \\u2028 %s %d");
        console.log("x".repeat(1e7)); console.log({ a: [1, 2] }, null, undefined, Symbol("s"));
        for (let i = 0; i < 100; i++) console.log(i); console.log('START_RECORDING')</script>""",
    )
    # A stage of its own: on the shared one the bots of the other tests still listen.
    async with open_stage(WIDTH, HEIGHT, 30) as stage:
        await Bot(stage.browser, PageContract.CONSOLE).join(url, seconds=SOON, tries=1)
    told = [
        record.getMessage()
        for record in caplog.records
        if record.name == "recording_farm.browser_bot.page.page_log"
    ]
    assert len(told) == 21
    assert "further lines are not logged" in told[-1]
    assert all(len(line) < 700 and line.isprintable() for line in told)
    assert "one two  2026-01-01 ERROR forged [31m" in told[0]


async def test_crash_of_the_page_should_be_reported(stages: Path, tmp_path: Path) -> None:
    async with open_site() as site, open_stage(WIDTH, HEIGHT, 30) as stage:
        assert stage.directory.parent == stages
        bot = Bot(stage.browser, PageContract.CONSOLE)
        await bot.join(
            site.add("/", "<script>console.log('START_RECORDING')</script>"), seconds=SOON, tries=1
        )
        over = asyncio.ensure_future(bot.over())
        session = await stage.browser.context.new_cdp_session(stage.browser.page)
        crashing = asyncio.ensure_future(session.send("Page.crash"))
        with pytest.raises(PageLostError, match="the page has crashed"):
            await asyncio.wait_for(over, 5)
        crashing.cancel()
        await asyncio.gather(crashing, return_exceptions=True)
        async with asyncio.timeout(bot_module.SCREENSHOT_TIMEOUT):
            assert not await bot.screenshot(tmp_path / "page.png")
        with pytest.raises(PageError):
            await bot.join(site.url(), seconds=1, tries=1)


@pytest.mark.parametrize("victim", ["chromium", "node"])
async def test_death_of_the_browser_should_be_reported(stages: Path, victim: str) -> None:
    async with open_site() as site, open_stage(WIDTH, HEIGHT, 30) as stage:
        assert stage.directory.parent == stages
        bot = Bot(stage.browser, PageContract.CONSOLE)
        await bot.join(
            site.add("/", "<script>console.log('START_RECORDING')</script>"), seconds=SOON, tries=1
        )
        over = asyncio.ensure_future(bot.over())
        profile = f"--user-data-dir={stage.directory}/home/profile"
        driver = next(
            child
            for child in psutil.Process().children()
            if "node" in child.name() and below(child.pid, word=profile)
        )
        browser = driver.children()[0]
        os.kill({"chromium": browser, "node": driver}[victim].pid, signal.SIGKILL)
        with pytest.raises(PageLostError, match=r"the browser has died|the page was closed"):
            await asyncio.wait_for(over, 5)
        with pytest.raises(PageError):
            await bot.join(site.url(), seconds=1, tries=1)
