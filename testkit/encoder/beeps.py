"""Takes made by the real ffmpeg with a beep at each second of their clock, and what is heard of them."""

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from recording_farm.encoder.formats import SAMPLE_RATE, Codec
from testkit.encoder.takes import container

Samples = NDArray[np.float32]

LEVEL = 0.2
GAP = 0.5


def make_take(
    file: Path, begin: float, end: float, *, picture_from: float | None = None, noise: bool = False
) -> Path:
    """A take with sound from `begin` to `end` of its clock, and with a picture if that begins sometime.

    A beep begins at its peak, so that its first sample is the event. Right it is half as loud as left. A
    second of a picture with `noise` has some MiB.
    """
    beep = f"0.8*cos(2*PI*1000*(t+{begin}))*lt(mod(t+{begin},1),0.04)"
    inputs = ["-f", "lavfi", "-i", f"aevalsrc='{beep}|0.5*{beep}':s={SAMPLE_RATE}:d={end - begin}"]
    graph = f"[0:a]asetpts=PTS+{begin}/TB[a]"
    streams = ["-map", "[a]", "-c:a", "libopus" if file.suffix == Codec.VP8.suffix else "aac", "-b:a", "128k"]
    if picture_from is not None:
        source = f"testsrc=size=160x90:rate=1000000/33333:duration={end - picture_from}"
        inputs += ["-f", "lavfi", "-i", source]
        blur = ",scale=320:180,noise=alls=100:allf=t" if noise else ""
        graph += f";[1:v]setpts=PTS+{picture_from}/TB{blur}[v]"
        streams += ["-map", "[v]", "-fps_mode", "passthrough", "-enc_time_base:v", "1:1000000", "-g", "60"]
        streams += ["-bf", "0", "-c:v", "libvpx" if file.suffix == Codec.VP8.suffix else "libx264"]
        if noise:
            streams += ["-b:v", "100M", "-qmin", "0", "-qmax", "0", "-deadline", "realtime", "-cpu-used", "8"]
    command = ["ffmpeg", "-y", "-loglevel", "error", *inputs, "-filter_complex", graph, *streams, "-copyts"]
    subprocess.run([*command, *container(file)], check=True, timeout=60)
    return file


def played(file: Path, channels: int = 2) -> Samples:
    """What the program ffmpeg plays of a file with sound alone: one row for each channel."""
    command = ["ffmpeg", "-v", "error", "-i", str(file), "-f", "f32le", "-ac", str(channels), "pipe:1"]
    done = subprocess.run(command, check=True, timeout=60, stdout=subprocess.PIPE)
    return np.frombuffer(done.stdout, np.float32).reshape(-1, channels).T


def beeps(samples: Samples) -> list[float]:
    """When each beep begins, in seconds."""
    found: list[float] = []
    for index in np.flatnonzero(np.abs(samples[0]) > LEVEL):
        time = int(index) / SAMPLE_RATE
        if not found or time - found[-1] > GAP:
            found.append(time)
    return found


def shown(file: Path) -> Samples:
    """The sound of a file with a picture, each sample where its time stamp puts it."""
    parts: list[tuple[int, Samples]] = []
    with av.open(str(file)) as source:
        for frame in source.decode(source.streams.audio[0]):
            assert frame.pts is not None
            assert frame.time_base is not None
            begin = round(Fraction(frame.pts) * frame.time_base * SAMPLE_RATE)
            parts.append((begin, frame.to_ndarray().astype(np.float32)))
    samples: Samples = np.zeros((2, parts[-1][0] + parts[-1][1].shape[1]), np.float32)
    for begin, part in parts:
        samples[:, max(0, begin) : begin + part.shape[1]] = part[:, max(0, -begin) :]
    return samples
