import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from recording_farm.browser_bot.errors import StageError
from recording_farm.browser_bot.stage import audio
from recording_farm.browser_bot.stage.audio import AudioDevice, SinkInput, open_audio, parse_sink_inputs
from testkit.browser_bot.audio import listen, loudest_frequency
from testkit.machine.processes import our_children, programs_of, run


async def play_tone(opened: AudioDevice, frequency: int, seconds: float, sink: str = "stage") -> None:
    samples = np.sin(np.arange(int(48_000 * seconds)) * 2 * np.pi * frequency / 48_000) * 16_000
    tone = opened.daemon.log.with_name("tone")
    tone.write_bytes(samples.astype(np.int16).tobytes())
    code, _, complaints = await run(
        *("paplay", "--raw", "--rate=48000", "--channels=1", "--format=s16le", str(tone)),
        env=opened.variables | {"PULSE_SINK": sink},
    )
    assert code == 0, complaints


async def test_device_should_be_one_sink_at_48_khz(short_path: Path) -> None:
    async with open_audio(short_path) as opened:
        _, output, _ = await run("pactl", "info", env=opened.variables)
        assert "Default Sink: stage\n" in output.decode()
        assert "Default Sample Specification: s16le 2ch 48000Hz\n" in output.decode()
        _, output, _ = await run("pactl", "list", "short", "sinks", env=opened.variables)
        (sink,) = output.decode().splitlines()
        assert sink.split("\t")[1:4] == ["stage", "module-null-sink.c", "s16le 2ch 48000Hz"]
    assert our_children() == []
    assert programs_of(short_path) == []


async def test_what_is_played_should_be_heard_at_the_source(short_path: Path) -> None:
    async with open_audio(short_path) as opened:
        playing = asyncio.ensure_future(play_tone(opened, 1000, 20))
        heard = 0.0
        async with asyncio.timeout(10):
            while heard != pytest.approx(1000, abs=5):
                heard = loudest_frequency(await listen(opened, 0.3))
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)


async def test_what_plays_should_be_reported_and_brought_back_from_another_sink(short_path: Path) -> None:
    async with open_audio(short_path) as opened:
        assert await opened.inputs() == []
        playing = asyncio.ensure_future(play_tone(opened, 1000, 20))
        async with asyncio.timeout(10):
            while await opened.inputs() != [SinkInput(0, "stage", runs=True)]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for words in (
            ("load-module", "module-null-sink", "sink_name=other"),
            ("move-sink-input", "0", "other"),
        ):
            code, _, complaints = await run("pactl", *words, env=opened.variables)
            assert code == 0, complaints
        assert await opened.inputs() == [SinkInput(0, "other", runs=True)]
        await opened.move_back()
        assert await opened.inputs() == [SinkInput(0, "stage", runs=True)]
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
    with pytest.raises(OSError, match=r"No such file|refused"):
        await opened.inputs()


async def test_further_outputs_should_lead_to_the_sink(short_path: Path) -> None:
    async with open_audio(short_path, ["further"]) as opened:
        assert await opened.inputs() == []
        playing = asyncio.ensure_future(play_tone(opened, 1000, 20, sink="further"))
        async with asyncio.timeout(10):
            while loudest_frequency(await listen(opened, 0.3)) != pytest.approx(1000, abs=5):
                pass
        (played,) = await opened.inputs()
        assert (played.sink, played.runs) == ("stage", True)
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)


def test_listing_should_be_read_whatever_programs_call_themselves() -> None:
    listing = (
        "2 sink input(s) available.\n"
        "    index: 3\n\tdriver: <protocol-native.c>\n\tstate: CORKED\n\tsink: 0 <stage>\n\tmuted: no\n"
        '\tproperties:\n\t\tmedia.name = "\tstate: RUNNING"\n'
        "    index: 12\n\tdriver: <protocol-native.c>\n\tstate: RUNNING\n\tsink: 1 <a <b> c>\n>>> "
    )
    assert parse_sink_inputs(listing) == [
        SinkInput(3, "stage", runs=False),
        SinkInput(12, "a <b> c", runs=True),
    ]
    assert parse_sink_inputs("0 sink input(s) available.\n>>> ") == []


async def test_too_long_path_should_be_reported(tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 100)
    directory.mkdir()
    with pytest.raises(StageError, match=r"cannot create its sockets: .*too long"):
        async with open_audio(directory):
            pass


async def test_death_of_the_daemon_should_be_noticed(short_path: Path) -> None:
    async with open_audio(short_path) as opened:
        death = asyncio.ensure_future(opened.daemon.died())
        os.kill(opened.daemon.pid, signal.SIGKILL)
        assert "PulseAudio ended with -9" in str(await asyncio.wait_for(death, 2))


async def test_daemon_that_does_not_start_should_be_reported_in_its_words(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio, "daemon_configuration", lambda: "default-sample-rate = loud\n")
    with pytest.raises(StageError, match=r"PulseAudio ended with 1: (?s:.*)pulse-daemon\.conf"):
        async with open_audio(short_path):
            pass
    assert our_children() == []


async def test_start_that_is_cancelled_should_leave_nothing(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = short_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o700)
    monkeypatch.setattr(audio, "program_path", lambda *_: silent)
    starting = asyncio.ensure_future(open_audio(short_path).__aenter__())
    await asyncio.sleep(0.2)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert our_children() == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
