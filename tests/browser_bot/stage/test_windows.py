"""Nothing of the browser's own stands in the picture, whatever a page does when somebody has clicked."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.stage.pixels import grab_picture
from recording_farm.browser_bot.stage.stage import Stage, open_stage
from recording_farm.browser_bot.stage.x_connection import connected
from testkit.browser_bot.sites import Site, answer, hang, open_site
from testkit.browser_bot.stages import blank
from testkit.browser_bot.x_windows import show_window

WIDTH, HEIGHT = 640, 360
BLUE = b"\xff\x00\x00\x00"
# Bubbles come within 0.1 s of what they are about, the one of Translate within 0.5 s (measured).
LONG_ENOUGH = 0.8
SOON = 60.0

PAGE = """<!doctype html><html lang="{lang}"><style>* {{ outline: none; caret-color: transparent }}
html {{ overflow: hidden }}
body, button {{ margin: 0; border: 0; background: rgb(0,0,255); color: rgb(0,0,255) }}
button {{ display: block; width: 100vw; height: 100vh }}
iframe, input, select, video, form {{ opacity: 0; position: fixed; left: 0; top: 100px }}</style>
<button onclick="act().then(tell, tell)"></button><script>
window.said = '';
const tell = (what) => {{ window.said += what?.name ?? what }};
const add = (name, more) => {{
  const element = Object.assign(document.createElement(name), more);
  document.body.append(element);
  return element;
}};
const act = async () => {{ {script} }};
</script>{more}"""

CREATED_KEY = """{rp: {name: 'x'}, user: {id: new Uint8Array(4), name: 'n', displayName: 'd'},
  challenge: new Uint8Array(16), pubKeyCredParams: [{type: 'public-key', alg: -7}]}"""
FILM = """const canvas = document.createElement('canvas');
canvas.getContext('2d').fillRect(0, 0, 9, 9);
const video = add('video', {muted: true, srcObject: canvas.captureStream(10)});
await video.play();"""

# What a page does at a click, and what it is told, as far as it is.
ACTS = {
    "save password": (
        "await navigator.credentials.store(new PasswordCredential({id: 'ann', password: 'x1y2z3'}))",
        "undefined",
    ),
    "other scheme": ("location = 'meetapp://join/room'", None),
    "other scheme in a frame": ("add('iframe', {src: 'zoommtg://join'})", None),
    "mail": ("location = 'mailto:ann@example.com'", None),
    "print": ("print()", "undefined"),
    "print in a frame": (
        "add('iframe', {srcdoc: '<p>x</p><script>onload = () => print()</' + 'script>'})",
        None,
    ),
    "password of a server": ("return (await fetch('/password')).status", "401"),
    "password of a server in a frame": ("add('iframe', {src: '/password'})", None),
    "file": ("add('input', {type: 'file', oncancel: () => tell('cancelled')}).click()", "cancelledundefined"),
    "files of a directory": ("add('input', {type: 'file', webkitdirectory: true}).click()", None),
    "file system": ("await showOpenFilePicker()", "AbortError"),
    "directory": ("await showDirectoryPicker()", "AbortError"),
    "passkey": (
        "await navigator.credentials.get({publicKey: {challenge: new Uint8Array(16)}})",
        "NotAllowedError",
    ),
    "new passkey": (f"await navigator.credentials.create({{publicKey: {CREATED_KEY}}})", "NotAllowedError"),
    "identity": (
        "await navigator.credentials.get({identity: {providers: [{configURL: '/x', clientId: '1'}]}})",
        "NotSupportedError",
    ),
    "payment": ("new PaymentRequest([], {})", "ReferenceError"),
    "usb": ("await navigator.usb.requestDevice({filters: []})", "NotFoundError"),
    "serial": ("await navigator.serial.requestPort()", "NotFoundError"),
    "hid": ("return (await navigator.hid.requestDevice({filters: []})).length", "0"),
    "screen": ("await navigator.mediaDevices.getDisplayMedia()", "TypeError"),
    "color of the screen": ("await new EyeDropper().open()", "ReferenceError"),
    "picture in picture": (f"{FILM} await video.requestPictureInPicture()", "NotSupportedError"),
    "window in picture": ("await documentPictureInPicture.requestWindow()", "ReferenceError"),
    "notification": ("return await Notification.requestPermission()", "denied"),
}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stage() -> AsyncIterator[Stage]:
    async with open_stage(WIDTH, HEIGHT, 30) as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def stage(shared_stage: Stage) -> Stage:
    shared_stage.windows.pop_found()
    return await blank(shared_stage)


@pytest_asyncio.fixture(loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with open_site() as site:
        password = answer("x", status="401 Unauthorized", more='www-authenticate: Basic realm="Room"')
        site.add("/password", password)
        site.add("/hang", hang)
        site.add("/red", "<body style='background: red'>")
        yield site


async def open_page(stage: Stage, site: Site, script: str = "", *, lang: str = "en", more: str = "") -> None:
    site.add("/", PAGE.format(script=script, lang=lang, more=more))
    # Of a host that is an address there are no passkeys.
    await stage.browser.page.goto(site.url("/", host="localhost"))
    await becomes_blue_again(stage, 0.4)


async def colors(stage: Stage) -> set[int]:
    return set(memoryview(await grab_picture(stage.display, WIDTH, HEIGHT)).cast("I"))


async def is_blue(stage: Stage) -> bool:
    (blue,) = memoryview(BLUE).cast("I")
    return await colors(stage) == {blue}


async def until_blue(stage: Stage) -> None:
    async with asyncio.timeout(SOON):
        while not await is_blue(stage):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.02)


async def stays_blue(stage: Stage) -> None:
    """Look at every frame for as long as bubbles take to come."""
    until = time.monotonic() + LONG_ENOUGH
    while time.monotonic() < until:
        assert await is_blue(stage)
        await asyncio.sleep(0.02)


async def becomes_blue_again(stage: Stage, seconds: float = LONG_ENOUGH) -> None:
    """Wait until the page stands alone for so long; at first the one before it may still be shown."""
    since = time.monotonic()
    async with asyncio.timeout(SOON):
        while time.monotonic() < since + seconds:
            if not await is_blue(stage):
                since = time.monotonic()
            await asyncio.sleep(0.02)


async def said(stage: Stage, expected: str) -> None:
    async with asyncio.timeout(SOON):
        while (what := await stage.browser.page.evaluate("said")) != expected:
            assert expected.startswith(what), what
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("act", ACTS)
async def test_page_should_stay_alone_in_the_picture(stage: Stage, site: Site, act: str) -> None:
    script, expected = ACTS[act]
    await open_page(stage, site, script)
    await stage.browser.page.mouse.click(300, 300)
    await stays_blue(stage)
    if expected is not None:
        await said(stage, expected)
    # The page goes on: a click is answered.
    assert await stage.browser.page.evaluate("1 + 1") == 2
    assert stage.windows.pop_found() == []


async def test_page_in_another_language_should_not_be_offered_in_english(stage: Stage, site: Site) -> None:
    await open_page(stage, site, lang="de", more="<p>Guten Tag, hier beginnt gleich die Besprechung.</p>")
    await stays_blue(stage)


async def test_password_that_was_sent_should_not_be_offered_for_saving(stage: Stage, site: Site) -> None:
    form = """<form action="/in"><input name="username" autocomplete="username">
    <input name="password" type="password" autocomplete="current-password"><button></button></form>"""
    site.add("/in?username=ann&password=x1y2z3", PAGE.format(script="", lang="en", more=""))
    await open_page(stage, site, more=form)
    page = stage.browser.page
    await page.locator("[name=username]").fill("ann")
    await page.locator("[name=password]").fill("x1y2z3")
    await page.evaluate("document.forms[0].submit()")
    await page.wait_for_url("**/in?*")
    await becomes_blue_again(stage, 0.4)
    await stays_blue(stage)


async def test_address_of_another_scheme_should_not_keep_a_page_from_being_joined(
    stage: Stage, site: Site
) -> None:
    more = "<script>location = 'meetapp://join'; console.log('START_RECORDING')</script>"
    url = site.add("/", PAGE.format(script="", lang="en", more=more))
    await Bot(stage.browser, PageContract.CONSOLE).join(url, seconds=SOON, tries=1)
    await becomes_blue_again(stage, 0.4)
    await stays_blue(stage)


@pytest.mark.parametrize(
    "script",
    [
        "open('/red')",
        "open('/hang')",
        "open('/hang', '', 'noopener')",
        "open('/red', '', 'width=300,height=200')",
        "open('/hang', '', 'width=300,height=200')",
        "open('meetapp:x')",
        # On a busy machine these may be shown for some ms before they are taken off.
        "add('input', {type: 'color'}).showPicker()",
        "add('input', {type: 'date'}).showPicker()",
        "add('select', {innerHTML: '<option>1<option>2'}).showPicker()",
        "await document.body.requestPointerLock()",
        # On a busy machine it stands for a moment before it is dismissed.
        "alert('hello')",
    ],
)
async def test_popup_or_dialog_should_be_gone_also_while_its_document_never_comes(
    stage: Stage, site: Site, script: str
) -> None:
    await open_page(stage, site, script)
    await stage.browser.page.mouse.click(300, 300)
    await said(stage, "undefined")
    await becomes_blue_again(stage)
    assert stage.browser.context.browser is not None
    session = await stage.browser.context.browser.new_browser_cdp_session()
    targets = (await session.send("Target.getTargets"))["targetInfos"]
    await session.detach()
    assert [target["url"] for target in targets if target["type"] == "page"] == [site.url("/", "localhost")]


async def test_window_of_another_program_should_not_be_shown(stage: Stage, site: Site) -> None:
    await open_page(stage, site)
    async with connected(stage.display) as connection:
        show_window(connection, is_override_redirect=False)
        await stays_blue(stage)
    assert stage.windows.pop_found() == []


async def test_window_that_passes_by_window_managers_should_be_taken_off(stage: Stage, site: Site) -> None:
    await open_page(stage, site)
    async with connected(stage.display) as connection:
        # Both at once: it is shown before anybody can keep it from that.
        show_window(connection, is_override_redirect=True)
        async with asyncio.timeout(SOON):
            while not (found := stage.windows.pop_found()):  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.02)
        await until_blue(stage)
        await stays_blue(stage)
    assert [(each.width, each.height) for each in found] == [(200, 100)]
    assert stage.windows.shown == []
