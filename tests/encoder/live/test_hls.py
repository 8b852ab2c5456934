import io
from pathlib import Path

import av
import pytest
from av.container import InputContainer

from recording_farm.encoder.cut.cut import cut
from recording_farm.encoder.cut.growing_cut import CutFile
from recording_farm.encoder.cut.joiner import TakeJoint, TakeMedia
from recording_farm.encoder.formats import Codec, Format
from recording_farm.encoder.live.hls import (
    TimedText,
    id3_tag,
    make_hls,
    read_timed_texts,
    segments_in,
    timed_text_line,
)
from recording_farm.farm.spool.interactive_archive import place_texts
from testkit.encoder.takes import make_take


def opened(content: bytes) -> InputContainer:
    source = av.open(io.BytesIO(content), "r", format="mpegts")
    assert isinstance(source, InputContainer)
    return source


def test_texts_should_stand_in_the_segments_at_their_times(tmp_path: Path) -> None:
    make_take(tmp_path, seconds=5)
    mp4 = tmp_path / "cut.mp4"
    cut([TakeMedia(tmp_path / "take-000.mp4")], mp4, Format(Codec.H264, 320, 180))
    directory = tmp_path / "hls"
    directory.mkdir()
    texts = [(3_100_000, "später"), (500_000, "first"), (500_000, "at the same time"), (5_000_000, "last")]
    playlist, *segments = make_hls(mp4, directory, "index", texts, seconds=2)
    assert segments_in(playlist.read_text()) == [segment.name for segment in segments]
    assert len(segments) == 3
    joined = b"".join(segment.read_bytes() for segment in segments)
    with opened(joined) as source:
        base = min(
            packet.pts * packet.time_base
            for packet in source.demux(source.streams.video[0])
            if packet.pts is not None
        )
    with opened(joined) as source:
        stream = next(stream for stream in source.streams if stream.type == "data")
        found = [
            (float(packet.pts * packet.time_base - base), bytes(packet))
            for packet in source.demux(stream)
            if packet.pts is not None
        ]
    assert [round(at, 2) for at, _ in found] == [0.5, 0.5, 3.1, 5.0]
    assert [tag for _, tag in found] == [
        id3_tag(text) for text in ("first", "at the same time", "später", "last")
    ]


def test_tag_should_be_id3_with_one_text_of_ours() -> None:
    tag = id3_tag("x" * 200)
    size = sum(byte << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0), strict=True))
    assert tag[:6] == b"ID3\x04\0\0"
    assert size == len(tag) - 10
    assert tag[10:14] == b"TXXX"
    assert tag[20:] == b"\x03ID3Data\0" + b"x" * 200


def test_line_that_was_not_written_to_its_end_should_be_left_out(tmp_path: Path) -> None:
    file = tmp_path / "texts"
    assert read_timed_texts(file) == []
    texts = [TimedText(0, 5, "a\nb\u2028c"), TimedText(1, 7, "ü")]
    file.write_text("".join(map(timed_text_line, texts)) + '{"take": 2, "us"')
    assert read_timed_texts(file) == texts


@pytest.mark.parametrize(
    ("text", "at"),
    [
        (TimedText(0, 1_000, ""), 0),
        (TimedText(0, 3_000_000, ""), 1_000_000),
        (TimedText(2, 9_000_000, ""), 5_000_000),
        (TimedText(2, 90_000_000, ""), 8_000_000),
    ],
)
def test_text_should_be_placed_by_its_take(tmp_path: Path, text: TimedText, at: int) -> None:
    joints = (TakeJoint(0, -2_000_000), TakeJoint(2, -4_000_000))
    file = CutFile(tmp_path / "a.mp4", 8_000_000, 240, 0, 0, 2, joints)
    assert place_texts(file, [text, TimedText(1, 5, "of a take that is lost")]) == [(at, "")]
