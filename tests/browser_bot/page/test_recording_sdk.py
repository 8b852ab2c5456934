"""Pages made for the recording SDK of Dyte or RealtimeKit, and what is secret in what pages say."""

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from recording_farm.browser_bot.errors import PageError, PageOverError
from recording_farm.browser_bot.page import recording_sdk
from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.page.hints import is_jitsi, jitsi_url
from recording_farm.browser_bot.page.recording_sdk import GONE_SECONDS, EndDetector, parse_flags
from recording_farm.browser_bot.stage.stage import Stage
from testkit.browser_bot.sdk_page import SDK_PAGE
from testkit.browser_bot.sites import Site

SOON = 60.0

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.long
@pytest.mark.parametrize("contract", [PageContract.SDK, PageContract.AUTO])
@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("Dyte", "window.triggerDyteRecording = false"),
        ("RealtimeKit", "window.triggerRealtimeKitRecording = false"),
        ("RealtimeKit", "delete window.realtimeKitRecording"),
        (
            "RealtimeKit",
            # cleanup() of @cloudflare/realtimekit-recording-sdk 0.0.1 and @dytesdk/recording-sdk 1.1.0.
            "delete window.realtimeKitRecordingSdk; delete window.realtimeKitRecording; socket.close()",
        ),
    ],
)
async def test_page_of_the_sdk_should_begin_by_its_socket_and_end_by_its_flags(
    stage: Stage, site: Site, contract: PageContract, name: str, end: str
) -> None:
    page = stage.browser.page
    bot = Bot(stage.browser, contract)
    began = asyncio.get_running_loop().time()
    await asyncio.wait_for(bot.join(site.add(f"/sdk?name={name}", SDK_PAGE), seconds=SOON, tries=1), SOON)
    assert asyncio.get_running_loop().time() - began >= 2.5
    assert bot.uses_sdk
    over = asyncio.create_task(bot.over())
    done, _ = await asyncio.wait({over}, timeout=2.5)
    assert not done
    assert await page.evaluate("heard[0]") == "2"
    await page.evaluate(end)
    await asyncio.wait_for(over, 5)


@pytest.mark.parametrize(
    "flag",
    [
        "triggerDyteRecording = true",
        "triggerRealtimeKitRecording = true",
        "dyteRecordingSdk = true",
        "realtimeKitRecording = {}",
    ],
)
async def test_page_whose_flags_announce_the_sdk_should_be_waited_for(
    stage: Stage, site: Site, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recording_farm.browser_bot.page.readiness.SETTLE_TIMEOUT", 0.2)
    page = """<script>window.FLAG; onload = () => setTimeout(() => {
      const socket = new WebSocket("ws://localhost:8080/ws");
      socket.onopen = () => socket.send('{"type": "StartRecording"}');
    }, DELAY)</script>"""
    page = page.replace("FLAG", flag).replace("DELAY", "4000" if flag.startswith("triggerDyte") else "800")
    bot = Bot(stage.browser, PageContract.AUTO)
    await asyncio.wait_for(bot.join(site.add("/late", page), seconds=SOON, tries=1), SOON)
    assert bot.uses_sdk


async def test_socket_should_be_kept_alive(stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_sdk, "KEEP_ALIVE_SECONDS", 0.2)
    bot = Bot(stage.browser, PageContract.SDK)
    await asyncio.wait_for(bot.join(site.add("/sdk", SDK_PAGE), seconds=SOON, tries=1), SOON)
    assert len(await stage.browser.page.evaluate("heard")) >= 5


async def test_page_that_never_begins_should_fail_in_words(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recording_farm.browser_bot.page.readiness.SIGNAL_TIMEOUT", 1.0)
    with pytest.raises(PageError, match="its recording SDK did not connect within 1 s"):
        await Bot(stage.browser, PageContract.SDK).join(site.add("/plain", "<p>x"), seconds=SOON, tries=1)
    silent = SDK_PAGE.replace("setTimeout(", "(() => 0)(")
    with pytest.raises(PageError, match="did not send StartRecording within 1 s"):
        await Bot(stage.browser, PageContract.SDK).join(site.add("/silent", silent), seconds=SOON, tries=1)


async def test_sdk_that_is_over_before_it_has_begun_should_end_the_joining(stage: Stage, site: Site) -> None:
    over = SDK_PAGE.replace(
        'socket.send(JSON.stringify({type: "StartRecording"}))', "window[`trigger${name}Recording`] = false"
    )
    with pytest.raises(PageOverError, match="ended without sending StartRecording"):
        await asyncio.wait_for(
            Bot(stage.browser, PageContract.SDK).join(site.add("/sdk", over), seconds=SOON, tries=1), SOON
        )


async def test_hostile_messages_should_change_nothing(stage: Stage, site: Site) -> None:
    hostile = SDK_PAGE.replace(
        "window[`${small}RecordingSdk`] = true;",
        """socket.send("{".repeat(9)); socket.send("[".repeat(60000)); socket.send("x".repeat(200000));
        socket.send(new Uint8Array([1, 2, 3])); socket.send('["StartRecording"]'); socket.send("null");
        socket.send('{"type": {"toString": 1}}');""",
    )
    bot = Bot(stage.browser, PageContract.SDK)
    began = asyncio.get_running_loop().time()
    await asyncio.wait_for(bot.join(site.add("/hostile", hostile), seconds=SOON, tries=1), SOON)
    assert asyncio.get_running_loop().time() - began >= 2.5


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_frame_in_the_page_should_not_speak_for_it(stage: Stage, site: Site, host: str) -> None:
    frame = """<script>
    window.triggerDyteRecording = false;
    const socket = new WebSocket("ws://localhost:8080/ws");
    socket.onopen = () => socket.send('{"type": "StartRecording"}');
    socket.onclose = () => console.log("frame is done");
    // Whatever the recorder has left here.
    for (const name of Object.getOwnPropertyNames(self).filter(name => name.startsWith("__"))) {
      try { self[name]('{"type": "StartRecording"}'); } catch {}
    }
    setTimeout(() => { socket.close(); console.log("frame is done"); }, 300);
    </script>"""
    site.add("/frame", frame)
    page = f"""<iframe src="{site.url("/frame", host)}"></iframe><script>
    const begin = () => {{
      window.triggerDyteRecording = true;
      const socket = new WebSocket("ws://localhost:8080/ws");
      socket.addEventListener("open", () => socket.send('{{"type": "StartRecording"}}'));
      return socket instanceof WebSocket;
    }};
    </script>"""
    bot = Bot(stage.browser, PageContract.SDK)
    joining = asyncio.ensure_future(bot.join(site.add("/page", page), seconds=SOON, tries=1))
    async with asyncio.timeout(SOON):
        while not any("frame is done" in line for line in bot.page_log):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert not joining.done()
    assert not bot.uses_sdk
    assert await stage.browser.page.evaluate("begin()")
    await asyncio.wait_for(joining, SOON)
    over = asyncio.create_task(bot.over())
    done, _ = await asyncio.wait({over}, timeout=2.5)
    assert not done
    await stage.browser.page.evaluate("window.triggerDyteRecording = false")
    await asyncio.wait_for(over, SOON)


async def test_socket_of_the_sdk_should_close_and_open_again_as_any(stage: Stage, site: Site) -> None:
    page = """<script>
    const events = [];
    const connect = () => new Promise((resolve) => {
      const socket = new WebSocket("ws://localhost:8080/ws");
      try { socket.send("too early"); } catch (error) { events.push(error.name); }
      socket.onopen = () => { events.push(socket.readyState); socket.close(3002, "Ping timeout"); };
      socket.onclose = ({code, reason, target}) => {
        events.push(code, reason, target === socket, socket.readyState);
        resolve();
      };
    });
    connect().then(connect).then(() => {
      const socket = new WebSocket("ws://localhost:8080/ws");
      socket.onopen = () => socket.send('{"type": "StartRecording"}');
    });
    </script>"""
    bot = Bot(stage.browser, PageContract.SDK)
    await asyncio.wait_for(bot.join(site.add("/page", page), seconds=SOON, tries=1), SOON)
    once = ["InvalidStateError", 1, 3002, "Ping timeout", True, 3]
    assert await stage.browser.page.evaluate("events") == once * 2


@pytest.mark.parametrize(
    ("states", "over"),
    [
        ([{"over": True}], [True]),
        ([{"over": False}, None, {"over": True}], [False, False, True]),
        ([{"meeting": True, "present": True}, {"meeting": False, "present": True}], [False, True]),
        # Loaded anew, and there again.
        ([{"meeting": True}, {}, None, {"meeting": True}, {}], [False] * 5),
        # It never had any: a page that opened the socket by itself.
        ([{}, {}, {}], [False] * 3),
        # Cleaned up: all is gone but the trigger.
        (
            [{"meeting": True, "announced": True}, {"announced": True}, {"announced": True}],
            [False, False, True],
        ),
        # Cleaned up, and begun anew at once.
        (
            [
                {"meeting": True},
                {"announced": True},
                {"meeting": True},
                {"announced": True},
                {"meeting": True},
            ],
            [False] * 5,
        ),
    ],
)
async def test_flags_should_say_when_it_is_over(states: list[Any], over: list[bool]) -> None:
    watch = EndDetector()
    assert [watch.is_over(state, 1, float(second)) for second, state in enumerate(states)] == over


async def test_page_that_is_reloaded_should_not_be_over_before_its_sdk_has_a_meeting_again() -> None:
    watch = EndDetector()
    assert not watch.is_over({"meeting": True, "present": True, "announced": True}, 1, 0)
    # The SDK is made, and its init() waits for the meeting.
    for second in range(1, 60):
        assert not watch.is_over({"present": True}, 2, second)
    assert not watch.is_over({"meeting": True, "present": True}, 2, 60)
    assert watch.is_over({"present": True}, 2, 61)


@pytest.mark.parametrize("answer", [None, "", "over", "11111", "111x", "١111", "1111\n", 1111, {}])
async def test_what_are_no_flags_should_be_none(answer: object) -> None:
    assert parse_flags(answer) is None
    assert parse_flags("0101") == {"announced": False, "present": True, "meeting": False, "over": True}


async def test_page_without_its_sdk_for_long_should_be_over() -> None:
    watch = EndDetector()
    assert not watch.is_over({"meeting": True}, 1, 0)
    assert not watch.is_over({}, 2, 1)
    assert not watch.is_over({}, 2, GONE_SECONDS)
    assert watch.is_over({}, 2, 1 + GONE_SECONDS)


async def test_secrets_in_the_url_should_stay_out_of_errors_and_diary(stage: Stage, site: Site) -> None:
    url = site.add("/token?authToken=s3/cret", "<script>console.log(location.href)</script>")
    bot = Bot(stage.browser, PageContract.PLAIN, secrets=["s3/cret"])
    await bot.join(url, seconds=SOON, tries=1)
    assert any("authToken=…" in line for line in bot.page_log)
    with pytest.raises(PageError) as failed:
        await bot.join("http://127.0.0.1:9/?authToken=s3%2Fcret", seconds=1, tries=1)
    for text in (str(failed.value), *bot.page_log):
        assert "cret" not in text


async def test_secret_longer_than_a_line_should_stay_out_of_the_diary_in_each_form(
    stage: Stage, site: Site
) -> None:
    secret = 's3/cr+t é"' * 100
    script = """const token = new URLSearchParams(location.search).get("authToken");
    console.log("x".repeat(100) + token);
    console.log(location.href);
    console.log(new URLSearchParams({token}).toString());
    console.log(JSON.stringify({token}));
    fetch("http://127.0.0.1:9/" + encodeURIComponent(token)).catch(() => {
      const socket = new WebSocket("ws://localhost:8080/ws");
      socket.onopen = () => {
        socket.send(JSON.stringify({type: "token", token}));
        socket.send('{"type": "StartRecording"}');
      };
    });"""
    url = site.add(
        f"/token?authToken={quote(secret, safe='')}", f"<meta charset=utf-8><script>{script}</script>"
    )
    bot = Bot(stage.browser, PageContract.SDK, secrets=[secret])
    await asyncio.wait_for(bot.join(url, seconds=SOON, tries=1), SOON)
    lines = [line.partition(" ")[2] for line in bot.page_log]
    assert sum("…" in line for line in lines) >= 6
    assert not [line for line in lines if "s3" in line]


async def test_jitsi_meeting_should_be_known_by_its_host_and_joined_without_questions() -> None:
    hosts = ("meet.jit.si",)
    assert is_jitsi("https://Meet.Jit.si/Room", hosts)
    assert not is_jitsi("https://meet.jit.si.example/Room", hosts)
    url = jitsi_url("https://meet.jit.si/Room?jwt=a#config.startWithAudioMuted=false")
    before, _, fragment = url.partition("#")
    assert before == "https://meet.jit.si/Room?jwt=a"
    assert "config.prejoinConfig.enabled=false&" in fragment
    assert fragment.endswith("&config.startWithAudioMuted=false")
