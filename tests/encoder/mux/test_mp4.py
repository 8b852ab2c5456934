"""Heads of MP4 files that are too long to be recorded in a test: bodies with holes, read back by libav."""

from pathlib import Path

import av
import numpy as np
import pytest

from recording_farm.encoder.cut.put_in_front import BLOCK_BYTES, put_in_front
from recording_farm.encoder.formats import Codec, Format
from recording_farm.encoder.media.partial_file import open_take
from recording_farm.encoder.mux import mp4
from recording_farm.encoder.mux.body import scales_of
from recording_farm.encoder.mux.padding import Padding
from recording_farm.encoder.mux.samples import ENTRY, Entries, Kind
from recording_farm.encoder.mux.template import last_durations, make_template, save_streams
from testkit.encoder.beeps import make_take

SECONDS = 2 * 3600


def template_of(directory: Path, fmt: Format, entries: Entries) -> bytes:
    take = make_take(directory / f"take{fmt.codec.suffix}", 3.4, 4.0, picture_from=3.5)
    with open_take(take) as source:
        save_streams(source, directory / "streams", fmt)
    with (directory / "streams").open("rb") as streams:
        return make_template(streams, entries, fmt, {"title": "long"})


def one_frame_a_second(fps: int, size: int, step: int = 1) -> Entries:
    """The frames of two hours, `size` bytes from each other; `step` seconds count as one."""
    entries = np.zeros(SECONDS, ENTRY)
    numbers = np.arange(SECONDS, dtype=np.uint64)
    entries["kind"] = Kind.VIDEO
    entries["key"][::2] = 1
    entries["size"] = 100
    entries["pts"] = numbers * np.uint64(fps * 1000 * step)
    entries["offset"] = numbers * np.uint64(size)
    return entries


def sparse_body(file: Path, entries: Entries, size: int) -> None:
    """A body of `size` bytes in which some samples begin with their number."""
    with file.open("wb") as body:
        body.truncate(size)
        for number in (0, SECONDS // 2, SECONDS - 1):
            body.seek(int(entries["offset"][number]))
            body.write(number.to_bytes(8))


@pytest.mark.parametrize("size", [1_000, 1 << 20], ids=["small", "more-than-4-GiB"])
def test_mp4_should_find_each_sample_however_far_it_lies(tmp_path: Path, size: int) -> None:
    fmt = Format(Codec.H264, 160, 90)
    entries = one_frame_a_second(fmt.fps, size)
    tracks = mp4.Mp4Tracks(scales_of(fmt), last_durations(fmt))
    head = mp4.head(
        template_of(tmp_path, fmt, entries), entries, SECONDS * size, tracks, Padding(BLOCK_BYTES)
    )
    assert len(head) % BLOCK_BYTES == 0
    sparse_body(tmp_path / "body", entries, SECONDS * size)
    put_in_front(head, tmp_path / "body", tmp_path / "long.mp4")
    with av.open(str(tmp_path / "long.mp4")) as source:
        (stream,) = source.streams
        assert source.duration is not None
        assert source.duration / 1e6 == pytest.approx(SECONDS - 1 + 1 / 30, abs=0.01)
        packets = [packet for packet in source.demux(stream) if packet.size]
    assert [packet.pts for packet in packets] == entries["pts"].tolist()
    for number in (0, SECONDS // 2, SECONDS - 1):
        assert bytes(packets[number])[:8] == number.to_bytes(8)


def test_mp4_at_sixty_frames_should_count_more_than_32_bits_of_time(tmp_path: Path) -> None:
    fmt = Format(Codec.H264, 160, 90, fps=60)
    entries = one_frame_a_second(fmt.fps, 1000, step=11)  # 22 hours
    tracks = mp4.Mp4Tracks(scales_of(fmt), last_durations(fmt))
    head = mp4.head(template_of(tmp_path, fmt, entries), entries, SECONDS * 1000, tracks)
    sparse_body(tmp_path / "body", entries, SECONDS * 1000)
    put_in_front(head, tmp_path / "body", tmp_path / "long.mp4")
    with av.open(str(tmp_path / "long.mp4")) as source:
        stream = source.streams.video[0]
        assert stream.time_base is not None
        assert stream.duration is not None
        assert float(stream.duration * stream.time_base) == pytest.approx(11 * (SECONDS - 1), abs=0.1)
