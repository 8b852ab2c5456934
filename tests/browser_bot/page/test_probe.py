"""What a page says of itself, from real pages with real peer connections, also from hostile ones."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import ConsoleMessage

from recording_farm.browser_bot.errors import NoAnswerError
from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.page.isolated_world import IsolatedWorld
from recording_farm.browser_bot.page.probe import PageState, Probe, parse_answer
from recording_farm.browser_bot.stage.pixels import grab_rows, is_black
from recording_farm.browser_bot.stage.stage import Stage, open_stage
from testkit.browser_bot.sites import Site, answer
from testkit.browser_bot.stages import HEIGHT, WIDTH
from testkit.machine.processes import below
from testkit.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUIET = PageState(online=True, drawn=True, speaking=False, moving=False, tracks=0, unsettled=0, connected=0)
# What is asked twice is known; connections need a moment.
SOON = 60.0
# Two peers in one page: one sends a tone and a picture, the other one receives them, and plays nothing.
CALL = """<!doctype html><script>
const sound = new AudioContext({ sinkId: { type: "none" } });
const tone = sound.createOscillator(), out = sound.createMediaStreamDestination();
tone.connect(out);
tone.start();
async function call(Peer) {
    const one = new Peer(), other = new Peer();
    one.onicecandidate = ({ candidate }) => other.addIceCandidate(candidate);
    other.onicecandidate = ({ candidate }) => one.addIceCandidate(candidate);
    one.addTrack(out.stream.getAudioTracks()[0], out.stream);
    other.ontrack = ({ streams }) => { window.heard = streams[0]; };
    await one.setLocalDescription();
    await other.setRemoteDescription(one.localDescription);
    await other.setLocalDescription();
    await one.setRemoteDescription(other.localDescription);
    Object.assign(window, { one, other });
}
</script>"""
CALLING = f"{CALL}<script>call(RTCPeerConnection).then(() => console.log('START_RECORDING'))</script>"
PLAYED = """<script>
const player = new Audio();
const playing = setInterval(() => {
    if (window.heard) { player.srcObject = heard; player.play(); clearInterval(playing); }
}, 50);
</script>"""
# A video as of a camera, of which no frame is like the one before; or of a slide, over which a pointer goes.
VIDEO = """<body style="margin: 0"><style>* { position: fixed; left: 0; top: 0 }</style>
<video muted autoplay style="width: 320px; height: 180px"></video><script>
const source = document.createElement("canvas"), video = document.querySelector("video");
source.width = 320;
source.height = 180;
const surface = source.getContext("2d");
let isCamera = true, frame = 0;
setInterval(() => {
    frame += 1;
    for (let cell = 0; cell < 576; cell++) {
        surface.fillStyle = `hsl(${isCamera ? (cell * 7 + frame * 31) % 360 : 90}, 50%, 50%)`;
        surface.fillRect(cell % 32 * 10, Math.floor(cell / 32) * 10, 10, 10);
    }
    surface.fillStyle = "black";
    surface.fillRect(frame * 5 % 300, 100, 10, 10);
}, 50);
video.srcObject = source.captureStream();
</script>"""
# Everything that the probe could stumble over.
HOSTILE = """<script>
const bomb = () => { throw new Error("boo"); };
const giant = "9".repeat(1e6);
for (const type of [RTCPeerConnection, RTCRtpTransceiver, RTCRtpReceiver, MediaStreamTrack, RTCStatsReport,
                    HTMLMediaElement, HTMLVideoElement, HTMLCollection, Element, Document, Navigator,
                    Performance, Set, WeakRef, Promise, DOMRectReadOnly, OffscreenCanvas, ImageData,
                    OffscreenCanvasRenderingContext2D]) {
    for (const name of Object.getOwnPropertyNames(type.prototype)) {
        if (name === "constructor") continue;
        try {
            Object.defineProperty(type.prototype, name, { get: bomb, configurable: true });
        } catch {}
    }
}
Reflect.apply = Reflect.construct = bomb;
Object.defineProperty(Array.prototype, 0, { set: bomb, get: bomb, configurable: true });
Array.prototype[Symbol.iterator] = bomb;
Function.prototype.call = Function.prototype.apply = bomb;
Object.prototype.toJSON = () => giant;
Object.defineProperty(Object.prototype, "audioLevel", { get: bomb });
window.WeakRef = window.Set = window.Proxy = window.requestAnimationFrame = bomb;
Symbol.for = bomb;
try { Object.defineProperty(window, "__recordingFarmProbe", { value: () => giant }); } catch {}
window.__recordingFarmProbe = () => giant;
console.log("HOSTILE");
</script>"""


@pytest_asyncio.fixture(loop_scope="module")
async def probe(stage: Stage) -> AsyncIterator[Probe]:
    """A probe that is looked through all the time."""
    world = IsolatedWorld(stage.browser.page)
    probe = Probe(world)
    await world.open()

    async def look() -> None:
        while True:
            async with asyncio.timeout(5):
                with suppress(NoAnswerError):
                    await probe.sample()
            await asyncio.sleep(0.2)

    looking = asyncio.ensure_future(look())
    yield probe
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await probe.close()
    await world.close()


async def test_quiet_page_should_say_that_it_is_there(stage: Stage, site: Site, probe: Probe) -> None:
    await stage.browser.page.goto(site.add("/", "quiet"))
    await until(lambda: probe.state == QUIET, SOON, f"quiet: {probe.state}")


async def test_tracks_of_others_should_be_counted_until_they_leave(
    stage: Stage, site: Site, probe: Probe
) -> None:
    await stage.browser.page.goto(site.add("/", CALLING + PLAYED))
    await until(lambda: probe.state is not None and probe.state.tracks == 1, SOON, "a track")
    await until(lambda: probe.state is not None and probe.state.speaking, SOON, "a voice")
    # Muted is not gone.
    await stage.browser.page.evaluate("() => { one.getSenders()[0].track.enabled = false; }")
    await until(lambda: probe.state is not None and not probe.state.speaking, SOON, "silence")
    assert probe.state is not None
    assert probe.state.tracks == 1
    await stage.browser.page.evaluate("() => { other.close(); }")
    await until(lambda: probe.state is not None and not probe.state.tracks, SOON, "nobody")


async def test_speech_that_the_page_does_not_play_should_be_noticed(
    stage: Stage, site: Site, probe: Probe
) -> None:
    await stage.browser.page.goto(site.add("/", CALLING))
    await until(lambda: probe.state is not None and probe.state.speaking, SOON, "a voice")
    await stage.browser.page.evaluate("() => { one.getSenders()[0].track.enabled = false; }")
    await until(lambda: probe.state is not None and not probe.state.speaking, SOON, "silence")


async def test_file_that_plays_should_be_heard_and_a_muted_one_not(
    stage: Stage, site: Site, probe: Probe, short_path: Path
) -> None:
    sound = await tone(short_path)
    site.add("/tone", answer(sound, kind="audio/mp4"))
    await stage.browser.page.goto(site.add("/", "<audio src=/tone autoplay loop></audio>"))
    await until(lambda: probe.state is not None and probe.state.speaking, SOON, "sound")
    await stage.browser.page.evaluate("() => { document.querySelector('audio').muted = true; }")
    await until(lambda: probe.state == QUIET, SOON, "silence")


async def test_video_in_sight_should_move_when_it_changes_all_over(
    stage: Stage, site: Site, probe: Probe
) -> None:
    def moves() -> bool | None:
        return None if probe.state is None else probe.state.moving

    await stage.browser.page.goto(site.add("/", VIDEO))
    await until(lambda: moves() is True, SOON, "it moves")
    for still, again in (
        ("isCamera = false", "isCamera = true"),
        ("video.pause()", "void video.play()"),
        ("video.style.opacity = 0", "video.style.opacity = 1"),
        ("video.style.top = '10px'", "video.style.top = 0"),
        (
            "document.body.append(Object.assign(document.createElement('div'),"
            "{ style: 'width: 320px; height: 180px; background: teal' }))",
            "document.querySelector('div').remove()",
        ),
    ):
        await stage.browser.page.evaluate(f"() => {{ {still}; }}")
        await until(lambda: moves() is False, SOON, f"it does not: {still}")
        await stage.browser.page.evaluate(f"() => {{ {again}; }}")
        await until(lambda: moves() is True, SOON, f"it moves again: {again}")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same origin", "another site"])
async def test_frames_should_be_looked_at_whatever_their_policy(
    stage: Stage, site: Site, probe: Probe, host: str
) -> None:
    policy = "content-security-policy: default-src 'none'; script-src 'unsafe-inline'; frame-src *"
    site.add("/frame", answer(CALLING, more=policy))
    frame = f"<iframe src='{site.url('/frame', host)}'></iframe>"
    await stage.browser.page.goto(site.add("/", answer(frame, more=policy)))
    await until(lambda: probe.state is not None and probe.state.tracks == 1, SOON, "a track")
    await stage.browser.page.evaluate("() => document.querySelector('iframe').remove()")
    await until(lambda: probe.state == QUIET, SOON, "nobody")


async def test_frame_that_hangs_should_keep_its_tracks_and_not_the_probe(
    stage: Stage, site: Site, probe: Probe
) -> None:
    site.add("/frame", CALLING)
    frame = f"<iframe src='{site.url('/frame', 'localhost')}'></iframe>"
    await stage.browser.page.goto(site.add("/", frame))
    await until(lambda: probe.state is not None and probe.state.tracks == 1, SOON, "a track")
    await stage.browser.page.frames[1].evaluate("() => { setTimeout(() => { for (;;); }); }")
    await asyncio.sleep(2)
    assert probe.state is not None
    assert (probe.state.tracks, probe.state.speaking) == (1, False)
    await stage.browser.page.evaluate("() => document.querySelector('iframe').remove()")


@pytest.mark.parametrize("where", ["page", "frame"])
async def test_hostile_page_should_change_nothing(stage: Stage, site: Site, probe: Probe, where: str) -> None:
    page = f"<body></body>{CALL}<script>call(RTCPeerConnection)</script>"
    # The call is up before the page turns hostile; a page that breaks its own calls has none.
    hostile = HOSTILE.replace("<script>", "<script>setTimeout(() => {").replace(
        "</script>", "}, 2000)</script>"
    )
    is_hostile = asyncio.Event()

    def hear(said: ConsoleMessage) -> None:
        if said.text == "HOSTILE":
            is_hostile.set()

    stage.browser.page.on("console", hear)
    site.add("/frame", page + hostile)
    outer = "<iframe src=/frame></iframe>" if where == "frame" else page + hostile
    await stage.browser.page.goto(site.add("/", outer))
    await until(lambda: probe.state is not None and probe.state.tracks == 1, SOON, "a track")
    await asyncio.wait_for(is_hostile.wait(), SOON)
    await asyncio.sleep(2)
    state = probe.state
    assert state is not None
    assert (state.online, state.drawn) == (True, True)
    if where == "page":
        assert state.tracks == 1


async def test_page_should_not_see_that_its_connections_are_watched(
    stage: Stage, site: Site, probe: Probe
) -> None:
    del probe
    await stage.browser.page.goto(site.add("/", CALL))
    holds = await stage.browser.page.evaluate("""async () => {
        class Own extends RTCPeerConnection {
            constructor() { super(); this.mine = 1; }
            get extra() { return 2; }
        }
        const own = new Own(), plain = new RTCPeerConnection({ iceServers: [] });
        const message = (act) => { try { act(); } catch (error) { return String(error); } };
        const { value, ...flags } = Object.getOwnPropertyDescriptor(window, "RTCPeerConnection");
        const holds = {
            instance: [plain, own].every((each) => each instanceof RTCPeerConnection) && own instanceof Own,
            subclass: own.mine === 1 && own.extra === 2 && Object.getPrototypeOf(own) === Own.prototype,
            prototype: Object.getPrototypeOf(plain) === RTCPeerConnection.prototype,
            constructor: plain.constructor === RTCPeerConnection,
            alias: webkitRTCPeerConnection === RTCPeerConnection,
            certificate: (await RTCPeerConnection.generateCertificate({ name: "ECDSA", namedCurve: "P-256" }))
                instanceof RTCCertificate,
            native: /^function .*\\{ \\[native code\\] \\}$/.test(RTCPeerConnection.toString()),
            name: RTCPeerConnection.name === "RTCPeerConnection" && RTCPeerConnection.length === 0,
            called: message(() => RTCPeerConnection()).includes("Please use the 'new' operator"),
            refused: message(() => new RTCPeerConnection({ iceServers: 1 })).startsWith("TypeError"),
            flags: JSON.stringify(flags) === '{"writable":true,"enumerable":false,"configurable":true}',
            keys: !Object.keys(window).some((name) => name.includes("Farm")),
            offers: (await plain.createOffer({ offerToReceiveAudio: true })).sdp.includes("m=audio"),
        };
        return Object.entries(holds).filter(([, held]) => !held).map(([name]) => name);
    }""")
    assert holds == []


@pytest.mark.parametrize(
    "answered",
    [
        None,
        "",
        1,
        {},
        "1 1 1 1 1 1",
        "1 1 1 1 1 1 1 1",
        "2 1 0 0 1 1 1",
        "1 1 0 0 9999999 1 1",
        "1 1 0 0 ١ 0 0",
        "1 1 0 0 1 0 0\n",
        "9" * 99,
    ],
)
async def test_what_is_no_answer_should_be_none(answered: object) -> None:
    assert parse_answer(answered) is None


async def test_answer_should_be_read() -> None:
    assert parse_answer("0 1 1 0 12 3 4") == PageState(
        online=False, drawn=True, speaking=True, moving=False, tracks=12, unsettled=3, connected=4
    )


@pytest.mark.long
async def test_stopped_compositor_should_be_distinguished_from_a_still_picture(site: Site) -> None:
    async with open_stage(WIDTH, HEIGHT, 30) as stage:
        bot = Bot(stage.browser, PageContract.PLAIN)
        await bot.join(site.add("/", "<body style='background: teal'>"), seconds=SOON, tries=1)
        over = asyncio.ensure_future(bot.over())
        await until(lambda: bot.page_state is not None, SOON, "an answer")
        still = [await grab_rows(stage.display, WIDTH, HEIGHT) for _ in range(2)]
        assert still[0] == still[1]
        assert not is_black(still[0])
        # Teal is 0, 128, 128; the display has blue first.
        assert still[0][-4:-1] == bytes([128, 128, 0])
        await asyncio.sleep(5)
        assert bot.page_state == QUIET
        (gpu,) = below(stage.browser.pid, word="--type=gpu-process")
        os.kill(gpu.pid, signal.SIGSTOP)
        await until(lambda: bot.page_state is not None and not bot.page_state.drawn, SOON, "no frames")
        os.kill(gpu.pid, signal.SIGCONT)
        await until(lambda: bot.page_state == QUIET, SOON, "frames again")
        over.cancel()
        await asyncio.gather(over, return_exceptions=True)


async def test_black_page_should_be_seen_black(stage: Stage, site: Site) -> None:
    await stage.browser.page.goto(site.add("/", "<body style='background: #080808'>"))

    async def is_seen() -> bool:
        return is_black(await grab_rows(stage.display, WIDTH, HEIGHT))

    async with asyncio.timeout(SOON):
        while not await is_seen():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.1)
    await stage.browser.page.goto(site.add("/gray", "<body style='background: #101010'>"))
    async with asyncio.timeout(SOON):
        while await is_seen():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def tone(directory: Path) -> bytes:
    """A minute of a tone, as a file."""
    file = directory / "tone.m4a"
    process = await asyncio.create_subprocess_exec(
        *("ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "sine=1000", "-t", "60", str(file))
    )
    assert await asyncio.wait_for(process.wait(), 20) == 0
    return await asyncio.to_thread(file.read_bytes)
