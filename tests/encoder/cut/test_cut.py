"""Takes are made by the real ffmpeg from test sources, with the time stamps that a take has."""

import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition

from recording_farm.encoder.cut.cut import cut
from recording_farm.encoder.cut.joiner import TakeMedia
from recording_farm.encoder.errors import CutError
from recording_farm.encoder.formats import Codec, Format
from recording_farm.encoder.journal import Lag
from recording_farm.encoder.media.probe import probe
from testkit.encoder.takes import container

ENCODING = {
    Codec.H264: ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "60", "-c:a", "aac"],
    Codec.VP8: ["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "16", "-g", "60", "-c:a", "libopus"],
}


def make_take(
    file: Path, codec: Codec, seconds: float, *, video_from: float = 3.5, rate: str = "1000000/33333"
) -> Path:
    """A take whose sound begins at 3.4 s of its clock and whose picture begins at `video_from`."""
    subprocess.run(
        [
            *("ffmpeg", "-y", "-loglevel", "error"),
            *("-f", "lavfi", "-i", f"testsrc=size=320x180:rate={rate}:duration={seconds - 0.01}"),
            *(
                "-f",
                "lavfi",
                "-i",
                f"sine=frequency=1000:sample_rate=48000:duration={seconds + video_from - 3.4}",
            ),
            *("-filter_complex", f"[0:v]setpts=PTS+{video_from}/TB[v];[1:a]asetpts=PTS+3.4/TB[a]"),
            *(
                "-map",
                "[v]",
                "-map",
                "[a]",
                "-copyts",
                "-fps_mode",
                "passthrough",
                "-enc_time_base:v",
                "1:1000000",
            ),
            *ENCODING[codec],
            *container(file),
        ],
        check=True,
        timeout=60,
    )
    return file


def start_of(packet: Any) -> float:
    return float(packet.pts * packet.time_base)


def frame_times(file: Path) -> list[float]:
    with av.open(str(file)) as source:
        return [float(frame.time or 0) for frame in source.decode(source.streams.video[0])]


@pytest.mark.parametrize("codec", list(Codec))
def test_cut_should_begin_at_zero_with_even_frames(tmp_path: Path, codec: Codec) -> None:
    take = make_take(tmp_path / f"take-000{codec.suffix}", codec, 4)
    target = tmp_path / f"out{codec.suffix}"
    result = cut([TakeMedia(take)], target, Format(codec, 320, 180))
    assert (result.frames, result.lost, result.crowded) == (120, 0, 0)
    times = frame_times(target)
    assert times[0] == 0
    tolerance = 0.000001 if codec is Codec.H264 else 0.0006
    assert all(abs(time - i / 30) < tolerance for i, time in enumerate(times))
    assert probe(target).duration_us == pytest.approx(4_000_000, abs=40_000)


@pytest.mark.parametrize("codec", list(Codec))
def test_takes_should_be_joined_without_a_gap_in_the_sound(tmp_path: Path, codec: Codec) -> None:
    takes = [
        TakeMedia(make_take(tmp_path / f"take-{i:03d}{codec.suffix}", codec, 3, video_from=3.5 + i / 90))
        for i in range(3)
    ]
    target = tmp_path / f"out{codec.suffix}"
    result = cut(takes, target, Format(codec, 320, 180))
    assert result.takes == 3
    # At each joint a few frames may be left out.
    assert 262 <= result.frames <= 270
    with av.open(str(target)) as source:
        starts = [start_of(packet) for packet in source.demux(source.streams.audio[0]) if packet.size]
    length = codec.audio_frame_samples / 48_000
    assert all(abs(b - a - length) < 0.0011 for a, b in pairwise(starts))
    times = frame_times(target)
    assert len(times) == result.frames
    # No frame stands longer than another, but for WebM's whole milliseconds.
    assert all(abs(b - a - 1 / 30) < 0.0011 for a, b in pairwise(times))
    assert result.duration_us == round(result.frames * 1_000_000 / 30)


def test_each_takes_place_in_the_file_should_be_known(tmp_path: Path) -> None:
    takes = [
        TakeMedia(
            make_take(tmp_path / f"take-{i:03d}.mp4", Codec.H264, seconds, video_from=3.5 + i / 90), number=i
        )
        for i, seconds in enumerate((3, 2, 4))
    ]
    result = cut(takes, tmp_path / "out.mp4", Format(Codec.H264, 320, 180))
    assert [joint.take for joint in result.joints] == [0, 1, 2]
    assert [joint.frames for joint in result.joints] == pytest.approx([90, 60, 120], abs=4)
    assert sum(joint.frames for joint in result.joints) == result.frames
    assert sum(joint.lost for joint in result.joints) == result.lost
    first, second, third = result.joints
    assert (first.start_ns, first.end_ns, second.end_ns) == (0, second.start_ns, third.start_ns)
    assert third.end_ns == pytest.approx(result.duration_us * 1000, abs=1000)
    for joint in result.joints:
        assert (joint.end_ns - joint.start_ns) * 30 == pytest.approx(joint.frames * 10**9, abs=100)


def test_mp4_should_have_thirty_frames_a_second_to_an_editor_also_after_joints(tmp_path: Path) -> None:
    takes = [
        TakeMedia(
            make_take(tmp_path / f"take-{i:03d}.mp4", Codec.H264, 3, video_from=3.7 + i / 70, rate="30"),
            stretch=Fraction(100_000, 99_999),
        )
        for i in range(3)
    ]
    target = tmp_path / "out.mp4"
    assert cut(takes, target, Format(Codec.H264, 320, 180)).lost == 0
    with av.open(str(target)) as source:
        stream = source.streams.video[0]
        assert stream.base_rate == 30
        assert stream.time_base is not None
        assert (1 / stream.time_base) % 30 == 0
        packets = [packet for packet in source.demux(stream) if packet.size]
        frame = 1 / stream.time_base / 30
        assert [packet.pts for packet in packets] == [i * frame for i in range(len(packets))]
        assert {packet.duration for packet in packets} == {frame}
        assert stream.average_rate == 30
    assert probe(target).streams[0].fps == 30


def test_take_of_the_last_version_should_keep_its_sound_with_its_picture(tmp_path: Path) -> None:
    """Its clock is not stretched: each frame comes 33333 µs behind the one before."""
    old = TakeMedia(make_take(tmp_path / "take-000.mp4", Codec.H264, 4))
    result = cut([old], tmp_path / "out.mp4", Format(Codec.H264, 320, 180))
    assert (result.frames, result.lost, result.crowded) == (120, 0, 0)


@pytest.mark.parametrize("codec", list(Codec))
def test_file_should_tell_its_title_and_when_it_began(tmp_path: Path, codec: Codec) -> None:
    take = make_take(tmp_path / f"take-000{codec.suffix}", codec, 3)
    target = tmp_path / f"out{codec.suffix}"
    media = TakeMedia(take, began_us=1_790_000_000_500_000)
    cut([media], target, Format(codec, 320, 180), title="Straße & Söhne: weekly")
    with av.open(str(target)) as source:
        told = source.metadata
    assert (told.get("title") or told["TITLE"]) == "Straße & Söhne: weekly"
    # MP4 counts whole seconds.
    assert told["creation_time"].startswith("2026-09-21T14:13:20")


def test_webm_should_have_default_tracks_with_a_default_duration(tmp_path: Path) -> None:
    take = make_take(tmp_path / "take-000.webm", Codec.VP8, 3)
    target = tmp_path / "out.webm"
    cut([TakeMedia(take)], target, Format(Codec.VP8, 320, 180))
    with av.open(str(target)) as source:
        assert all(stream.disposition & Disposition.default for stream in source.streams)
    # DefaultDuration (RFC 9559, 5.1.4.1.13): an element of four bytes, 33333333 ns.
    assert bytes.fromhex("23E383 84") + (33_333_333).to_bytes(4) in target.read_bytes()


def test_no_packet_of_sound_should_be_left_out_in_part(tmp_path: Path) -> None:
    """ffmpeg tells so of a take's last packet; Firefox plays no WebM that ends with one."""
    takes = [TakeMedia(make_take(tmp_path / f"take-{i:03d}.webm", Codec.VP8, 3)) for i in range(2)]
    assert any(_discarded(take.path) for take in takes)
    target = tmp_path / "out.webm"
    cut(takes, target, Format(Codec.VP8, 320, 180))
    assert not _discarded(target)


def _discarded(file: Path) -> int:
    """Samples that players are to leave out behind packets: the second number of the side data."""
    discarded = 0
    with av.open(str(file)) as source:
        for packet in source.demux(source.streams.audio[0]):
            if packet.has_sidedata("skip_samples"):
                discarded += int.from_bytes(bytes(packet.get_sidedata("skip_samples"))[4:8], "little")
    return discarded


def test_frames_that_were_lost_with_the_end_should_be_counted(tmp_path: Path) -> None:
    take = make_take(tmp_path / "take-000.mp4", Codec.H264, 3)
    target = tmp_path / "out.mp4"
    # It was told to end after six seconds, and its encoder had come to the third.
    result = cut([TakeMedia(take, end_us=3_500_000 + 6_000_000)], target, Format(Codec.H264, 320, 180))
    assert result.frames == 90
    assert result.lost == 90


def test_lag_should_be_taken_off_the_picture(tmp_path: Path) -> None:
    take = make_take(tmp_path / "take-000.mp4", Codec.H264, 3)
    starts = []
    for phase in (0, 20_000):
        target = tmp_path / f"out-{phase}.mp4"
        cut([TakeMedia(take, (Lag(0, phase),))], target, Format(Codec.H264, 320, 180))
        with av.open(str(target)) as source:
            packet = next(source.demux(source.streams.audio[0]))
            starts.append((start_of(packet), bytes(packet)))
    # The same sound lies 20 ms later against the picture, or there is one more packet before it.
    (plain, first), (moved, other) = starts
    assert (moved - plain == pytest.approx(0.020, abs=0.001)) if first == other else moved < plain


def test_lag_that_grows_should_move_only_what_follows(tmp_path: Path) -> None:
    take = make_take(tmp_path / "take-000.mp4", Codec.H264, 3)
    target = tmp_path / "out.mp4"
    # From frame 30 on all came a period later: it is a repetition, and 31 was due at its place.
    lags = (Lag(0, 0), Lag(3_500_000 + 30 * 33_333 - 10_000, 33_333))
    result = cut([TakeMedia(take, lags)], target, Format(Codec.H264, 320, 180))
    assert (result.frames, result.lost, result.crowded) == (90, 0, 1)
    times = frame_times(target)
    assert times[29] == pytest.approx(29 / 30, abs=1e-5)
    assert times[29] < times[30] < times[29] + 0.003
    assert times[31] == pytest.approx(30 / 30, abs=1e-5)
    assert times[89] == pytest.approx(88 / 30, abs=1e-5)


@pytest.mark.parametrize("codec", list(Codec))
def test_take_should_end_where_its_journal_says(tmp_path: Path, codec: Codec) -> None:
    take = make_take(tmp_path / f"take-000{codec.suffix}", codec, 4)
    target = tmp_path / f"out{codec.suffix}"
    result = cut([TakeMedia(take, end_us=3_500_000 + 2_000_000)], target, Format(codec, 320, 180))
    assert result.frames in {60, 61}  # 2 s are 60 frames of 33333 µs and a bit
    assert len(frame_times(target)) == result.frames


@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("share", [0.35, 0.6, 0.95])
def test_take_that_broke_off_should_give_what_is_whole(tmp_path: Path, codec: Codec, share: float) -> None:
    whole = make_take(tmp_path / f"whole{codec.suffix}", codec, 10)
    broken = tmp_path / f"take-000{codec.suffix}"
    broken.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    target = tmp_path / f"out{codec.suffix}"
    result = cut([TakeMedia(broken)], target, Format(codec, 320, 180))
    assert result.duration_us / 1e6 > 10 * share - 2.6
    assert len(frame_times(target)) == result.frames


def test_take_without_a_frame_should_be_left_out(tmp_path: Path) -> None:
    good = make_take(tmp_path / "take-001.mp4", Codec.H264, 3)
    empty, garbage = tmp_path / "take-000.mp4", tmp_path / "take-002.mp4"
    empty.touch()
    garbage.write_bytes(b"\0" * 5000)
    result = cut(
        [TakeMedia(empty), TakeMedia(good), TakeMedia(garbage)],
        tmp_path / "out.mp4",
        Format(Codec.H264, 320, 180),
    )
    assert (result.takes, result.frames) == (1, 90)


def test_nothing_to_join_should_be_an_error_and_leave_no_file(tmp_path: Path) -> None:
    empty = tmp_path / "take-000.mp4"
    empty.touch()
    with pytest.raises(CutError, match="no whole frame"):
        cut([TakeMedia(empty)], tmp_path / "out.mp4", Format())
    assert not (tmp_path / "out.mp4").exists()


def test_index_should_be_at_the_front_of_an_mp4(tmp_path: Path) -> None:
    take = make_take(tmp_path / "take-000.mp4", Codec.H264, 3)
    cut([TakeMedia(take)], tmp_path / "out.mp4", Format(Codec.H264, 320, 180))
    head = (tmp_path / "out.mp4").read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")


def test_webm_should_have_duration_and_cues_at_the_front(tmp_path: Path) -> None:
    take = make_take(tmp_path / "take-000.webm", Codec.VP8, 3)
    cut([TakeMedia(take)], tmp_path / "out.webm", Format(Codec.VP8, 320, 180))
    data = (tmp_path / "out.webm").read_bytes()
    cues, cluster = bytes.fromhex("1C53BB6B"), bytes.fromhex("1F43B675")
    assert cues in data
    assert data.index(cues) < data.index(cluster)
    assert probe(tmp_path / "out.webm").duration_us == pytest.approx(3_000_000, abs=40_000)


def test_file_that_is_no_video_should_not_pass_for_one(tmp_path: Path) -> None:
    fake = tmp_path / "out.mp4"
    fake.write_bytes(b"\0" * 5000)
    with pytest.raises(CutError, match="does not play"):
        probe(fake)
