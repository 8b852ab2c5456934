"""Where the takes come to lie in the finished file: pure arithmetic on time stamps.

All times are whole microseconds. Within a take a time counts from the take's epoch, in the file from its
first frame.
"""

from dataclasses import dataclass


class FrameGrid:
    """Snaps the frames of one take, in order, to its own grid of whole periods, and counts what does not fit.

    The grabs jitter by some 50 µs around the grid. A place whose frame was never grabbed stays empty, and
    the frame before it is shown longer. After such a stall x11grab catches up with grabs that follow each
    other at once; of several in one place the later ones are squeezed in behind the first, because a frame
    that others refer to cannot be dropped and a later place would put the whole rest out of sync.
    """

    def __init__(self, first_us: int, period_us: int) -> None:
        """Begin the grid at the first frame's time."""
        self._first = first_us
        self._period = period_us
        self._place = -1
        self._last = -period_us
        self.frames = 0
        self.lost = 0
        self.crowded = 0

    def snap(self, time_us: int) -> int:
        """The place of the next frame, counted in µs from the first frame."""
        place = (time_us - self._first + self._period // 2) // self._period
        if place > self._place:
            self.lost += place - self._place - 1
            self._place = place
        else:
            self.crowded += 1
        self._last = max(place * self._period, self._last + self._period // 16)
        self.frames += 1
        return self._last

    @property
    def end(self) -> int:
        """Where the last frame ends, in µs from the first frame."""
        return max((self._place + 1) * self._period, self._last + self._period // 16)


@dataclass(frozen=True)
class Joint:
    """How a take is put into the file: what moves its times, and where its sound begins (take's time)."""

    offset: int
    sound_from: int


def first_joint(video_first: int) -> Joint:
    """The first take: its first frame is the file's time zero; sound from before it is left out."""
    return Joint(-video_first, video_first)


def next_joint(video_end: int, sound_end: int, video_first: int, sound_times: list[int]) -> Joint:
    """A take behind one whose picture ends at `video_end` and sound at `sound_end` (file's time).

    `sound_times` are the starts of the take's first sound packets. The sound goes on without a gap, since
    players run sound packets together and would shift all that follows; the picture keeps its exact distance
    from the sound, and the last frame before the joint stands up to one sound packet longer. So sound and
    picture are never moved against each other.
    """
    latest = sound_end + video_first - video_end
    candidates = [time for time in sound_times if time <= latest]
    if candidates:
        return Joint(sound_end - candidates[-1], candidates[-1])
    return Joint(video_end - video_first, latest)
