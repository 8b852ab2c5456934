"""What must be on time runs in real time, and no page takes a processor for itself that way."""

import asyncio
import errno
import json
import os
import resource
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.stage.stage import open_stage
from recording_farm.encoder.formats import Format
from recording_farm.farm.cli.doctor import run_checks
from recording_farm.farm.host import realtime as real_time_module
from recording_farm.farm.host.realtime import (
    REAL_TIME,
    RealTime,
    is_allowed,
    kind_of,
    next_rest,
    too_busy,
    used_ns,
)
from recording_farm.farm.recorder.plan import Plan
from recording_farm.farm.recorder.recorder import Recorder
from recording_farm.farm.spool.spool import Spool
from testkit.browser_bot.sites import open_site
from testkit.deploy import seccomp
from testkit.machine.processes import below
from testkit.recorders import KeepingListener, no_orders
from testkit.waiting import until

RAISED, NO_LIMIT = 2, 3
SECOND = 1_000_000_000
ANSWERS = [
    errno.EPERM,
    *(pytest.param(each, marks=pytest.mark.long) for each in (errno.EINVAL, errno.ENOSYS)),
]
"""What a kernel or a sandbox answers to who may not run in real time; all are borne by the same lines."""
PAGE = "<script>console.log('START_RECORDING')</script>"

LIGHT_SOUND = """() => {
    const sound = new AudioContext();
    const source = new ConstantSourceNode(sound);
    source.connect(sound.destination);
    source.start();
    return sound;
}"""
HEAVY_SOUND = """sound => {
    sound ??= new AudioContext();
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
            # However it came to it: as root, Chromium puts some of its threads there itself.
            if os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK in {os.SCHED_RR, os.SCHED_FIFO}:
                names.append("main" if thread == pid else Path(f"/proc/{thread}/comm").read_text().strip())
    return sorted(names)


def chains() -> dict[str, list[list[str]]]:
    """What runs in real time of each program below this one, process by process."""
    programs = ("Xorg", "pulseaudio", "chromium", "ffmpeg")
    return {
        name: [threads for process in below(name=name) if (threads := in_real_time(process.pid))]
        for name in programs
    }


def sounding() -> int:
    """How many threads that sound comes from run in real time."""
    renderers = below(word="--type=renderer")
    return sum(in_real_time(process.pid).count("AudioOutputDevi") for process in renderers)


async def until_sounding(real_time: RealTime, threads: int = 1) -> None:
    """Have looks taken until so many threads that sound comes from run in real time, and it knows of them."""
    for looks_left in range(30, 0, -1):
        found = sounding()
        real_time.look(None if looks_left % 2 else -1)  # another encoder: it looks for new threads
        if found >= threads:
            return
        await asyncio.sleep(0.2)
    raise AssertionError("no sound in real time")


@where_allowed
async def test_chains_of_picture_and_sound_should_run_in_real_time_and_encoders_not(tmp_path: Path) -> None:
    listener = KeepingListener()
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


@pytest.mark.exact  # nothing else has a processor meanwhile
@where_allowed
async def test_page_that_uses_a_processor_up_should_lose_it() -> None:
    async with open_stage(320, 180, 30) as stage:
        real_time = RealTime(stage)
        # More than can be computed in time, in the thread that the sound comes from.
        await stage.browser.page.evaluate(HEAVY_SOUND)
        await until_sounding(real_time)
        async with asyncio.timeout(30):
            while sounding():
                await asyncio.sleep(1)
                real_time.look(-1)
        await asyncio.sleep(6)
        real_time.look(-1)  # it does not get it back by the next look for new ones
        assert not sounding()
        assert "main" in in_real_time(stage.display.server.pid)


@pytest.mark.long
@pytest.mark.exact  # nothing else has a processor meanwhile
@where_allowed
async def test_page_should_lose_all_its_busy_threads_at_once_and_get_none_back_by_new_ones() -> None:
    async with open_stage(320, 180, 30) as stage:
        real_time, page = RealTime(stage), stage.browser.page
        for _ in range(2):
            await page.evaluate(HEAVY_SOUND)
        await until_sounding(real_time, 2)
        await asyncio.sleep(1)
        real_time.look(-2)
        assert sounding() == 0
        # What was busy goes, and as much comes anew.
        await page.reload()
        await page.evaluate(HEAVY_SOUND)
        await asyncio.sleep(1)
        real_time.look(-1)
        assert sounding() == 0
        assert "main" in in_real_time(stage.display.server.pid)


@pytest.mark.exact  # nothing else has a processor meanwhile
@where_allowed
@pytest.mark.parametrize("answer", ANSWERS)
async def test_page_should_be_held_also_where_no_more_threads_may_run_in_real_time(
    monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    setting = os.sched_setscheduler

    def refuse(thread: int, policy: int, priority: os.sched_param) -> None:
        if policy == REAL_TIME:
            raise OSError(answer, os.strerror(answer))
        setting(thread, policy, priority)

    async with open_stage(320, 180, 30) as stage:
        real_time, page = RealTime(stage), stage.browser.page
        sound = await page.evaluate_handle(LIGHT_SOUND)
        await until_sounding(real_time)
        monkeypatch.setattr(os, "sched_setscheduler", refuse)
        another = await page.evaluate_handle(LIGHT_SOUND)
        await asyncio.sleep(1)
        real_time.look(2)
        await another.evaluate("sound => sound.close()")
        await page.evaluate(HEAVY_SOUND, sound)
        async with asyncio.timeout(30):
            while sounding():
                await asyncio.sleep(1)
                real_time.look(2)


@where_allowed
async def test_thread_whose_use_cannot_be_told_should_run_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    def untold(thread: int) -> int:
        raise FileNotFoundError(thread)

    monkeypatch.setattr(real_time_module, "used_ns", untold)
    async with open_stage(320, 180, 30) as stage:
        RealTime(stage).look(None)
        assert not any(threads for processes in chains().values() for threads in processes)


@pytest.mark.parametrize("said", ["0 0 0\n", None, "as it is"])
def test_use_of_a_thread_should_be_reported_also_without_schedstat(
    monkeypatch: pytest.MonkeyPatch, said: str | None
) -> None:
    reading = Path.read_text

    def read(file: Path, errors: str | None = None) -> str:
        if file.name == "schedstat" and said != "as it is":
            if said is None:
                raise FileNotFoundError(file)
            return said
        return reading(file, errors=errors)

    monkeypatch.setattr(Path, "read_text", read)
    over = threading.Event()
    waiting = threading.Thread(target=over.wait)
    waiting.start()
    before, clock = used_ns(threading.get_native_id()), time.thread_time_ns()
    while time.thread_time_ns() < clock + SECOND // 2:
        pass
    used, beside = used_ns(threading.get_native_id()) - before, used_ns(waiting.native_id or 0)
    over.set()
    waiting.join()
    assert used == pytest.approx(SECOND // 2, abs=SECOND // 20)
    assert beside < SECOND // 20


@pytest.mark.parametrize(
    ("used", "busy"),
    [
        ({}, []),
        ({"sound": SECOND // 5, "display": SECOND // 2}, []),
        ({"sound": SECOND // 5, "display": SECOND // 2, "page": SECOND // 5}, ["display"]),
        ({"sound": SECOND, "display": SECOND // 2, "page": 2 * SECOND}, ["page", "sound"]),
    ],
)
def test_what_used_most_should_lose_it_until_the_rest_is_not_too_much(
    used: dict[str, int], busy: list[str]
) -> None:
    assert too_busy(used, SECOND) == busy


def test_rest_should_be_longer_each_time_and_an_hour_at_most() -> None:
    rests = [0]
    for _ in range(8):
        rests.append(next_rest(rests[-1]))
    assert [rest // SECOND for rest in rests[1:]] == [60, 120, 240, 480, 960, 1920, 3600, 3600]


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


@pytest.fixture(params=["-1", "0", "1000000", "nothing"])
def unlimited(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that leaves nothing to others, or all, or that does not tell."""
    if request.param != "nothing":
        (tmp_path / "sched_rt_runtime_us").write_text(f"{request.param}\n")
        (tmp_path / "sched_rt_period_us").write_text("1000000\n")
    monkeypatch.setattr(real_time_module, "KERNEL", tmp_path)


@pytest.mark.usefixtures("unlimited")
def test_it_should_not_be_allowed_where_the_kernel_sets_no_limit() -> None:
    (check,) = (check for check in run_checks() if check.name == "real time")
    assert (is_allowed(), check.status) == (False, "warning")
    assert "sched_rt_runtime_us=950000" in check.detail


@pytest.mark.usefixtures("unlimited")
@pytest.mark.parametrize("unlimited", ["-1"], indirect=True)
async def test_nothing_should_run_in_real_time_where_it_is_not_allowed() -> None:
    async with open_stage(320, 180, 30) as stage:
        RealTime(stage).look(None)
        assert not any(threads for processes in chains().values() for threads in processes)


@pytest.mark.parametrize("answer", ANSWERS)
def test_doctor_should_bear_any_answer_of_a_sandbox(tmp_path: Path, answer: int) -> None:
    profile = tmp_path / "profile.json"
    rule = {"names": ["sched_setscheduler"], "action": "SCMP_ACT_ERRNO", "errnoRet": answer}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    done = subprocess.run(
        [sys.executable, seccomp.__file__, profile, Path(sys.executable).with_name("farm"), "doctor"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (line,) = (line for line in done.stdout.splitlines() if "real time" in line)
    assert line.startswith("warning"), done.stderr
    assert (done.returncode, done.stderr) == (0, "")
