"""Recordings without a picture, of a real page that beeps each second, by the recorder with no service."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from recording_farm.encoder.formats import AAC_FRAME_SAMPLES, SAMPLE_RATE, AudioCodec, AudioExport, Format
from recording_farm.encoder.journal import Journal
from recording_farm.farm.recorder.listener import EndReason, Outcome
from recording_farm.farm.recorder.plan import Plan
from recording_farm.farm.recorder.recorder import Recorder
from recording_farm.farm.recording.commands import Command
from recording_farm.farm.spool.spool import Spool
from testkit.encoder.beeps import Samples, beeps, played
from testkit.machine.processes import encoder
from testkit.recorders import KeepingListener

pytestmark = pytest.mark.long

# A beep each second by the clock of the sound alone. With the largest buffer there are no gaps on a busy
# machine; with the usual one there are, and each moves all beeps behind it.
PAGE = """<!doctype html><meta charset="utf-8"><title>Beeps</title><script>
const sound = new AudioContext({ sampleRate: 48000, latencyHint: 1 });
const second = sound.createBuffer(1, 48000, 48000);
for (let i = 0; i < 1920; i += 1) second.getChannelData(0)[i] = 0.8 * Math.cos(2 * Math.PI * i / 48);
const source = sound.createBufferSource();
source.buffer = second;
source.loop = true;
source.connect(sound.destination);
source.start();
sound.resume().then(() => console.log("START_RECORDING"));
</script>"""
# How far off beeps may be heard that are a second apart (s): PulseAudio's stamps wander on a busy machine.
JITTER = 0.025
BEEP = 0.04
PACKET = AAC_FRAME_SAMPLES / SAMPLE_RATE


@pytest.fixture
def page(tmp_path: Path) -> str:
    """The page's address."""
    (tmp_path / "page.html").write_text(PAGE)
    return f"file://{tmp_path}/page.html"


def phases(heard: Samples, take: Journal) -> list[float]:
    """At which part of a second each beep of a take was; not the one that was on when the take began."""
    return [(take.wall_us / 1e6 + time) % 1 for time in beeps(heard) if time > BEEP + PACKET]


def spread(phases: list[float]) -> float:
    """How far the phases lie apart, round the second."""
    return max(min((a - b) % 1, (b - a) % 1) for a in phases for b in phases)


@pytest.mark.parametrize(
    "export", [AudioExport(), AudioExport(AudioCodec.MP3, 1)], ids=lambda export: export.codec.value
)
async def test_pause_should_be_left_out_and_the_beeps_should_lie_where_they_were(
    tmp_path: Path, page: str, export: AudioExport
) -> None:
    listener = KeepingListener()

    async def orders() -> AsyncIterator[Command]:
        await listener.began.wait()
        await asyncio.sleep(3.4)
        yield Command.PAUSE
        await asyncio.sleep(1.3)
        yield Command.RESUME
        await asyncio.sleep(3.4)
        yield Command.STOP

    spool = Spool(tmp_path / "spool", Format(audio_only=export))
    plan = Plan(page, spool.format, max_seconds=30)
    outcome = await Recorder(plan, spool, tmp_path / "evidence", orders(), listener).run()
    assert outcome == Outcome(EndReason.STOPPED, None, started=True)

    first, second = spool.journals()
    lengths = [((take.end_us or 0) - take.time_of(take.monotonic_us)) / 1e6 for take in (first, second)]
    assert lengths == pytest.approx([3.4, 3.4], abs=0.8)
    assert all(0.9 < take.speed < 1.1 for take in (first, second))

    file = spool.cut(tmp_path / f"out{export.codec.suffix}")
    assert (file.takes, file.frames, file.lost) == (2, 0, 0)
    assert file.duration_us / 1e6 == pytest.approx(sum(lengths), abs=2 * PACKET)
    joint = round(lengths[0] * SAMPLE_RATE)
    heard = played(file.path)
    before, after = phases(heard[:, :joint], first), phases(heard[:, joint:], second)
    assert len(before) >= 3
    assert len(after) >= 3
    assert spread(before) < JITTER
    assert spread(after) < JITTER
    # At the joint a packet is not cut in two.
    assert spread(before + after) < JITTER + PACKET


async def test_killed_encoder_should_cost_a_second_at_most(tmp_path: Path, page: str) -> None:
    listener = KeepingListener()

    async def orders() -> AsyncIterator[Command]:
        await listener.began.wait()
        await asyncio.sleep(3.5)
        listener.began.clear()
        encoder().kill()
        await listener.began.wait()
        await asyncio.sleep(2)
        yield Command.STOP

    spool = Spool(tmp_path / "spool", Format(audio_only=AudioExport()))
    plan = Plan(page, spool.format, max_seconds=30)
    outcome = await Recorder(plan, spool, tmp_path / "evidence", orders(), listener).run()
    assert outcome == Outcome(EndReason.STOPPED, None, started=True)
    assert {take.path.suffix for take in spool.takes()} == {".m4a"}
    file = spool.cut(tmp_path / "out.m4a")
    assert file.takes == 2
    assert 3.5 - 1 + 2 <= file.duration_us / 1e6 < 3.5 + 2 + 1
    heard = played(file.path)[:, : 2 * SAMPLE_RATE]
    assert spread(phases(heard, spool.journals()[0])) < JITTER
