import itertools
import time
from pathlib import Path

import pytest

from recording_farm.encoder.formats import Format
from recording_farm.encoder.journal import Lag
from recording_farm.encoder.live.follow import FollowedPacket, follow
from recording_farm.encoder.media.growing_file import introduction_bytes, last_fragments
from testkit.encoder.takes import make_take, start_take

ENDED = itertools.repeat(True).__next__


def followed(directory: Path, *, live: bool = False) -> list[FollowedPacket]:
    return [each for _, packets in follow(directory, Format(), ENDED, live=live) for each in packets]


def times(packets: list[FollowedPacket], kind: str) -> list[int]:
    return [each.time_us for each in packets if each.kind == kind]


def test_takes_should_follow_each_other_without_a_gap_and_in_sync(tmp_path: Path) -> None:
    for number in (0, 3):
        make_take(tmp_path, number, seconds=2.5)
    packets = followed(tmp_path)
    video, audio = times(packets, "video"), times(packets, "audio")
    assert video[0] == 0
    assert len(video) == 150
    steps = [b - a for a, b in itertools.pairwise(video)]
    # At the joint the frame before stands until the sound of its take is over.
    assert [step for step in steps if not 33_000 < step < 34_000] == [steps[74]]
    assert 33_000 < steps[74] < 80_000
    assert max(b - a for a, b in itertools.pairwise(audio)) < 60_000
    assert [take for take, _ in itertools.groupby(each.take for each in packets)] == [0, 3]


def test_lag_of_the_frames_should_be_taken_off(tmp_path: Path) -> None:
    make_take(tmp_path, seconds=1, lags=(Lag(0, 50_000),))
    packets = followed(tmp_path)
    first_sound = next(each for each in packets if each.kind == "audio")
    first_frame = next(each for each in packets if each.kind == "video")
    # Both began together: with its lag taken off, the frame is for a time 50 ms before.
    distance = first_sound.time_us - first_frame.time_us
    recorded = first_sound.take_us - first_frame.take_us
    assert distance == recorded + 50_000


def test_lag_that_grows_should_not_turn_time_back(tmp_path: Path) -> None:
    make_take(tmp_path, seconds=3, lags=(Lag(0, 0), Lag(1_500_000, 66_666), Lag(2_000_000, 0)))
    video = times(followed(tmp_path), "video")
    steps = [b - a for a, b in itertools.pairwise(video)]
    assert min(steps) == 2_000
    assert video[-1] == pytest.approx(89 * 33_333, abs=100)


def test_live_should_begin_at_a_key_frame_near_the_end(tmp_path: Path) -> None:
    make_take(tmp_path, seconds=9)
    packets = followed(tmp_path, live=True)
    first = next(each for each in packets if each.kind == "video")
    assert first.packet.is_keyframe
    assert first.time_us == 0
    assert 9e6 - first.take_us < 4.6e6
    assert first.age_us is not None
    assert abs(first.age_us - (9e6 - first.take_us)) < 3e6


def test_growing_take_should_be_followed_as_it_is_written(tmp_path: Path) -> None:
    writer = start_take(tmp_path, seconds=4)
    began = time.monotonic()
    late = []
    for _, packets in follow(tmp_path, Format(), lambda: writer.poll() is not None, live=False):
        late += [time.monotonic() - began - each.time_us / 1e6 for each in packets]
    assert writer.wait(10) == 0
    # It was read while it was written: the last came hardly later than the first.
    assert len(late) > 250
    assert late[-1] - min(late) < 2


def test_recording_without_takes_should_be_nothing(tmp_path: Path) -> None:
    (tmp_path / "take-000.mp4").touch()
    assert followed(tmp_path) == []


def test_broken_take_should_be_followed_as_far_as_it_is_whole(tmp_path: Path) -> None:
    path = make_take(tmp_path, seconds=3)
    whole = len(followed(tmp_path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert whole // 2 < len(followed(tmp_path)) < whole
    make_take(tmp_path, 1, seconds=1)
    path.write_bytes(b"\0" * 5000)
    assert {each.take for each in followed(tmp_path)} == {1}


@pytest.mark.parametrize("count", [1, 4])
def test_last_fragments_should_begin_where_a_fragment_does(tmp_path: Path, count: int) -> None:
    path = make_take(tmp_path, seconds=3)
    begin = last_fragments(path, count)
    assert begin is not None
    assert path.read_bytes()[begin + 4 : begin + 8] in {b"sidx", b"moof", b"styp"}
    assert begin > introduction_bytes(path) > 0
    assert last_fragments(path, 1000) is None
