"""What the watch finds in real recordings of real pages, and what is done about it."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from xcffib.xproto import MapState

from recording_farm.api.meeting.page import meeting_routes
from recording_farm.browser_bot.page.rejoining import PageEvent
from recording_farm.browser_bot.stage.box import NO_LIMITS, StageLimits
from recording_farm.browser_bot.stage.display import Display
from recording_farm.browser_bot.stage.pixels import grab_picture
from recording_farm.browser_bot.stage.stage import Stage
from recording_farm.browser_bot.stage.x_connection import Connection, connected
from recording_farm.encoder.formats import Format
from recording_farm.encoder.journal import Journal, write_journal
from recording_farm.encoder.takes import watchdog as encoder_watch
from recording_farm.encoder.takes.command import cheapest_step
from recording_farm.farm.evidence.collect import fault_directories
from recording_farm.farm.recorder import recorder as recorder_module
from recording_farm.farm.recorder.listener import EndReason, Listener, Outcome
from recording_farm.farm.recorder.monitor import Limits
from recording_farm.farm.recorder.observer import Observer
from recording_farm.farm.recorder.plan import Plan
from recording_farm.farm.recorder.recorder import Recorder
from recording_farm.farm.recording.commands import Command
from recording_farm.farm.recording.findings import Finding, Tally, read_tally
from recording_farm.farm.spool.spool import Spool
from testkit.api.serving import app_in_thread
from testkit.browser_bot.sites import open_site
from testkit.browser_bot.x_windows import TEAL, show_window
from testkit.encoder.beeps import beeps, played
from testkit.machine.disks import small_disk
from testkit.machine.processes import below, encoder, run, wait_until_none
from testkit.pages import FIDELITY_PAGE

pytestmark = pytest.mark.long

BEEPS = f"file://{FIDELITY_PAGE}"
FORMAT = Format(width=640, height=360)
TEAL_PIXEL = TEAL.to_bytes(4, "little")
MAX_LENGTH = 60.0
"""Seconds that a test waits for something to be found."""


@dataclass
class Watched(Listener):
    """A recording that is under way, what was told of it, and its stages."""

    spool: Spool
    evidence: Path
    company: int = 0
    takes: list[Journal] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    found: list[Finding] = field(default_factory=list)
    gone: list[Finding] = field(default_factory=list)
    told: list[PageEvent] = field(default_factory=list)
    outcome: Outcome | None = None
    stages: list[Stage] = field(default_factory=list)
    orders: "asyncio.Queue[Command]" = field(default_factory=asyncio.Queue)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until what was told is as it is to be."""
        try:
            async with asyncio.timeout(MAX_LENGTH):
                while not holds():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise AssertionError(f"not in time; told was {self}") from None

    async def read_commands(self) -> AsyncIterator[Command]:
        while True:
            yield await self.orders.get()

    @property
    def tally(self) -> Tally:
        return read_tally(self.spool.directory)

    async def recording(self, take: Journal) -> None:
        self.takes.append(take)
        self.changed.set()

    async def paused(self) -> None:
        self.changed.set()

    async def broken(self, fault: str) -> None:
        self.faults.append(fault)
        self.changed.set()

    async def finding_began(self, finding: Finding) -> None:
        self.found.append(finding)
        self.changed.set()

    async def finding_ended(self, finding: Finding, seconds: float) -> None:
        assert seconds >= 0
        self.gone.append(finding)
        self.changed.set()

    async def page_event(self, event: PageEvent) -> None:
        self.told.append(event)
        self.changed.set()

    async def participant_joined(self) -> None:
        self.company += 1

    async def ended(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.changed.set()


Record = Callable[..., AbstractAsyncContextManager[Watched]]


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Record a page while a test looks on; at the end of its block the recording is stopped and cut."""

    @asynccontextmanager
    async def record(
        url: str, fmt: Format = FORMAT, stage_limits: StageLimits = NO_LIMITS, **limits: Any
    ) -> AsyncIterator[Watched]:
        spool = Spool(tmp_path / "spool", fmt)
        watched = Watched(spool, tmp_path / "evidence")

        class Seeing(Observer):
            def __init__(self, stage: Stage, *others: Any) -> None:
                super().__init__(stage, *others)
                watched.stages.append(stage)
                watched.changed.set()

        monkeypatch.setattr(recorder_module, "Observer", Seeing)
        plan = Plan(url, fmt, max_seconds=120, limits=Limits(**limits), stage_limits=stage_limits)
        recorder = Recorder(plan, spool, watched.evidence, watched.read_commands(), watched)
        recording = asyncio.create_task(recorder.run())
        try:
            await watched.until(lambda: len(watched.takes) == 1)
            yield watched
            recorder.stop()
            await asyncio.wait_for(recording, MAX_LENGTH)
        finally:
            recording.cancel()
            await asyncio.gather(recording, return_exceptions=True)
        assert watched.outcome is not None
        assert watched.outcome.fault is None
        spool.cut(tmp_path / "out.mp4")
        assert wait_until_none() == []

    return record


@pytest.fixture(scope="module")
def meeting() -> Iterator[str]:
    """Where the built-in meeting is."""
    with app_in_thread(Starlette(routes=meeting_routes)) as address:
        yield f"{address}/meet/demo"


async def pactl(stage: Stage, *words: str) -> str:
    code, output, complaints = await run("pactl", *words, env=stage.audio.variables)
    assert code == 0, complaints
    return output.decode()


async def end_streams(stage: Stage) -> None:
    """Take away what plays; Chromium does not begin it again by itself."""
    reader, writer = await asyncio.open_unix_connection(stage.audio.commands)
    writer.write(b"".join(b"kill-sink-input %d\n" % each.number for each in await stage.audio.inputs()))
    await writer.drain()
    writer.close()
    del reader


async def test_sound_on_another_sink_should_come_back_and_be_in_the_file(
    record: Record, tmp_path: Path
) -> None:
    async with record(BEEPS) as watched:
        (stage,) = watched.stages
        await asyncio.sleep(2)
        await pactl(stage, "load-module", "module-null-sink", "sink_name=elsewhere")
        (playing,) = await stage.audio.inputs()
        await pactl(stage, "move-sink-input", str(playing.number), "elsewhere")
        await watched.until(lambda: watched.gone == [Finding.SOUND_ELSEWHERE])
        assert watched.found == [Finding.SOUND_ELSEWHERE]
        assert [each.sink for each in await stage.audio.inputs()] == ["stage"]
        await asyncio.sleep(4)
        assert watched.tally.findings[Finding.SOUND_ELSEWHERE].times == 1
    assert (len(watched.takes), watched.faults) == (1, [])
    heard = beeps(played(tmp_path / "out.mp4"))
    # Of the beeps each second one or two are missing.
    assert heard[-1] - heard[0] > 4
    assert len([time for time in heard if time > heard[-1] - 3.5]) >= 3


async def test_sound_that_is_missing_should_be_a_new_stage_once_and_then_noted(
    record: Record, meeting: str
) -> None:
    async with record(meeting) as watched:
        await end_streams(watched.stages[0])
        await watched.until(lambda: len(watched.takes) == 2)
        assert watched.faults == ["participants speak but the page plays nothing"]
        await watched.until(lambda: watched.gone == [Finding.NO_SOUND])
        await end_streams(watched.stages[1])
        await watched.until(lambda: watched.found == [Finding.NO_SOUND, Finding.NO_SOUND])
        await asyncio.sleep(3)
    assert (len(watched.takes), len(watched.faults)) == (2, 1)
    assert not (watched.spool.directory / "breaks.json").exists()


async def test_frozen_picture_should_be_a_new_stage(record: Record) -> None:
    async with record(BEEPS) as watched:
        (stage,) = watched.stages
        (gpu,) = below(stage.browser.pid, word="--type=gpu-process")
        os.kill(gpu.pid, signal.SIGSTOP)
        await watched.until(lambda: len(watched.takes) == 2)
        await watched.until(lambda: watched.gone == [Finding.FROZEN_PICTURE])
        await asyncio.sleep(2)
    assert watched.found == [Finding.FROZEN_PICTURE]
    assert watched.faults == ["the picture is frozen"]
    assert (watched.spool.directory / "breaks.json").exists()


VIDEO = """<body style="margin: 0; overflow: hidden">
<video muted autoplay style="width: 100vw; height: 100vh; object-fit: fill"></video><script>
const source = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
const surface = source.getContext("2d");
let frame = 0;
setInterval(() => {
    frame += 1;
    for (let cell = 0; cell < 144; cell++) {
        surface.fillStyle = `hsl(${(cell * 7 + frame * 31) % 360}, 50%, 50%)`;
        surface.fillRect(cell % 16 * 20, Math.floor(cell / 16) * 20, 20, 20);
    }
}, 100);
document.querySelector("video").srcObject = source.captureStream();
</script>"""


def page_window(connection: Connection) -> int:
    """The one window that is shown. Waits for the display."""
    core = connection.xcb.core
    for window in core.QueryTree(connection.root).reply().children:
        if core.GetWindowAttributes(window).reply().map_state == MapState.Viewable:
            return int(window)
    raise AssertionError("no window is shown")


def cover(connection: Connection, parent: int, width: int, height: int) -> None:
    """Show a window past window managers."""
    show_window(
        connection,
        is_override_redirect=True,
        parent=parent,
        left_top=(0, 0),
        size=(width, height),
        color=TEAL,
    )


@asynccontextmanager
async def covered(display: Display, width: int, height: int) -> AsyncIterator[None]:
    """A window over all that the page's own window shows, as a part of it."""
    async with connected(display) as connection:
        page = await connection.run(lambda: page_window(connection))
        cover(connection, page, width, height)
        yield


async def test_video_that_moves_and_is_not_seen_should_be_a_new_stage(record: Record, tmp_path: Path) -> None:
    page = tmp_path / "video.html"
    page.write_text(VIDEO)
    async with record(f"file://{page}") as watched:
        await asyncio.sleep(3)
        async with covered(watched.stages[0].display, FORMAT.width, FORMAT.height):
            await watched.until(lambda: len(watched.takes) == 2)
        await watched.until(lambda: watched.gone == [Finding.FROZEN_VIDEO])
    assert watched.found == [Finding.FROZEN_VIDEO]
    assert watched.faults == ["the page's video moves but the picture is frozen"]
    assert not (watched.spool.directory / "breaks.json").exists()


async def test_black_page_should_be_noted_with_evidence_and_recorded(record: Record, tmp_path: Path) -> None:
    page = tmp_path / "black.html"
    page.write_text("<body style='background: black'>")
    async with record(f"file://{page}") as watched:
        await watched.until(lambda: watched.found == [Finding.BLACK_PICTURE])
        await asyncio.sleep(3)
        (place,) = fault_directories(watched.evidence)
        assert (place / "page.png").exists()
    assert (len(watched.takes), watched.faults, watched.found) == (1, [], [Finding.BLACK_PICTURE])


async def test_window_over_the_page_should_be_taken_off_and_noted_with_evidence(record: Record) -> None:
    async with record(BEEPS) as watched:
        display = watched.stages[0].display
        async with connected(display) as connection:
            cover(connection, connection.root, 100, 100)
            await watched.until(lambda: watched.gone == [Finding.FOREIGN_WINDOW])
            assert TEAL_PIXEL not in await grab_picture(display, 100, 100)
        await asyncio.sleep(3)
        (place,) = fault_directories(watched.evidence)
        assert "a window other than the page's" in (place / "fault.json").read_text()
    assert (len(watched.takes), watched.faults) == (1, [])


async def test_page_that_is_offline_should_be_noted_at_its_beginning_and_end(record: Record) -> None:
    async with record(BEEPS) as watched:
        context = watched.stages[0].browser.context
        await context.set_offline(True)
        await watched.until(lambda: watched.found == [Finding.PAGE_OFFLINE])
        await context.set_offline(False)
        await watched.until(lambda: watched.gone == [Finding.PAGE_OFFLINE])
        assert watched.tally.findings[Finding.PAGE_OFFLINE].seconds > 0
    assert (len(watched.takes), watched.faults) == (1, [])


async def test_page_that_breaks_a_limit_of_its_stage_should_get_a_new_one(record: Record) -> None:
    async with record(BEEPS, stage_limits=StageLimits(memory=4 << 30)) as watched:
        # As if the page had started to allocate.
        watched.stages[0].box.limits = StageLimits(memory=50 << 20)
        await watched.until(lambda: len(watched.takes) == 2)
        await watched.until(lambda: watched.gone == [Finding.MEMORY])
    assert (len(watched.takes), watched.found) == (2, [Finding.MEMORY])
    assert watched.faults == ["the page used too much memory (FARM_STAGE_MEMORY)"]
    assert (watched.spool.directory / "breaks.json").exists()


@pytest.mark.parametrize("paused", [False, True])
async def test_meeting_that_all_have_left_should_end_the_recording(
    record: Record, meeting: str, *, paused: bool
) -> None:
    async with record(f"{meeting}?leave=5", empty_seconds=3) as watched:
        if paused:
            await watched.orders.put(Command.PAUSE)
        await watched.until(lambda: watched.outcome is not None)
    assert watched.outcome == Outcome(EndReason.ALL_PEERS_LEFT, None, started=True)
    assert (watched.found, watched.company) == ([Finding.MEETING_EMPTY], 1)


async def test_meeting_in_which_all_are_muted_should_go_on(record: Record, meeting: str) -> None:
    async with record(f"{meeting}?mute=3", empty_seconds=3) as watched:
        await asyncio.sleep(15)
        assert watched.outcome is None
    assert (watched.found, watched.faults, len(watched.takes)) == ([], [], 1)


# Somebody's video comes through a connection of the page's with itself, until it is cut, once.
MEETING = """<body style="margin: 0; background: rgb(0,128,0); font-size: 60px"><script>
const first = new RTCPeerConnection(), second = new RTCPeerConnection();
first.onicecandidate = ({ candidate }) => candidate && second.addIceCandidate(candidate);
second.onicecandidate = ({ candidate }) => candidate && first.addIceCandidate(candidate);
const meet = async () => {
  const video = document.createElement("canvas").captureStream(5);
  first.addTrack(video.getTracks()[0], video);
  await first.setLocalDescription();
  await second.setRemoteDescription(first.localDescription);
  await second.setLocalDescription();
  await first.setRemoteDescription(second.localDescription);
};
const cut = (words) => {
  sessionStorage.cut = 1;
  first.close();
  second.close();
  document.body.style.background = "rgb(200,0,0)";
  document.body.textContent = words;
};
const isBack = sessionStorage.cut;
if (!isBack || location.hash !== "#left") meet();
if (!isBack) setTimeout(() => cut("You are offline"), 8000);
</script>"""


async def test_page_that_went_offline_while_somebody_was_there_should_be_reloaded(
    record: Record, tmp_path: Path
) -> None:
    page = tmp_path / "meeting.html"
    page.write_text(MEETING)
    async with record(f"file://{page}", empty_seconds=60) as watched:
        await watched.until(lambda: bool(watched.told))
        await watched.until(lambda: watched.gone == [Finding.PAGE_CUT_OFF])
        await asyncio.sleep(3)
        assert watched.outcome is None
    assert watched.told == [
        PageEvent(
            "rejoined",
            "the page lost its connections to the meeting; the page was reloaded and joined",
        )
    ]
    assert (watched.found, len(watched.takes), watched.faults) == ([Finding.PAGE_CUT_OFF], 1, [])
    assert (fault_directories(watched.evidence)[0] / "page.png").exists()
    seen = colors_in(tmp_path / "out.mp4", each=0.5)
    # The room, "You are offline" for as long as it takes to be sure, and the room again.
    assert [color for color, _ in groupby(seen)] == ["green", "red", "green"]
    assert seen.count("red") * 0.5 < 16


async def test_page_that_all_have_left_should_be_reloaded_and_end_in_time(
    record: Record, tmp_path: Path
) -> None:
    page = tmp_path / "meeting.html"
    page.write_text(MEETING)
    async with record(f"file://{page}#left", empty_seconds=20) as watched:
        await watched.until(lambda: watched.found == [Finding.PAGE_CUT_OFF])
        found = time.monotonic()
        await watched.until(lambda: watched.outcome is not None)
        # Ten of the twenty seconds had gone by.
        assert time.monotonic() - found < 15
    assert watched.outcome == Outcome(EndReason.ALL_PEERS_LEFT, None, started=True)
    assert [event.event for event in watched.told] == ["rejoined"]


async def test_meeting_that_is_over_when_its_page_is_joined_again_should_end_the_recording(
    record: Record,
) -> None:
    first, second = (f"<script>console.log('{word}_RECORDING')</script>" for word in ("START", "END"))
    async with open_site() as site, record(site.add("/", first, second)) as watched:
        await asyncio.sleep(1)
        os.kill(watched.stages[0].browser.pid, signal.SIGKILL)
        await watched.until(lambda: watched.outcome is not None)
    assert watched.outcome == Outcome(EndReason.PAGE_ENDED, None, started=True)
    assert len(watched.takes) == 1


def colors_in(file: Path, each: float) -> list[str]:
    """Which of red and green a film mostly shows, at each so many seconds."""
    command = ["ffmpeg", "-v", "error", "-i", str(file), "-vf", f"fps={1 / each},scale=1:1"]
    pixels = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True, timeout=60
    ).stdout
    return ["red" if red > green else "green" for red, green, _ in zip(*[iter(pixels)] * 3, strict=True)]


async def test_disk_that_fills_should_end_the_recording_and_keep_it(record: Record, tmp_path: Path) -> None:
    with small_disk(tmp_path / "spool", 64):
        async with record(BEEPS, least_disk=30 << 20) as watched:
            await asyncio.sleep(3)
            (tmp_path / "spool" / "ballast").write_bytes(bytes(40 << 20))
            await watched.until(lambda: watched.outcome is not None)
        assert watched.outcome == Outcome(EndReason.DISK_FULL, None, started=True)
        assert watched.found == [Finding.DISK_FULL]
        assert watched.tally.findings[Finding.DISK_FULL].times == 1


@pytest.mark.parametrize("left", [0, 1], ids=["noted", "made cheaper"])
async def test_encoder_that_is_too_slow_should_be_found_whether_or_not_there_are_cheaper_settings(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    # One that was held up instead would be found to hang on a busy machine.
    monkeypatch.setattr(encoder_watch, "SLOW", 2)
    spool = Spool(tmp_path / "spool", FORMAT)
    spool.make()
    # A recorder before this one had come so far.
    step = cheapest_step(FORMAT) - left
    now_us = time.time_ns() // 1000
    write_journal(spool.directory / "take-000.json", Journal(0, now_us // 1_000_000, now_us, 0, 0, step=step))
    async with record(BEEPS) as watched:
        await watched.until(lambda: Finding.ENCODER_SLOW in watched.found and len(watched.takes) == 1 + left)
    assert [take.step for take in watched.takes] == [*range(step, cheapest_step(FORMAT) + 1)]
    assert watched.tally.findings[Finding.ENCODER_SLOW].times == 1
    assert len(watched.faults) == left
    assert not (watched.spool.directory / "breaks.json").exists()


async def test_still_picture_should_be_nothing_found(record: Record, tmp_path: Path) -> None:
    page = tmp_path / "still.html"
    page.write_text("<body style='background: teal'>")
    async with record(f"file://{page}") as watched:
        await asyncio.sleep(14)
    assert (watched.found, watched.faults, len(watched.takes)) == ([], [], 1)


@pytest.mark.parametrize("victim", ["display", "sound", "encoder"])
async def test_program_that_hangs_should_be_one_break(record: Record, victim: str) -> None:
    async with record(BEEPS) as watched:
        await asyncio.sleep(2)
        stage = watched.stages[0]
        hanging = {
            "display": stage.display.server.pid,
            "sound": stage.audio.daemon.pid,
            "encoder": encoder().pid,
        }[victim]
        os.kill(hanging, signal.SIGSTOP)
        await watched.until(lambda: len(watched.takes) == 2)
        breaks = json.loads((watched.spool.directory / "breaks.json").read_text())
        assert len(breaks) == 1, watched.faults
        assert len(watched.stages) == (1 if victim == "encoder" else 2)


async def test_page_that_hangs_and_one_that_is_closed_should_be_joined_again(record: Record) -> None:
    async with record(BEEPS) as watched:
        await watched.stages[0].browser.page.evaluate("void setTimeout(() => { for (;;); })")
        await watched.until(lambda: len(watched.takes) == 2)
        await watched.stages[1].browser.page.close()
        await watched.until(lambda: len(watched.takes) == 3)
    assert watched.faults == ["the page's script has hung for 10 s", "the page was closed"]
    assert len(watched.stages) == 3


async def test_stop_that_comes_with_a_fault_should_be_the_reason_of_the_end(record: Record) -> None:
    async with record(BEEPS) as watched:
        await asyncio.sleep(2)
        await watched.orders.put(Command.PAUSE)
        await asyncio.sleep(1)
        # The next take cannot begin, and it takes 5 s to find that out.
        os.kill(watched.stages[0].display.server.pid, signal.SIGSTOP)
        await watched.orders.put(Command.RESUME)
        await asyncio.sleep(1)
        await watched.orders.put(Command.STOP)
        await watched.until(lambda: watched.outcome is not None)
    assert watched.outcome == Outcome(EndReason.STOPPED, None, started=True)
    assert (len(watched.takes), watched.faults) == (1, [])
