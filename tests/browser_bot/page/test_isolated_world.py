"""What we ask a page, whatever it has done to its own world, and what the browser says of it."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from recording_farm.browser_bot.errors import NoAnswerError
from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.console import ConsoleMessage
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.page.isolated_world import IsolatedWorld
from recording_farm.browser_bot.stage.stage import Stage
from testkit.browser_bot.sites import Site, answer
from testkit.waiting import until

SOON = 60.0

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What pages do to the browser's own functions, by mistake or not.
REPLACED = {
    "eval": "window.eval = () => {};",
    "toJSON": "Array.prototype.toJSON = function () { return '[' + this.join() + ']' };"
    "Object.prototype.toJSON = () => 'x';",
    "JSON": "window.JSON = { parse: () => ({}), stringify: () => 'x' };",
    "iterator": "Array.prototype[Symbol.iterator] = () => { throw new Error('boo') };",
    "Promise": "window.Promise = class { then() { return this } };",
    "call": "Function.prototype.call = Function.prototype.apply = () => { throw new Error('boo') };",
    "methods": "for (const name of ['map', 'push', 'splice', 'some', 'forEach', 'includes', 'filter'])"
    "Array.prototype[name] = () => { throw new Error('boo') };"
    "String.prototype.trim = String.prototype.startsWith = RegExp.prototype.exec = () => null;",
    "events": "EventTarget.prototype.addEventListener = EventTarget.prototype.dispatchEvent = () => {};"
    "window.Event = window.MessageEvent = window.Proxy = window.Reflect = undefined;",
    "observers": "window.MutationObserver = window.customElements.define = () => {};"
    "window.setTimeout = () => {}; window.setTimeout.toString = 1;",
    "console": "{ const { log } = console; Object.defineProperty(window, 'console', { value: Object.freeze({"
    "log: (...words) => log('%c[app]%c', 'color: red', '', ...words) }) }); }",
}


@pytest_asyncio.fixture(loop_scope="module")
async def printed() -> list[ConsoleMessage]:
    return []


@pytest_asyncio.fixture(loop_scope="module")
async def thrown() -> list[str]:
    return []


@pytest_asyncio.fixture(loop_scope="module")
async def world(
    stage: Stage, printed: list[ConsoleMessage], thrown: list[str]
) -> AsyncIterator[IsolatedWorld]:
    world = IsolatedWorld(stage.browser.page, on_console=printed.append, on_exception=thrown.append)
    world.add_script("globalThis.ranBefore = typeof ranFirst;")
    await world.open()
    yield world
    await world.close()


@pytest.mark.parametrize("replaced", REPLACED)
async def test_page_that_replaces_the_browsers_functions_should_begin_and_end_by_its_signals(
    stage: Stage, site: Site, replaced: str
) -> None:
    later = "document.querySelector('img').onerror = () => console.log"
    script = f"{REPLACED[replaced]} {later}('START_RECORDING'); document.images[0].src = '/no'"
    url = site.add("/", f"<img><script>{script}</script>")
    bot = Bot(stage.browser, PageContract.CONSOLE)
    await asyncio.wait_for(bot.join(url, seconds=SOON, tries=1), SOON)
    over = asyncio.ensure_future(bot.over())
    world = IsolatedWorld(stage.browser.page)
    await world.open()
    await until(lambda: bot.page_state is not None, SOON, "an answer of the probe")
    await world.ask_main_world("console.log('END_RECORDING')")
    await asyncio.wait_for(over, SOON)
    await world.close()


@pytest.mark.parametrize("replaced", ["toJSON", "iterator", "call", "methods", "events", "observers"])
async def test_page_that_replaces_the_browsers_functions_should_begin_and_end_by_its_sdk(
    stage: Stage, site: Site, replaced: str
) -> None:
    sdk = """window.triggerRealtimeKitRecording = true;
    const socket = new WebSocket("ws://localhost:8080/ws");
    socket.onmessage = ({ data }) => { if (data === "2") socket.send("3"); };
    socket.onopen = () => socket.send('{"type": "StartRecording"}');"""
    bot = Bot(stage.browser, PageContract.SDK)
    url = site.add("/", f"<script>{REPLACED[replaced]} {sdk}</script>")
    await asyncio.wait_for(bot.join(url, seconds=SOON, tries=1), SOON)
    over = asyncio.ensure_future(bot.over())
    world = IsolatedWorld(stage.browser.page)
    await world.open()
    await world.ask_main_world("window.triggerRealtimeKitRecording = false")
    await asyncio.wait_for(over, SOON)
    await world.close()
    await bot.close()


@pytest.mark.parametrize("replaced", REPLACED)
async def test_page_that_replaces_the_browsers_functions_should_be_asked(
    stage: Stage, site: Site, world: IsolatedWorld, replaced: str
) -> None:
    await stage.browser.page.goto(
        site.add("/", f"<script>var ranFirst = 1; {REPLACED[replaced]}</script><p>there")
    )
    asked = "(async () => [await 1, document.querySelector('p').textContent, JSON.stringify([1])])()"
    assert await world.ask(asked) == [1, "there", "[1]"]
    assert await world.ask_main_world("ranBefore") == "undefined"
    assert await world.ask("typeof ranBefore") == "undefined"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same origin", "another site"])
async def test_frames_should_be_asked_from_their_beginning(
    stage: Stage, site: Site, world: IsolatedWorld, host: str
) -> None:
    site.add("/inner", "<script>var ranFirst = 1</script><p>inner")
    outer = f"<script>var ranFirst = 1</script><p>outer<iframe src='{site.url('/inner', host)}'></iframe>"
    site.add("/outer", outer)
    # Back on the page's own site, in a frame of another one.
    await stage.browser.page.goto(
        site.add("/", f"<p>page<iframe src='{site.url('/outer', 'localhost')}'></iframe>")
    )

    async def texts() -> list[str]:
        asked = "document.querySelector('p')?.firstChild.data"
        return [await world.ask(asked, frame=frame) for frame in world.frames]

    async with asyncio.timeout(SOON):
        while sorted(map(str, await texts())) != ["inner", "outer", "page"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await texts())[0] == "page"
    for frame in world.frames:
        assert await world.ask_main_world("ranBefore", frame=frame) == "undefined"
    await world.ask("document.querySelector('iframe').remove()")
    await until(lambda: len(world.frames) == 1, SOON, "the frames are gone")


async def test_questions_should_be_no_gesture_of_the_user(stage: Stage, site: Site) -> None:
    url = site.add(
        "/", "<p>quiet<script>addEventListener('load', () => console.log('START_RECORDING'))</script>"
    )
    page = stage.browser.page
    await Bot(stage.browser, PageContract.AUTO).join(url, seconds=SOON, tries=1)
    # Also by Playwright's own, of which steps are made.
    await page.locator("text=quiet").wait_for()
    assert await page.evaluate("navigator.userActivation.hasBeenActive") is False
    await page.locator("p").click()
    assert await page.evaluate("navigator.userActivation.hasBeenActive") is True


async def test_what_is_printed_and_thrown_should_be_heard_of_each_frame_and_worker(
    stage: Stage, site: Site, world: IsolatedWorld, printed: list[ConsoleMessage], thrown: list[str]
) -> None:
    del world
    script = "console.warn('%s prints', NAME); throw new Error(`${NAME} throws`)"
    site.add("/frame", f"<script>const NAME = 'frame'; {script}</script>")
    site.add("/worker", answer("console.log('worker prints')", kind="text/javascript"))
    page = f"""<iframe src='{site.url("/frame", "localhost")}'></iframe><script>new Worker('/worker');
    Promise.reject(new Error('rejected')); const NAME = 'page'; {script}</script>"""
    await stage.browser.page.goto(site.add("/", page))

    def heard(text: str) -> Callable[[], bool]:
        return lambda: any(text in each.text for each in printed)

    for text in ("page prints", "frame prints", "worker prints"):
        await until(heard(text), 3, f"{text}: {[each.text for each in printed]}")
    assert {each.text: each.is_pages for each in printed if "prints" in each.text} == {
        "page prints": True,
        "frame prints": False,
        "worker prints": False,
    }
    for text in ("Error: page throws", "Error: frame throws", "in promise) Error: rejected"):
        await until(lambda text=text: any(text in each for each in thrown), SOON, text)  # type: ignore[misc]


async def test_what_is_printed_should_not_be_kept(
    stage: Stage, site: Site, world: IsolatedWorld, printed: list[ConsoleMessage]
) -> None:
    del world
    each, times = 5_000_000, 60
    page = f"""<script>
    const print = () => {{
      console.log(`print ${{++times}}`, {{ kept: new Uint8Array({each}).fill(times) }});
      if (times < {times}) setTimeout(print, 50);
    }};
    let times = 0;
    print();
    </script>"""
    before = stage.memory()
    await stage.browser.page.goto(site.add("/", page))
    last = f"print {times}"
    await until(lambda: any(line.parts[:1] == (last,) for line in printed), 3 * SOON, last)
    assert stage.memory() - before < each * times * 0.6


async def test_exceptions_that_the_page_does_not_catch_should_be_in_the_diary(
    stage: Stage, site: Site
) -> None:
    script = "Promise.reject(new Error('no s3cret network')); null.room"
    bot = Bot(stage.browser, PageContract.PLAIN, secrets=["s3cret"])
    await bot.join(site.add("/", f"<script>{script}</script>"), seconds=SOON, tries=1)
    errors = [line for line in bot.page_log if " pageerror: " in line]
    assert any("Uncaught TypeError: Cannot read properties of null" in line for line in errors)
    assert any("Uncaught (in promise) Error: no … network" in line for line in errors)
    await bot.close()


async def test_question_that_has_no_answer_should_be_reported(
    stage: Stage, site: Site, world: IsolatedWorld
) -> None:
    await stage.browser.page.goto(site.add("/", "quiet"))
    with pytest.raises(NoAnswerError, match="boo"):
        await world.ask("(() => { throw new Error('boo') })()")
    with pytest.raises(NoAnswerError, match="no document"):
        await world.ask("1", frame="no such frame")
    with pytest.raises(NoAnswerError, match="not attached"):
        await IsolatedWorld(stage.browser.page).ask("1")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same origin", "another site"])
@pytest.mark.usefixtures("world")
async def test_file_chooser_in_a_frame_should_be_cancelled(
    stage: Stage, site: Site, printed: list[ConsoleMessage], host: str
) -> None:
    chooser = (
        "<input type=file><script>document.querySelector('input').oncancel = () => console.log('cancelled')"
    )
    site.add("/frame", f"{chooser}</script>")
    page = stage.browser.page
    await page.goto(site.add("/", f"<iframe src='{site.url('/frame', host)}'></iframe>"))
    await page.frame_locator("iframe").locator("input").click(timeout=SOON * 1000)
    await until(lambda: "cancelled" in [each.text for each in printed], SOON, "an answer of the chooser")
