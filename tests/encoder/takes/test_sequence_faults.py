"""An ffmpeg that hangs or is too slow, a clock that is set, takes of two processes: all of a real page."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import av
import psutil
import pytest

from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.stage.stage import open_stage
from recording_farm.encoder.errors import EncoderHungError, EncoderTooSlowError
from recording_farm.encoder.formats import AudioExport, Codec, Format
from recording_farm.encoder.takes.command import Source, cheapest_step
from recording_farm.encoder.takes.sequence import TakeSequence
from recording_farm.farm.spool.spool import Spool
from testkit.encoder import recording_process
from testkit.fidelity.measure import measure
from testkit.machine.processes import encoder
from testkit.pages import FIDELITY_PAGE

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("nothing_is_left_behind")]

WIDTH, HEIGHT = recording_process.SIZE
FORMATS = [
    Format(Codec.H264, WIDTH, HEIGHT),
    Format(Codec.VP8, WIDTH, HEIGHT),
    Format(width=WIDTH, height=HEIGHT, audio_only=AudioExport()),
]
# What is promised: a new take so long (s) after the fault, and so much missing.
NEW_TAKE_SECONDS = 2.0
MISSING_SECONDS = 2.5
HOUR = 3600


def name_of(fmt: Format) -> str:
    return fmt.codec.value if fmt.audio_only is None else "sound"


@asynccontextmanager
async def recorded_page(width: int = WIDTH, height: int = HEIGHT) -> AsyncIterator[Source]:
    """A stage with a page on it that moves and beeps."""
    async with open_stage(width, height, 30) as stage:
        await Bot(stage.browser, PageContract.AUTO).join(f"file://{FIDELITY_PAGE}", seconds=30, tries=1)
        yield Source(stage.display.name, stage.display.authority, stage.audio.server, stage.audio.source)


def decoded(file: Path) -> int:
    """Frames that a player sees, or packets of sound if there is no picture."""
    with av.open(str(file)) as source:
        return sum(1 for _ in source.decode((source.streams.video or source.streams.audio)[0]))


@pytest.mark.exact
@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
async def test_encoder_that_hangs_should_be_replaced_within_two_seconds(fmt: Format, tmp_path: Path) -> None:
    async with recorded_page() as source:
        takes = TakeSequence(source, tmp_path, fmt)
        began = (await takes.begin()).monotonic_us
        await asyncio.sleep(4)
        stopped = time.monotonic()
        encoder().suspend()
        async with asyncio.timeout(10):
            error = await takes.died()
            # The recorder asks a second time.
            assert await takes.died() is error
            dead = time.monotonic()
            await takes.end()
            ended = time.monotonic()
            new = (await takes.begin()).monotonic_us
        assert isinstance(error, EncoderHungError)
        assert ended - dead < 0.3
        assert new / 1e6 - stopped < NEW_TAKE_SECONDS
        await asyncio.sleep(2)
        length = time.monotonic() - began / 1e6
        await takes.close()
        spool = Spool(tmp_path, fmt)
        first, _ = spool.journals()
        assert first.end_us is not None
        assert first.end_us / 1e6 == pytest.approx(first.time_of(round(stopped * 1e6)) / 1e6, abs=0.6)
        file = spool.cut(tmp_path / f"out{fmt.take_suffix}")
        assert file.takes == 2
        assert file.duration_us / 1e6 > length - MISSING_SECONDS - NEW_TAKE_SECONDS
        assert decoded(file.path) >= file.frames


@pytest.mark.parametrize("fmt", FORMATS, ids=name_of)
async def test_standing_still_for_a_moment_should_be_no_fault(fmt: Format, tmp_path: Path) -> None:
    async with recorded_page() as source:
        takes = TakeSequence(source, tmp_path, fmt)
        await takes.begin()
        death = asyncio.ensure_future(takes.died())
        await asyncio.sleep(2)
        process = encoder()
        process.suspend()
        await asyncio.sleep(0.7)
        process.resume()
        await asyncio.sleep(1)
        # As if the whole machine had stood still, the recorder with it.
        process.suspend()
        time.sleep(2.5)  # noqa: ASYNC251
        process.resume()
        await asyncio.sleep(1)
        assert not death.done(), death.result()
        death.cancel()
        await takes.close()


@pytest.mark.exact
@pytest.mark.parametrize("codec", list(Codec))
async def test_stalls_of_the_grabbing_should_not_move_sound_and_picture_apart(
    codec: Codec, tmp_path: Path
) -> None:
    fmt = Format(codec, WIDTH, HEIGHT)
    async with recorded_page() as source:
        takes = TakeSequence(source, tmp_path, fmt)
        began = time.monotonic()
        await takes.begin()
        await asyncio.sleep(4)
        calm = time.monotonic() - began
        for _ in range(6):
            process = encoder()
            process.suspend()
            await asyncio.sleep(0.4)
            process.resume()
            await asyncio.sleep(0.8)
        again = time.monotonic() - began
        await asyncio.sleep(5)
        await takes.close()
    fidelity = measure(Spool(tmp_path, fmt).cut(tmp_path / f"out{fmt.take_suffix}").path)
    seconds = dict(zip(fidelity.numbers, fidelity.times, strict=True))
    before = [offset for number, offset in fidelity.events.items() if seconds[number] < calm]
    after = [offset for number, offset in fidelity.events.items() if seconds[number] > again]
    # A stall may change the compositor's depth by a period, which nobody watches here.
    assert abs(median(after) - median(before)) < 0.060, fidelity.summary()


@asynccontextmanager
async def slowed(process: psutil.Process, off: float) -> AsyncIterator[None]:
    """Let a process run for only so much of the time."""

    async def alternate() -> None:
        while process.is_running():
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.3 * off)
            process.send_signal(signal.SIGCONT)
            await asyncio.sleep(0.3 * (1 - off))

    alternating = asyncio.create_task(alternate())
    try:
        yield
    finally:
        alternating.cancel()
        await asyncio.gather(alternating, return_exceptions=True)


@pytest.mark.exact
@pytest.mark.parametrize("codec", list(Codec))
async def test_encoder_that_is_too_slow_should_be_replaced_by_a_cheaper_one(
    codec: Codec, tmp_path: Path
) -> None:
    fmt = Format(codec)
    async with recorded_page(fmt.width, fmt.height) as source:
        takes = TakeSequence(source, tmp_path, fmt)
        steps = [(await takes.begin()).step]
        for _ in range(cheapest_step(fmt)):
            async with slowed(encoder(), 0.9), asyncio.timeout(25):
                assert isinstance(await takes.died(), EncoderTooSlowError)
                found = time.monotonic()
                await takes.end()
            new = await takes.begin()
            assert new.monotonic_us / 1e6 - found < NEW_TAKE_SECONDS
            steps.append(new.step)
        assert steps == list(range(cheapest_step(fmt) + 1))
        # After the last step it stays as it is.
        death = asyncio.ensure_future(takes.died())
        async with slowed(encoder(), 0.9):
            await asyncio.wait((death,), timeout=12)
        assert not death.done(), death.result()
        death.cancel()
        await takes.close()
        spool = Spool(tmp_path, fmt)
        assert [journal.step for journal in spool.journals()] == steps
        file = spool.cut(tmp_path / f"out{fmt.take_suffix}")
        assert file.takes == len(steps)
        assert decoded(file.path) == file.frames


@dataclass(frozen=True)
class Recording:
    """A process that records."""

    process: "subprocess.Popen[str]"

    def take(self, seconds: float) -> dict[str, object]:
        """The next take that has begun."""
        assert self.process.stdout is not None
        began = time.monotonic()
        line = self.process.stdout.readline()
        assert time.monotonic() - began < seconds
        told: dict[str, object] = json.loads(line)
        return told


@contextmanager
def recording(
    source: Source,
    directory: Path,
    codec: Codec,
    *,
    first: int = 0,
    prefix: tuple[str, ...] = (),
    environment: Mapping[str, str] = os.environ,
) -> Iterator[Recording]:
    """Record in a process of its own, until the block ends."""
    command = [
        *(*prefix, sys.executable, recording_process.__file__, source.display, str(source.authority)),
        *(source.pulse_server, source.pulse_source, str(directory), codec.value, str(first)),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        try:
            yield Recording(process)
            process.stdin.close()
            assert process.wait(15) == 0
        finally:
            process.kill()


@pytest.fixture
def settable_clock(tmp_path: Path) -> Iterator[tuple[dict[str, str], Path]]:
    """An environment in which the wall clock is as far ahead as the file says, for ffmpeg too."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    ahead = tmp_path / "ahead"
    ahead.write_text("+0")
    faking = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(ahead),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    # Takes give ffmpeg an environment of its own.
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    exports = "".join(f"export {name}={value}\n" for name, value in faking.items())
    program.write_text(f'#!/bin/sh\n{exports}exec /usr/bin/ffmpeg "$@"\n')
    program.chmod(0o755)
    yield os.environ | faking | {"PATH": f"{program.parent}:{os.environ['PATH']}"}, ahead
    # Each program that ran with the library leaves memory behind that is named after its process.
    for left in Path("/dev/shm").glob("*faketime_s*_*"):
        if not psutil.pid_exists(int(left.name.rpartition("_")[2])):
            left.unlink(missing_ok=True)


@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("by", [HOUR, -HOUR], ids=["forward", "back"])
async def test_clock_that_is_set_should_begin_a_new_take_at_once(
    by: int, codec: Codec, tmp_path: Path, settable_clock: tuple[dict[str, str], Path]
) -> None:
    environment, ahead = settable_clock
    spool = Spool(tmp_path / "spool", Format(codec, WIDTH, HEIGHT))
    spool.make()
    async with recorded_page() as source:
        with recording(source, spool.directory, codec, environment=environment) as recorder:
            assert await asyncio.to_thread(recorder.take, 10) == {"number": 0, "fault": None}
            await asyncio.sleep(4)
            ahead.write_text(f"{by:+d}")
            jumped = time.monotonic()
            told = await asyncio.to_thread(recorder.take, NEW_TAKE_SECONDS)
            assert (told["fault"], time.monotonic() - jumped < NEW_TAKE_SECONDS) == ("ClockJumpedError", True)
            await asyncio.sleep(3)
    first, second = spool.journals()
    assert second.wall_us - first.wall_us == pytest.approx(by * 1e6, abs=10e6)
    file = spool.cut(tmp_path / f"out{codec.suffix}")
    assert file.takes == 2
    assert 7 - MISSING_SECONDS < file.duration_us / 1e6 < 9
    assert decoded(file.path) == file.frames


def can_have_another_monotonic_clock() -> bool:
    """Whether this user may make a time namespace (Linux 5.6)."""
    return subprocess.run(["unshare", "--time", "true"], capture_output=True, timeout=5).returncode == 0


@pytest.mark.parametrize("codec", list(Codec))
async def test_takes_of_two_processes_should_be_joined_across_a_reboot(codec: Codec, tmp_path: Path) -> None:
    if not can_have_another_monotonic_clock():
        pytest.skip("a clock that begins anew cannot be had here")
    # After a reboot CLOCK_MONOTONIC begins near zero.
    anew = ("unshare", "--time", f"--monotonic=-{int(time.monotonic()) - 100}", "--fork")
    spool = Spool(tmp_path, Format(codec, WIDTH, HEIGHT))
    async with recorded_page() as source:
        with recording(source, tmp_path, codec) as recorder:
            await asyncio.to_thread(recorder.take, 10)
            await asyncio.sleep(3)
        with recording(source, tmp_path, codec, first=1, prefix=anew) as recorder:
            assert await asyncio.to_thread(recorder.take, 10) == {"number": 1, "fault": None}
            await asyncio.sleep(3)
    first, second = spool.journals()
    assert second.monotonic_us < 200_000_000 < first.monotonic_us
    assert second.epoch > first.epoch
    file = spool.cut(tmp_path / f"out{codec.suffix}")
    assert file.takes == 2
    assert file.duration_us / 1e6 == pytest.approx(6, abs=1)
    assert decoded(file.path) == file.frames


async def test_stop_of_an_encoder_that_has_just_hung_should_not_wait_for_it(tmp_path: Path) -> None:
    fmt = FORMATS[0]
    async with recorded_page() as source:
        takes = TakeSequence(source, tmp_path, fmt)
        await takes.begin()
        await asyncio.sleep(2)
        encoder().suspend()
        stopped = time.monotonic()
        await takes.close()
        assert time.monotonic() - stopped < 3
        assert Spool(tmp_path, fmt).cut(tmp_path / "out.mp4").duration_us > 0


async def test_take_in_reserve_that_has_died_should_be_replaced(tmp_path: Path) -> None:
    fmt = FORMATS[0]
    async with recorded_page() as source:
        takes = TakeSequence(source, tmp_path, fmt, first=3)
        takes.prepare()
        await asyncio.sleep(1.5)
        encoder().kill()
        await asyncio.sleep(0.5)
        assert (await takes.begin()).number == 3
        await asyncio.sleep(1)
        await takes.close()
        assert Spool(tmp_path, fmt).cut(tmp_path / "out.mp4").takes == 1
