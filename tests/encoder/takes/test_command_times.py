"""The times in a take's file are those of the grabbing, also after the machine has stalled."""

import subprocess
from pathlib import Path

import ffmpeg
import pytest

from recording_farm.encoder.formats import Codec, Format
from recording_farm.encoder.media.packets import time_of, whole_packets
from recording_farm.encoder.media.partial_file import open_take
from recording_farm.encoder.takes.command import encoding

PERIOD = 33_333
SECONDS = 8


def grabbed(number: int) -> int:
    """When a frame is grabbed (µs): every 2 s the grabbing stalls for 0.33 s, then catches up at once."""
    since = number % 60 - 20
    return number * PERIOD + (max(0, 330_000 - since * 32_000) if since >= 0 else 0)


STALLS = f"N*{PERIOD}+gte(mod(N,60),20)*max(0,330000-(mod(N,60)-20)*32000)"


@pytest.mark.parametrize("codec", list(Codec))
def test_a_stall_should_not_move_the_picture_behind_it(tmp_path: Path, codec: Codec) -> None:
    fmt = Format(codec, width=320, height=180)
    file = tmp_path / f"take{fmt.take_suffix}"
    picture = ffmpeg.input("testsrc=size=320x180:rate=30,settb=1/1000000", format="lavfi").video
    picture = picture.filter("setpts", STALLS).filter("format", "yuv420p")
    sound = ffmpeg.input("sine=sample_rate=48000", format="lavfi").audio
    options = encoding(fmt) | {"copyts": None, "t": SECONDS}
    command = ffmpeg.output(sound, picture, str(file), **options).global_args("-loglevel", "error").compile()
    subprocess.run(command, check=True, timeout=60)
    with open_take(file) as take:
        times = [time_of(packet) for packet in whole_packets(take, take.streams.video[0])]
    assert len(times) > 200
    # WebM counts in milliseconds, and from the first packet of the sound, which begins before it is heard.
    first = times[0]
    assert first < 25_000
    wrong = max(abs(time - first - grabbed(number)) for number, time in enumerate(times))
    assert wrong <= 1_000
