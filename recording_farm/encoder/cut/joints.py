"""Joints: where each take lies in the finished file; pure arithmetic on time stamps.

Within a take a time counts from the take's epoch, in whole microseconds. In the file a frame is `FRAME_TICKS`
ticks long, and time counts from the first frame, so that at 30 fps frame 30 begins at exactly one second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from recording_farm.encoder.formats import FRAME_TICKS

MAX_DROPPED: Final = 4
"""Frames that are left out of a take's end at most, so that the next take continues on the grid."""

NEAR_US: Final = 2_000
"""A place on the grid that is so near is taken at once: nearer ones cost more frames."""

ON_GRID_US: Final = 4_000
"""How far sound and picture are moved against each other at most to bring a take's frames onto the grid.

At 30 fps a place within 3.4 ms is found among the ends of the last five frames.
"""

_AROUND_US: Final = 200_000
"""How far from a take's first frame the sound may begin that it continues with."""

_EQUAL_US: Final = 50
"""Sound is as near to the grid when both takes have one packet more or less of it."""

_SQUEEZED = FRAME_TICKS // 16


class FrameGrid:
    """Snaps the frames of one take, in order, to a grid of whole frames, and counts those that do not fit.

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

    @property
    def state(self) -> tuple[int, int, int, int, int]:
        """How far the grid has come, for `restore`."""
        return self._place, self._last, self.frames, self.lost, self.crowded

    def restore(self, state: Sequence[int]) -> None:
        """Continue behind the frame after which the grid was in this state."""
        self._place, self._last, self.frames, self.lost, self.crowded = state

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

        The encoder was behind, and the frames in its queue are lost.
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

    So many frames of the take before are `dropped`, and its sound is kept up to `sound_end` (µs, file's
    time). The picture begins at `picture_from` (ticks, file's time), the sound at `sound_from` (µs, take's
    time); `offset` (µs) is added to the times of the audio.
    """

    dropped: int
    sound_end: Fraction
    picture_from: int
    sound_from: int
    offset: int


def first_joint(video_first: int) -> Joint:
    """The first take: its first frame is the file's time zero; sound from before it is left out."""
    return Joint(0, Fraction(0), 0, video_first, -video_first)


def next_joint(
    picture_ends: Sequence[int],
    sound_ends: Sequence[Fraction],
    video_first: int,
    sound_times: Sequence[int],
    fps: int,
) -> Joint:
    """A take behind one whose last frames end at `picture_ends` (ticks), packets of sound at `sound_ends`.

    The latest picture comes first; `sound_ends` are in µs of the file's time. `sound_times` are the starts of
    the take's first packets of sound. The sound continues without a gap, since players run packets together
    and would shift all that follows. So where the next picture lies depends on which packets meet, and on how
    many frames are left out before it: as few as bring it to the grid of the file. It is then moved onto it
    by up to `ON_GRID_US`. If it would take more, no frame is left out, the last one stands a little longer,
    and the picture keeps its exact distance from the sound.
    """
    tick = Fraction(1_000_000, fps * FRAME_TICKS)
    around = [time for time in sound_times if abs(time - video_first) <= _AROUND_US]
    best: tuple[Fraction, Joint] | None = None
    for dropped, ticks in enumerate(picture_ends):
        way = _joint_on_grid(dropped, on_grid(ticks), sound_ends, video_first, around, tick)
        if way is not None and (best is None or way[0] < best[0]):
            best = way
        if best is not None and best[0] <= NEAR_US:
            break
    if best is not None and best[0] <= ON_GRID_US:
        return best[1]
    return _exact_joint(picture_ends[0], sound_ends, video_first, sound_times, tick)


def _joint_on_grid(
    dropped: int,
    picture_from: int,
    sound_ends: Sequence[Fraction],
    video_first: int,
    sound_times: Sequence[int],
    tick: Fraction,
) -> tuple[Fraction, Joint] | None:
    """The joint with this picture, and by how much it is moved (µs) against its sound; None without sound."""
    ways = [
        (abs(sound_end - time + video_first - picture_from * tick), abs(time - video_first), sound_end, time)
        for sound_end in sound_ends
        for time in sound_times
    ]
    if not ways:
        return None
    nearest = min(way[0] for way in ways)
    moved, _, sound_end, time = min((w for w in ways if w[0] <= nearest + _EQUAL_US), key=lambda w: w[1])
    return moved, Joint(dropped, sound_end, picture_from, time, round(sound_end - time))


def _exact_joint(
    picture_end: int,
    sound_ends: Sequence[Fraction],
    video_first: int,
    sound_times: Sequence[int],
    tick: Fraction,
) -> Joint:
    end = picture_end * tick
    sound_end = next((each for each in sound_ends if each >= end), sound_ends[-1])
    latest = sound_end + video_first - end
    candidates = [time for time in sound_times if time <= latest]
    if not candidates:
        start = on_grid(picture_end)
        return Joint(0, sound_end, start, round(latest), round(start * tick) - video_first)
    offset = sound_end - candidates[-1]
    picture_from = max(round((video_first + offset) / tick), picture_end)
    return Joint(0, sound_end, picture_from, candidates[-1], round(offset))


def on_grid(ticks: int) -> int:
    """The first place at a time (ticks) or behind it."""
    return -(-ticks // FRAME_TICKS) * FRAME_TICKS
