from itertools import pairwise
from pathlib import Path

import av
import pytest

from recording_farm.encoder.live.hls import (
    HlsWriter,
    TimedText,
    id3_tag,
    read_timed_texts,
    timed_text_line,
)
from testkit.encoder.takes import make_take

US = 1_000_000


def test_durations_in_the_playlist_should_be_those_of_the_segments(tmp_path: Path) -> None:
    keys, end = [], 0
    with av.open(str(make_take(tmp_path, seconds=7))) as source:
        stream = source.streams.video[0]
        with HlsWriter(tmp_path, "index", [stream], seconds=2) as writer:
            for packet in source.demux(stream):
                if packet.pts is None:
                    continue
                end = round(packet.pts * packet.time_base * US)
                # These frames were lost.
                if 6.2 * US < end < 6.5 * US:
                    continue
                if packet.is_keyframe:
                    keys.append(end)
                writer.write(packet, "video", end)
    lines = writer.playlist.read_text().splitlines()
    durations = [float(line[8:].rstrip(",")) for line in lines if line.startswith("#EXTINF:")]
    last = end + US / 30
    assert durations == pytest.approx([(b - a) / US for a, b in pairwise([*keys, last])], abs=0.001)
    assert "#EXT-X-TARGETDURATION:2" in lines


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
