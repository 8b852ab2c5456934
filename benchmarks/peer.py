"""The way most peers record the same page, for comparison on the same machine.

A 60 Hz display, one ffmpeg with both inputs at their defaults, frames counted to a constant rate: what
display recorders of meetings do. The stage is ours, so that only the method differs.
"""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

from benchmarks.recordings import PAGE
from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.stage.stage import Stage, open_stage
from testkit.fidelity.measure import measure
from testkit.machine.load import Stolen

SECONDS = 60
TIMES = 3
REFRESH = 60


def run(directory: Path) -> Iterator[str]:
    """Record a minute three times in a row."""
    for number in range(1, TIMES + 1):
        file = directory / f"peer-{number}.mp4"
        stolen = Stolen.from_now()
        asyncio.run(record_their_way(file, SECONDS))
        share = stolen.share()
        yield f"peers' way, H264 {number}: {measure(file).after(1).summary()}; steal {share:.1%}"


async def record_their_way(file: Path, seconds: float) -> None:
    """Record the page of the fidelity check for `seconds` into an MP4 file."""
    async with open_stage(1280, 720, REFRESH) as stage:
        bot = Bot(stage.browser, PageContract.CONSOLE)
        # The page draws at 60 Hz here, so its numbers run twice as fast as the frames; `step` evens that out.
        await bot.join(f"{PAGE}?step=2", seconds=30, tries=1)
        process = await asyncio.create_subprocess_exec(
            *_command(stage, file, seconds),
            stdin=asyncio.subprocess.DEVNULL,
            env=os.environ | stage.display.variables,
        )
        await process.wait()


def _command(stage: Stage, file: Path, seconds: float) -> list[str]:
    sound = ("-server", stage.audio.server, "-i", stage.audio.source)
    return [
        *("ffmpeg", "-y", "-loglevel", "error"),
        *("-thread_queue_size", "4096", "-f", "x11grab", "-draw_mouse", "0", "-framerate", "30"),
        *("-video_size", "1280x720", "-i", stage.display.name),
        *("-thread_queue_size", "4096", "-f", "pulse", *sound),
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", "25", "-g", "60"),
        *("-pix_fmt", "yuv420p", "-r", "30"),
        *("-c:a", "aac", "-b:a", "128k", "-af", "aresample=async=1", "-t", f"{seconds:g}", str(file)),
    ]
