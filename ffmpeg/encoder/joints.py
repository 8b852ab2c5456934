"""Where the takes come to lie in the finished file: pure arithmetic on time stamps.

Within a take a time counts from the take's epoch, in whole microseconds. In the file a frame is `FRAME_TICKS`
ticks long, and time counts from the first frame, so that at 30 fps frame 30 begins at exactly one second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from encoder.formats import FRAME_TICKS

MOST_HELD: Final = 8
"""Packets of sound for which the last frame before a joint stands at most: 171 ms in AAC, 160 ms in Opus."""

NEAR_US: Final = 2_000
"""A place so near is taken: for one that is nearer the last frame would stand longer."""

ON_GRID_US: Final = 4_000
"""How far sound and picture are moved against each other at most to bring a take's frames onto the grid.

With eight packets to choose from, the nearest place of a frame at 30 fps is 3.3 ms away at most.
"""

_SQUEEZED = FRAME_TICKS // 16


class FrameGrid:
    """Snaps the frames of one take, in order, to its own grid of whole frames, and counts what does not fit.

    The grabs jitter by some 50 µs around the grid. A place whose frame was never grabbed stays empty, and
    the frame before it is shown longer. After such a stall x11grab catches up with grabs that follow each
    other at once; of several in one place the later ones are squeezed in behind the first, because a frame
    that others refer to cannot be dropped and a later place would put the whole rest out of sync.
    """

    def __init__(self, first_us: int, period_us: Fraction) -> None:
        """Begin the grid at the first frame's time."""
        self._first = first_us
        # In whole numbers: there are millions of frames in a day.
        self._numerator, self._denominator = period_us.as_integer_ratio()
        self._place = -1
        self._last = -FRAME_TICKS
        self.frames = 0
        self.lost = 0
        self.crowded = 0

    def snap(self, time_us: int) -> int:
        """The place of the next frame, counted in ticks from the first frame."""
        place = self._nearest(time_us)
        if place > self._place:
            self.lost += place - self._place - 1
            self._place = place
        else:
            self.crowded += 1
        self._last = max(place * FRAME_TICKS, self._last + _SQUEEZED)
        self.frames += 1
        return self._last

    def end_at(self, time_us: int) -> None:
        """Count the frames that are missing behind the last one of a take that went on until `time_us`.

        The encoder was behind, and what waited for it went with it.
        """
        self.lost += max(0, self._nearest(time_us) - 1 - self._place)

    def _nearest(self, time_us: int) -> int:
        since = (time_us - self._first) * self._denominator
        return (2 * since + self._numerator) // (2 * self._numerator)

    @property
    def end(self) -> int:
        """Where the last frame ends, in ticks from the first frame."""
        return max((self._place + 1) * FRAME_TICKS, self._last + _SQUEEZED)


@dataclass(frozen=True)
class Joint:
    """How a take is put into the file.

    Its picture begins at `picture_from` (ticks, file's time), its sound at `sound_from` (µs, take's time);
    `offset` (µs) is what its sound's times are moved by.
    """

    picture_from: int
    sound_from: int
    offset: int


def first_joint(video_first: int) -> Joint:
    """The first take: its first frame is the file's time zero; sound from before it is left out."""
    return Joint(0, video_first, -video_first)


def next_joint(
    video_end: int, sound_end: Fraction, video_first: int, sound_times: Sequence[int], fps: int
) -> Joint:
    """A take behind one whose picture ends at `video_end` (ticks) and sound at `sound_end` (µs; file's time).

    `sound_times` are the starts of the take's first sound packets. The sound goes on without a gap, since
    players run sound packets together and would shift all that follows. With which packet it goes on decides
    where the picture lies. Of those for which the last frame stands a little longer, at most `MOST_HELD`
    packets, the one counts that brings the frames nearest to the grid; the picture is then moved onto it if
    that is no more than `ON_GRID_US`, and else keeps its exact distance from the sound.
    """
    tick = Fraction(1_000_000, fps * FRAME_TICKS)
    latest = sound_end + video_first - video_end * tick
    candidates = [time for time in sound_times if time <= latest][-MOST_HELD:]
    if not candidates:
        start = _up_to_grid(video_end)
        return Joint(start, round(latest), round(start * tick) - video_first)
    ways = [_joint(time, sound_end - time, video_first, video_end, tick) for time in reversed(candidates)]
    # The first holds the last frame for the shortest time.
    miss, joint, exact = next((way for way in ways if way[0] <= NEAR_US), min(ways, key=lambda way: way[0]))
    return joint if miss <= ON_GRID_US else exact


def _joint(
    sound_from: int, offset: Fraction, video_first: int, video_end: int, tick: Fraction
) -> tuple[Fraction, Joint, Joint]:
    """How far off the grid the picture is (µs) if the sound is moved by `offset`; on the grid, and exact."""
    exact = (video_first + offset) / tick
    place = max(round(exact / FRAME_TICKS) * FRAME_TICKS, _up_to_grid(video_end))
    return (
        abs(place - exact) * tick,
        Joint(place, sound_from, round(offset)),
        Joint(max(round(exact), video_end), sound_from, round(offset)),
    )


def _up_to_grid(ticks: int) -> int:
    return -(-ticks // FRAME_TICKS) * FRAME_TICKS
