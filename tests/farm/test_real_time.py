"""What must be on time runs in real time, and no page takes a processor for itself that way."""

import asyncio
import os
import resource
from contextlib import suppress
from pathlib import Path

import pytest

from browser_bot.contracts import PageContract
from browser_bot.stage import open_stage
from encoder.formats import Format
from farm.doctor import run_checks
from farm.real_time import REAL_TIME, RealTime, is_allowed, kind_of, most_used
from farm.recorder import Plan, Recorder
from farm.spool import Spool
from tests.browser_bot.helpers import open_site, until
from tests.end_to_end.test_early_faults import FaultListener, no_orders
from tests.processes import below

RAISED, NO_LIMIT = 2, 3
SECOND = 1_000_000_000
PAGE = "<script>console.log('START_RECORDING')</script>"

HEAVY_SOUND = """() => {
    const sound = new AudioContext();
    const source = new ConstantSourceNode(sound);
    let end = source;
    for (let i = 0; i < 20000; i++) end = end.connect(new BiquadFilterNode(sound));
    end.connect(sound.destination);
    source.start();
}"""

where_allowed = pytest.mark.skipif(not is_allowed(), reason="threads may not run in real time here")


def in_real_time(pid: int) -> list[str]:
    """The threads of a process that run in real time, by their names; its first one is `main`."""
    names = []
    for thread in map(int, os.listdir(f"/proc/{pid}/task")):
        with suppress(ProcessLookupError, FileNotFoundError):  # it has just ended
            if os.sched_getscheduler(thread) == REAL_TIME:
                names.append("main" if thread == pid else Path(f"/proc/{thread}/comm").read_text().strip())
    return sorted(names)


def chains() -> dict[str, list[list[str]]]:
    """What runs in real time of each program below this one, process by process."""
    programs = ("Xorg", "pulseaudio", "chromium", "ffmpeg")
    return {
        name: [threads for process in below(name=name) if (threads := in_real_time(process.pid))]
        for name in programs
    }


@where_allowed
async def test_chains_of_picture_and_sound_should_run_in_real_time_and_encoders_not(tmp_path: Path) -> None:
    listener = FaultListener()
    spool = Spool(tmp_path / "spool", Format(width=320, height=180))
    async with open_site() as site, asyncio.TaskGroup() as group:
        plan = Plan(site.add("/", PAGE), spool.format, contract=PageContract.CONSOLE, max_seconds=60)
        recorder = Recorder(plan, spool, tmp_path / "evidence", no_orders(), listener)
        group.create_task(recorder.run())
        await until(lambda: bool(listener.takes), 60, "it is recorded")
        # A machine that is busy looks later.
        # PulseAudio's thread has its name, ffmpeg's own are called as itself.
        inputs = [["ffmpeg", "ffmpeg", "threaded-ml"]]
        await until(lambda: chains()["ffmpeg"] == inputs, 30, "the encoder's inputs run in real time")
        found = chains()
        recorder.stop()
    assert found["ffmpeg"] == inputs
    assert all("main" in threads for name in ("Xorg", "pulseaudio") for threads in found[name])
    assert found["Xorg"]
    assert found["pulseaudio"]
    assert ["Chrome_ChildIOT", "VizCompositorTh"] in found["chromium"]
    assert ["Chrome_ChildIOT", "Compositor"] in found["chromium"]
    # No script, and nobody else.
    assert not any("main" in threads for threads in found["chromium"])
    assert in_real_time(os.getpid()) == []


@where_allowed
async def test_page_that_uses_a_processor_up_should_lose_it() -> None:
    def sounding() -> bool:
        renderers = below(word="--type=renderer")
        return any("AudioOutputDevi" in in_real_time(process.pid) for process in renderers)

    async with open_stage(320, 180, 30) as stage:
        real_time = RealTime(stage)
        # More than can be computed in time, in the thread that the sound comes from.
        await stage.browser.page.evaluate(HEAVY_SOUND)
        for looks_left in range(30, 0, -1):
            real_time.look(None if looks_left % 2 else -1)  # another encoder: it looks for new threads
            if sounding():
                break
            await asyncio.sleep(0.2)
        assert sounding()
        async with asyncio.timeout(30):
            while sounding():
                await asyncio.sleep(1)
                real_time.look(-1)
        await asyncio.sleep(6)
        real_time.look(-1)  # it does not get it back by the next look for new ones
        assert not sounding()
        assert all("main" in in_real_time(process.pid) for process in below(name="Xorg"))


@pytest.mark.parametrize(
    ("used", "most"),
    [
        ({}, None),
        ({7: SECOND // 5, 8: SECOND // 2}, None),
        ({7: SECOND // 5, 8: SECOND // 2, 9: SECOND // 5}, 8),
    ],
)
def test_thread_that_used_most_should_lose_it_when_it_is_too_much_altogether(
    used: dict[int, int], most: int | None
) -> None:
    assert most_used(used, SECOND) == most


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("/usr/lib/chromium/chromium\0--kiosk\0", ""),
        ("/usr/lib/chromium/chromium --type=renderer --lang=en", "renderer"),
        (
            "chromium\0--type=utility\0--utility-sub-type=audio.mojom.AudioService\0",
            "audio.mojom.AudioService",
        ),
        ("", ""),
    ],
)
def test_kind_of_process_should_be_read_from_its_command_line(command: str, kind: str) -> None:
    assert kind_of(command) == kind


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("most", [0, 1])
def test_ordinary_user_should_be_allowed_it_by_its_limit(most: int) -> None:
    child = os.fork()
    if child == 0:
        answer = RAISED
        try:
            resource.setrlimit(resource.RLIMIT_RTPRIO, (most, most))
            os.setgid(65534)
            os.setuid(65534)
            answer = is_allowed()
        except ValueError:
            answer = NO_LIMIT
        finally:
            os._exit(answer)
    answer = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if answer == NO_LIMIT:
        pytest.skip("the limit cannot be raised here")
    assert answer == most


def test_doctor_should_tell_whether_it_is_allowed() -> None:
    (check,) = (check for check in run_checks() if check.name == "real time")
    assert check.status == ("ok" if is_allowed() else "warning")
