"""Takes without a stage: what the encoder's ffmpeg would write of a display, written of a test picture."""

import subprocess
import time
from pathlib import Path

from recording_farm.encoder.formats import Codec
from recording_farm.encoder.journal import Journal, Lag, write_journal

BEEP = "aevalsrc='0.8*lt(mod(t,1),0.1)*sin(6283*t)':s=48000"
FLASH = "color=black:size=320x180:rate=30,drawbox=color=white:t=fill:enable='lt(mod(t,1),0.1)'"


def container(file: Path) -> list[str]:
    """What makes a growing file of ffmpeg's output, as `encoder.takes.command` has it."""
    if file.suffix == Codec.VP8.suffix:
        return ["-f", "webm", "-cluster_time_limit", "2000", str(file)]
    flags = "delay_moov+default_base_moof+skip_trailer"
    return [
        "-f",
        "mp4",
        "-movflags",
        flags,
        "-movie_timescale",
        "1000000",
        "-frag_duration",
        "250000",
        str(file),
    ]


def start_take(
    directory: Path, number: int = 0, *, seconds: float, real_time: bool = True
) -> "subprocess.Popen[bytes]":
    """Begin to write a take that flashes and beeps at once each second."""
    pace = ["-re"] if real_time else []
    return subprocess.Popen(
        [
            *("ffmpeg", "-loglevel", "error", "-nostdin", "-y"),
            *(*pace, "-f", "lavfi", "-i", FLASH, *pace, "-f", "lavfi", "-i", BEEP),
            *("-t", str(seconds), "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "60"),
            *("-pix_fmt", "yuv420p", "-c:a", "aac", "-flush_packets", "1"),
            *container(directory / f"take-{number:03d}.mp4"),
        ],
        stdin=subprocess.DEVNULL,
    )


def make_take(directory: Path, number: int = 0, *, seconds: float, lags: tuple[Lag, ...] = ()) -> Path:
    """Write such a take at once, with its journal."""
    assert start_take(directory, number, seconds=seconds, real_time=False).wait(60) == 0
    path = directory / f"take-{number:03d}.mp4"
    now_us = time.monotonic_ns() // 1000
    # Its time counts from 0, which was a moment ago.
    wall_us = round(time.time()) * 1_000_000
    journal = Journal(number, wall_us // 1_000_000, wall_us, now_us - round(seconds * 1e6), 0, lags)
    write_journal(path.with_suffix(".json"), journal)
    return path
