from fractions import Fraction
from pathlib import Path

import av
import pytest

from recording_farm.encoder.cut.cut_progress import read_cut_progress, time_in_body
from recording_farm.encoder.cut.growing_cut import GrowingCut
from recording_farm.encoder.cut.joiner import TakeMedia
from recording_farm.encoder.formats import AudioExport, Codec, Format
from testkit.encoder.beeps import make_take

FORMATS = [
    Format(Codec.H264, 320, 180),
    Format(Codec.VP8, 320, 180),
    Format(Codec.H264, 320, 180, audio_only=AudioExport()),
]
SECONDS = 6
BEGIN = 3.5


@pytest.mark.parametrize("fmt", FORMATS, ids=["mp4", "webm", "audio"])
def test_bytes_of_a_growing_body_should_have_the_times_of_the_finished_file(
    fmt: Format, tmp_path: Path
) -> None:
    picture_from = BEGIN if fmt.audio_only is None else None
    takes = [
        make_take(
            tmp_path / f"take-{number}{fmt.take_suffix}", BEGIN, BEGIN + SECONDS, picture_from=picture_from
        )
        for number in range(2)
    ]
    directory = tmp_path / "cut"
    cut = GrowingCut(directory, fmt)
    assert read_cut_progress(directory, fmt) is None
    for number, take in enumerate(takes):
        with av.open(str(take)) as source:
            cut.add(TakeMedia(take, number=number), source)
    cut.close()
    progress = read_cut_progress(directory, fmt)
    assert progress is not None
    assert progress.take == 1
    assert progress.take_start_us == pytest.approx(SECONDS * 1e6, abs=200_000)
    assert progress.end_us == pytest.approx(2 * SECONDS * 1e6, abs=2_500_000)
    assert progress.body_bytes == (directory / "body").stat().st_size
    offsets = [int(progress.body_bytes * Fraction(step, 20)) for step in range(21)]
    times = [time_in_body(directory, fmt, offset) for offset in offsets]
    assert times[0] == 0

    cut = GrowingCut(directory, fmt)
    with av.open(str(takes[1])) as source:
        cut.add(TakeMedia(takes[1], number=1), source)
    file = cut.finish(tmp_path / f"film{fmt.take_suffix}")
    head = file.path.stat().st_size - file.body_bytes
    with av.open(str(file.path)) as film:
        packets = [
            (packet.pos - head, packet.pts * packet.time_base * 1_000_000)
            for packet in film.demux()
            if packet.pts is not None and packet.pos is not None and packet.time_base is not None
        ]
    for offset, time in zip(offsets[1:], times[1:], strict=True):
        # A chunk of a track is half a second.
        assert time == pytest.approx(max(at for place, at in packets if place < offset), abs=600_000)
