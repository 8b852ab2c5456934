"""Takes count in microseconds, the file in ticks: 1000 for each frame."""

import random
from fractions import Fraction

import pytest

from recording_farm.encoder.cut.joints import MAX_DROPPED, ON_GRID_US, FrameGrid, first_joint, next_joint
from recording_farm.encoder.formats import Codec, Format

PERIOD = Fraction(100_000, 3)
TICK = PERIOD / 1000


def test_jitter_should_be_taken_out() -> None:
    grid = FrameGrid(1_000_000, PERIOD)
    jitter = random.Random(1)
    places = [grid.snap(1_000_000 + round(i * PERIOD) + jitter.randint(-300, 300)) for i in range(1, 1000)]
    assert places == [i * 1000 for i in range(1, 1000)]
    assert grid.crowded == 0


@pytest.mark.parametrize("period", [PERIOD, Fraction(33_333)])
def test_grid_should_not_drift_for_hours(period: Fraction) -> None:
    grid = FrameGrid(0, period)
    frames = 3 * 3600 * 30
    last = 0
    for i in range(frames):
        last = grid.snap(i * period.numerator // period.denominator + (i % 7) * 10)
    assert last == (frames - 1) * 1000
    assert (grid.frames, grid.lost, grid.crowded) == (frames, 0, 0)


def test_missing_frames_should_be_counted_and_leave_their_places_empty() -> None:
    grid = FrameGrid(0, PERIOD)
    assert [grid.snap(round(i * PERIOD)) for i in (0, 1, 4, 5)] == [0, 1000, 4000, 5000]
    assert grid.lost == 2
    assert grid.end == 6000


def test_frames_after_a_stall_should_not_shift_what_follows() -> None:
    grid = FrameGrid(0, PERIOD)
    # Nothing for 100 ms, then three grabs at once, then as before.
    times = [0, 103_000, 104_000, 105_000, 133_333, 166_667]
    places = [grid.snap(time) for time in times]
    assert places[-2:] == [4000, 5000]
    assert places == sorted(set(places))
    assert (grid.lost, grid.crowded) == (2, 2)


def test_frames_that_the_encoder_took_along_should_be_counted() -> None:
    grid = FrameGrid(0, PERIOD)
    for i in range(192):
        grid.snap(round(i * PERIOD))
    grid.end_at(12_500_000)
    assert grid.lost == 375 - 192


def test_take_that_ends_between_two_grabs_should_not_miss_any() -> None:
    for after_last in range(0, 33_000, 1_000):
        grid = FrameGrid(0, PERIOD)
        for i in range(30):
            grid.snap(round(i * PERIOD))
        grid.end_at(round(29 * PERIOD) + after_last)
        assert grid.lost <= (after_last > 16_000), after_last


def test_first_take_should_begin_with_its_first_frame() -> None:
    joint = first_joint(video_first=5_000_000)
    assert (joint.picture_from, joint.sound_from, joint.offset) == (0, 5_000_000, -5_000_000)


@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("fps", [15, 24, 25, 30, 60])
def test_picture_should_come_onto_the_grid_and_stay_with_its_sound(codec: Codec, fps: int) -> None:
    tick = Fraction(1_000_000, Format(codec, fps=fps).timescale)
    length = Fraction(codec.audio_frame_samples * 1_000_000, 48_000)
    chance = random.Random(fps)
    on_grid = 0
    for _ in range(100):
        frames = chance.randrange(100, 10_000)
        picture_ends = [(frames - i) * 1000 for i in range(MAX_DROPPED + 1)]
        last = picture_ends[-1] * tick - chance.randrange(20_000)
        sound_ends = [last + i * length for i in range(12)]
        first_sound = chance.randrange(100_000)
        sound_times = [first_sound + round(i * length) for i in range(30)]
        video_first = first_sound + chance.randrange(60_000, 120_000)
        joint = next_joint(picture_ends, sound_ends, video_first, sound_times, fps)
        assert joint.sound_from in sound_times
        assert joint.sound_end in sound_ends
        # No gap in the sound.
        assert joint.sound_from + joint.offset == pytest.approx(float(joint.sound_end), abs=1)
        moved = joint.picture_from * tick - (video_first + joint.offset)
        if joint.picture_from % 1000:
            assert abs(moved) <= tick
            assert joint.dropped == 0
            assert 0 <= joint.picture_from * tick - picture_ends[0] * tick <= length
        else:
            assert abs(moved) <= ON_GRID_US + 1
            assert joint.picture_from == picture_ends[joint.dropped]
            on_grid += 1
    # 41.67 ms are nearly twice 20 and 21.33: at 24 fps other frames bring little else.
    assert on_grid == 100 or (fps in {15, 24, 25} and on_grid > 33)


@pytest.mark.parametrize("length", [Fraction(64_000, 3), Fraction(20_000)])
def test_thirty_frames_should_always_come_onto_the_grid(length: Fraction) -> None:
    """The usual rate, however long the sound of the take before is."""
    sound_times = [round(i * length) for i in range(20)]
    picture_ends = [30_000 - i * 1000 for i in range(MAX_DROPPED + 1)]
    for late in range(0, 22_000, 100):
        sound_ends = [880_000 - late + i * length for i in range(8)]
        joint = next_joint(picture_ends, sound_ends, 100_000, sound_times, 30)
        assert joint.picture_from % 1000 == 0


def test_no_frame_should_be_left_out_where_sound_and_grid_fit() -> None:
    joint = next_joint([30_000, 29_000], [Fraction(1_000_000)], 5_001_000, [5_000_000], 30)
    assert (joint.dropped, joint.picture_from) == (0, 30_000)


def test_take_that_does_not_come_near_the_grid_should_keep_its_distance_from_the_sound() -> None:
    """Of a take of a single frame none can be left out: what would be moved by 14 ms stays off the grid."""
    joint = next_joint([300_000], [Fraction(10_000_000)], 5_014_000, [5_000_000], 30)
    assert joint.picture_from % 1000
    assert joint.picture_from * TICK - 10_000_000 == pytest.approx(14_000, abs=float(TICK))


def test_take_without_early_sound_should_begin_where_the_picture_ended() -> None:
    joint = next_joint([300_000], [Fraction(9_990_000)], 5_000_000, [6_000_000], 30)
    assert joint.picture_from == 300_000
    assert joint.offset + 5_000_000 == 10_000_000
