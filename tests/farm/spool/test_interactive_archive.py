"""Archives of recordings with timed texts, made of a test picture."""

import io
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import av
import google_crc32c
import pytest
from av.container import InputContainer

from recording_farm.encoder.cut.cut import cut
from recording_farm.encoder.cut.growing_cut import CutFile
from recording_farm.encoder.cut.joiner import TakeJoint, TakeMedia
from recording_farm.encoder.errors import CutError
from recording_farm.encoder.formats import Codec, Format
from recording_farm.encoder.live.hls import TimedText, id3_tag, segments_in
from recording_farm.farm.spool import interactive_archive
from recording_farm.farm.spool.interactive_archive import make_archive, place_texts
from testkit.encoder.takes import make_take


def opened(content: bytes) -> InputContainer:
    source = av.open(io.BytesIO(content), "r", format="mpegts")
    assert isinstance(source, InputContainer)
    return source


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CutFile:
    monkeypatch.setattr(interactive_archive, "SEGMENT_SECONDS", 2)
    take = make_take(tmp_path, seconds=5)
    file = cut([TakeMedia(take, number=0)], tmp_path / "cut.mp4", Format(Codec.H264, 320, 180))
    # Times in the file and in the take are the same then.
    return replace(file, joints=(TakeJoint(0, 0),))


def test_texts_should_stand_in_the_segments_at_their_times(film: CutFile, tmp_path: Path) -> None:
    texts = [(3_100_000, "später"), (500_000, "first"), (500_000, "at the same time"), (9_000_000, "last")]
    made = make_archive(film, [TimedText(0, us, text) for us, text in texts], tmp_path / "a.tar")
    with tarfile.open(made.path) as archive:
        contents = {}
        for member in archive:
            assert (member.uid, member.gid, member.mode) == (0, 0, 0o644)
            file = archive.extractfile(member)
            assert file is not None
            contents[member.name] = file.read()
    assert made.path.stat().st_size % tarfile.RECORDSIZE == 0
    playlist, *segments = contents
    assert playlist == "index.m3u8"
    assert segments_in(contents[playlist].decode()) == segments
    assert len(segments) == 3
    assert "#EXT-X-TARGETDURATION:2\n" in contents[playlist].decode()
    assert re.findall(r"#EXTINF:([0-9.]+)", contents[playlist].decode()) == ["2.000000"] * 2 + ["1.000000"]
    joined = b"".join(contents[segment] for segment in segments)
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


def test_archive_should_tell_the_checksum_of_its_segments(film: CutFile, tmp_path: Path) -> None:
    made = make_archive(film, [], tmp_path / "a.tar")
    body = made.path.read_bytes()[-made.body.size :]
    assert google_crc32c.value(body) == made.body.crc32c
    assert body.startswith(b"index-00000.ts")
    assert sorted(file.name for file in tmp_path.glob("*.tar*")) == ["a.tar"]
    assert not list(tmp_path.glob(".a*"))


def test_film_that_cannot_be_read_should_be_an_error(film: CutFile, tmp_path: Path) -> None:
    film.path.write_bytes(bytes(1000))
    with pytest.raises(CutError, match="could not be made"):
        make_archive(film, [], tmp_path / "a.tar")


def test_text_should_be_placed_by_its_take() -> None:
    joints = (TakeJoint(0, -2_000_000), TakeJoint(2, -4_000_000))
    texts = [TimedText(0, us, "") for us in (1_000, 3_000_000)]
    texts += [TimedText(2, 9_000_000, ""), TimedText(1, 5, "of a take that is lost")]
    assert place_texts(joints, texts) == [(0, ""), (1_000_000, ""), (5_000_000, "")]
