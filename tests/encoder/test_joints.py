"""All times are whole microseconds; 33333 is the period of 30 fps."""

import random

from encoder.joints import FrameGrid, first_joint, next_joint

PERIOD = 33_333


def test_jitter_should_be_taken_out() -> None:
    grid = FrameGrid(1_000_000, PERIOD)
    jitter = random.Random(1)
    places = [grid.snap(1_000_000 + i * PERIOD + jitter.randint(-300, 300)) for i in range(1, 1000)]
    assert places == [i * PERIOD for i in range(1, 1000)]
    assert grid.crowded == 0


def test_grid_should_not_drift_in_a_day() -> None:
    grid = FrameGrid(0, PERIOD)
    frames = 24 * 3600 * 30
    last = 0
    for i in range(frames):
        last = grid.snap(i * PERIOD + (i % 7) * 10)
    assert last == (frames - 1) * PERIOD
    assert (grid.frames, grid.lost, grid.crowded) == (frames, 0, 0)


def test_missing_frames_should_be_counted_and_leave_their_places_empty() -> None:
    grid = FrameGrid(0, PERIOD)
    assert [grid.snap(i * PERIOD) for i in (0, 1, 4, 5)] == [0, PERIOD, 4 * PERIOD, 5 * PERIOD]
    assert grid.lost == 2
    assert grid.end == 6 * PERIOD


def test_frames_after_a_stall_should_not_shift_what_follows() -> None:
    grid = FrameGrid(0, PERIOD)
    # Nothing for 100 ms, then three grabs at once, then as before.
    times = [0, 103_000, 104_000, 105_000, 4 * PERIOD, 5 * PERIOD]
    places = [grid.snap(time) for time in times]
    assert places[-2:] == [4 * PERIOD, 5 * PERIOD]
    assert places == sorted(set(places))
    assert (grid.lost, grid.crowded) == (2, 2)


def test_first_take_should_begin_with_its_first_frame() -> None:
    joint = first_joint(video_first=5_000_000)
    assert joint.offset + 5_000_000 == 0
    assert joint.sound_from == 5_000_000


def test_sound_should_go_on_without_a_gap_at_a_joint() -> None:
    sound = [4_900_000 + i * 21_333 for i in range(20)]
    joint = next_joint(video_end=10_000_000, sound_end=10_012_000, video_first=5_000_000, sound_times=sound)
    assert joint.sound_from in sound
    assert joint.sound_from + joint.offset == 10_012_000
    gap = 5_000_000 + joint.offset - 10_000_000
    assert 0 <= gap < 21_334


def test_take_without_early_sound_should_begin_where_the_picture_ended() -> None:
    joint = next_joint(
        video_end=10_000_000, sound_end=9_990_000, video_first=5_000_000, sound_times=[6_000_000]
    )
    assert joint.offset + 5_000_000 == 10_000_000
