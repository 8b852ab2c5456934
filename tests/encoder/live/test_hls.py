from pathlib import Path

from recording_farm.encoder.live.hls import (
    TimedText,
    id3_tag,
    read_timed_texts,
    timed_text_line,
)


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
