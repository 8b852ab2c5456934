"""What pages find around them: a microphone and a camera, a language, a time zone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.stage.environment import Environment
from recording_farm.browser_bot.stage.stage import Stage, open_stage
from testkit.browser_bot.audio import listen, loudest_frequency
from testkit.browser_bot.pictures import Color, grab
from testkit.browser_bot.sites import Site, answer
from testkit.browser_bot.stages import HEIGHT, WIDTH, blank

SOON = 60.0
BLUE: Color = (0, 0, 255)
AROUND = Environment(devices=True, locale="fr-CA", timezone="America/St_Johns")
# Joins like many a meeting's page: not without devices.
ROOM = """<body style="margin:0;background:rgb(0,0,255);color:rgb(0,0,255)"><script>
const wanted = {audio: true, video: {width: 1280, frameRate: {min: 15}}};
navigator.mediaDevices.getUserMedia(wanted).then((stream) => {
  window.stream = stream;
  console.log("START_RECORDING");
}, (error) => { document.body.textContent = error; });
</script>"""
TELL = """
const around = () => ({
  languages: [navigator.language, ...navigator.languages],
  locale: Intl.NumberFormat().resolvedOptions().locale,
  zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
  date: new Date(0).toLocaleDateString() + " " + new Date(0).getTimezoneOffset(),
});
"""
AS_WANTED = {
    "languages": ["fr-CA", "fr-CA"],
    "locale": "fr-CA",
    "zone": "America/St_Johns",
    # As in Canada, not as in France, and 3.5 hours behind.
    "date": "1969-12-31 210",
}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stage() -> AsyncIterator[Stage]:
    async with open_stage(WIDTH, HEIGHT, 30, environment=AROUND) as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def stage(shared_stage: Stage) -> Stage:
    return await blank(shared_stage)


async def join(stage: Stage, site: Site, page: str = ROOM) -> None:
    bot = Bot(stage.browser, PageContract.CONSOLE)
    await asyncio.wait_for(bot.join(site.add("/room", page), seconds=SOON, tries=1), SOON)


async def ask(stage: Stage, script: str) -> Any:
    async with asyncio.timeout(SOON):
        return await stage.browser.page.evaluate(script)


async def test_page_that_wants_devices_should_join_and_they_be_silent_and_dark(
    stage: Stage, site: Site
) -> None:
    await join(stage, site)
    tracks = await ask(
        stage, "stream.getTracks().map((track) => [track.kind, track.readyState, track.muted])"
    )
    assert sorted(tracks) == [["audio", "live", False], ["video", "live", False]]
    loudest = """async () => {
      const audio = new AudioContext(), looked = audio.createAnalyser(), values = new Float32Array(2048);
      audio.createMediaStreamSource(stream).connect(looked).connect(audio.destination);
      while (audio.currentTime < 0.5) await new Promise((resolve) => setTimeout(resolve, 20));
      looked.getFloatTimeDomainData(values);
      return Math.max(...values.map(Math.abs));
    }"""
    assert await ask(stage, loudest) == 0
    brightest = """async () => {
      const video = document.createElement("video"), canvas = new OffscreenCanvas(64, 36).getContext("2d");
      video.srcObject = stream;
      video.muted = true;
      await video.play();
      canvas.drawImage(video, 0, 0, 64, 36);
      const pixels = canvas.getImageData(0, 0, 64, 36).data;
      return [video.videoWidth, video.videoHeight, Math.max(...pixels.filter((_, i) => i % 4 < 3))];
    }"""
    width, height, light = await ask(stage, brightest)
    assert (width, height) == (1280, 720)
    assert light <= 1
    # Not in the recording: the page plays the microphone, and draws what it draws without one.
    assert np.abs(await listen(stage.audio, 0.5)).max() == 0
    assert (await grab(stage.display, WIDTH, HEIGHT)).colors() == {BLUE}


async def test_page_should_find_devices_by_their_ids_and_names(stage: Stage, site: Site) -> None:
    await join(stage, site)
    found = await ask(
        stage,
        """async () => {
          const devices = await navigator.mediaDevices.enumerateDevices(), opened = [];
          for (const {kind, deviceId} of devices) {
            if (kind === "audiooutput") continue;
            const wanted = {deviceId: {exact: deviceId}};
            const stream = await navigator.mediaDevices.getUserMedia(
              kind === "videoinput" ? {video: wanted} : {audio: wanted});
            opened.push(stream.getTracks()[0].getSettings().deviceId === deviceId);
            stream.getTracks()[0].stop();
          }
          const states = ["camera", "microphone"].map((name) => navigator.permissions.query({name}));
          return {
            kinds: [...new Set(devices.map(({kind}) => kind))].sort(),
            unnamed: devices.filter(({label, deviceId}) => !label || !deviceId).length,
            places: devices.filter(({label}) => label.includes("/")).length,
            opened: opened.every(Boolean),
            states: (await Promise.all(states)).map(({state}) => state),
          };
        }""",
    )
    assert found == {
        "kinds": ["audioinput", "audiooutput", "videoinput"],
        "unnamed": 0,
        "places": 0,
        "opened": True,
        "states": ["granted", "granted"],
    }


async def test_camera_should_take_usual_constraints(stage: Stage, site: Site) -> None:
    await join(stage, site)
    sizes = await ask(
        stage,
        """async () => {
          const [track] = stream.getVideoTracks(), sizes = [];
          const small = {width: {exact: 640}, height: {exact: 360}};
          for (const wanted of [small, {frameRate: {max: 10}}, {width: 1920}]) {
            await track.applyConstraints(wanted);
            const {width, height, frameRate} = track.getSettings();
            sizes.push([width, height, frameRate]);
          }
          return sizes;
        }""",
    )
    assert sizes == [[640, 360, 15], [1280, 720, 10], [1280, 720, 15]]


async def test_devices_should_be_sent_to_a_peer(stage: Stage, site: Site) -> None:
    await join(stage, site)
    arrived = await ask(
        stage,
        """async () => {
          const here = new RTCPeerConnection(), there = new RTCPeerConnection();
          here.onicecandidate = ({candidate}) => there.addIceCandidate(candidate);
          there.onicecandidate = ({candidate}) => here.addIceCandidate(candidate);
          for (const track of stream.getTracks()) here.addTrack(track, stream);
          await here.setLocalDescription();
          await there.setRemoteDescription(here.localDescription);
          await there.setLocalDescription();
          await here.setRemoteDescription(there.localDescription);
          const packets = {};
          while (!(packets.audio > 5 && packets.video > 5)) {
            for (const stats of (await there.getStats()).values())
              if (stats.type === "inbound-rtp") packets[stats.kind] = stats.packetsReceived;
            await new Promise((resolve) => setTimeout(resolve, 50));
          }
          here.close();
          there.close();
          return Object.keys(packets).sort();
        }""",
    )
    assert arrived == ["audio", "video"]


async def test_screen_should_not_be_shared(stage: Stage, site: Site) -> None:
    await join(stage, site)
    answers = await ask(
        stage,
        """async () => [
          typeof navigator.mediaDevices.getDisplayMedia,
          await navigator.mediaDevices.getUserMedia({video: {mandatory: {chromeMediaSource: "screen"}}})
            .then(() => "shared", () => "refused"),
        ]""",
    )
    assert answers == ["undefined", "refused"]


async def test_sound_should_be_recorded_whichever_output_a_page_chooses(stage: Stage, site: Site) -> None:
    await join(stage, site)
    outputs = await ask(
        stage,
        """async () => {
          const audio = new AudioContext(), tone = new OscillatorNode(audio, {frequency: 1000});
          const to = audio.createMediaStreamDestination();
          tone.connect(to);
          tone.start();
          window.playing = new Audio();
          playing.srcObject = to.stream;
          await playing.play();
          window.outputs = (await navigator.mediaDevices.enumerateDevices())
            .filter(({kind}) => kind === "audiooutput").map(({deviceId}) => deviceId);
          return outputs.length;
        }""",
    )
    assert outputs == 3
    for number in range(outputs):
        await ask(stage, f"playing.setSinkId(outputs[{number}])")
        heard = 0.0
        async with asyncio.timeout(SOON):
            while heard != pytest.approx(1000, abs=5):
                heard = loudest_frequency(await listen(stage.audio, 0.3))
        assert {playing.sink for playing in await stage.audio.inputs()} == {"stage"}


async def test_language_and_zone_should_be_the_same_in_page_frame_and_worker(
    stage: Stage, site: Site
) -> None:
    frame = f"<script>{TELL} parent.postMessage(around(), '*')</script>"
    site.add("/frame", frame)
    script = "text/javascript"
    site.add("/worker", answer(f"{TELL} fetch('/from-worker'); postMessage(around())", kind=script))
    site.add(
        "/shared", answer(f"{TELL} onconnect = ({{ports}}) => ports[0].postMessage(around())", kind=script)
    )
    service = f"{TELL} onmessage = ({{source}}) => source.postMessage(around())"
    site.add("/service", answer(service, kind=script))
    page = """<body><script>TELL
      const frame = (url) => new Promise((resolve) => {
        const element = document.body.appendChild(document.createElement("iframe"));
        addEventListener("message", ({source, data}) => source === element.contentWindow && resolve(data));
        element.src = url;
      });
      const first = (target) => new Promise((resolve) => { target.onmessage = ({data}) => resolve(data); });
      const service = async () => {
        const answered = first(navigator.serviceWorker);
        await navigator.serviceWorker.register("/service");
        (await navigator.serviceWorker.ready).active.postMessage("");
        return answered;
      };
      window.told = Promise.all([
        around(), frame("/frame"), frame("OTHER"), first(new Worker("/worker")),
        first(new SharedWorker("/shared").port), service(),
      ]);
    </script>"""
    await stage.browser.page.goto(
        site.add("/page", page.replace("TELL", TELL).replace("OTHER", site.url("/frame", "localhost")))
    )
    told = await ask(stage, "told")
    assert told == [AS_WANTED] * 6
    asked = dict(zip(site.asked, site.headers, strict=True))
    for path in ("/page", "/frame", "/worker", "/from-worker"):
        assert "\r\nAccept-Language: fr-CA" in asked[path]


async def test_without_devices_there_should_be_none(site: Site) -> None:
    async with open_stage(WIDTH, HEIGHT, 30) as stage:
        await stage.browser.page.goto(site.add("/", "<p>"))
        answers = await ask(
            stage,
            """async () => [
              await navigator.mediaDevices.getUserMedia({audio: true}).catch(({name}) => name),
              (await navigator.mediaDevices.enumerateDevices()).map(({kind}) => kind),
              navigator.language,
            ]""",
        )
    assert answers == ["NotFoundError", ["audiooutput"], "en-US"]
