"""What a display shows, grabbed as for a recording."""

from dataclasses import dataclass

import numpy as np

from recording_farm.browser_bot.stage.display import Display
from testkit.machine.processes import run

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Picture:
    """A grabbed region of a display."""

    width: int
    height: int
    pixels: bytes

    def at(self, x: int, y: int) -> Color:
        start = (y * self.width + x) * 3
        red, green, blue = self.pixels[start : start + 3]
        return red, green, blue

    def colors(self) -> set[Color]:
        red, green, blue = np.frombuffer(self.pixels, np.uint8).astype(np.uint32).reshape(-1, 3).T
        packed = np.unique(red << 16 | green << 8 | blue)
        return {(int(each) >> 16, int(each) >> 8 & 255, int(each) & 255) for each in packed}


async def grab(display: Display, width: int, height: int) -> Picture:
    """What the display shows in its upper left corner, as ffmpeg grabs it for a recording."""
    code, pixels, complaints = await run(
        *("ffmpeg", "-loglevel", "error", "-f", "x11grab", "-draw_mouse", "0"),
        *("-probesize", "32", "-analyzeduration", "0"),
        *("-video_size", f"{width}x{height}", "-i", display.name),
        *("-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
        env=display.variables,
    )
    assert code == 0, complaints
    return Picture(width, height, pixels)
