"""Takes that break off: at and around each box and cluster, and anywhere, with and without garbage behind."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import pytest

from recording_farm.encoder.cut.audio_cut import cut_audio
from recording_farm.encoder.cut.cut import cut
from recording_farm.encoder.cut.growing_cut import CutFile
from recording_farm.encoder.cut.joiner import TakeMedia
from recording_farm.encoder.errors import NothingRecordedError
from recording_farm.encoder.formats import AudioExport, Codec, Format
from recording_farm.encoder.media.packets import whole_packets
from recording_farm.encoder.media.partial_file import open_take, whole_bytes
from testkit.encoder.beeps import make_take

SUFFIXES = [".mp4", ".webm", ".m4a"]
CLUSTER = bytes.fromhex("1F43B675")
RANDOM_POINTS = 30
# A fragment of these takes, s: in WebM from key frame to key frame.
FRAGMENT = {".mp4": 0.25, ".webm": 2.0, ".m4a": 0.25}
PACKET_US = 24_000


@dataclass(frozen=True)
class Whole:
    """A take, and after which bytes it holds so many packets in whole fragments."""

    data: bytes
    suffix: str
    packets: dict[int, int]

    def least(self, size: int) -> int:
        """Packets in whole fragments before this many bytes."""
        return max((count for end, count in self.packets.items() if end <= size), default=0)


@pytest.fixture(scope="module", params=SUFFIXES)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A take of 9 s with four or more fragments."""
    suffix: str = request.param
    picture_from = None if suffix == ".m4a" else 3.5
    file = make_take(tmp_path_factory.mktemp("whole") / f"take{suffix}", 3.4, 12.4, picture_from=picture_from)
    data = file.read_bytes()
    positions = []
    with av.open(str(file)) as source:
        for packet in whole_packets(source):
            assert packet.pos is not None
            positions.append(packet.pos)
    ends = list(_ends_of_clusters(data) if suffix == ".webm" else _ends_of_boxes(data, b"mdat"))
    return Whole(data, suffix, {end: sum(position < end for position in positions) for end in ends})


def _ends_of_boxes(data: bytes, kind: bytes | None = None) -> Iterator[int]:
    position = 0
    while position < len(data):
        found = data[position + 4 : position + 8]
        position += int.from_bytes(data[position : position + 4])
        if kind in (None, found):
            yield position


def _ends_of_clusters(data: bytes) -> Iterator[int]:
    position = data.find(CLUSTER)
    while (position := data.find(CLUSTER, position + 1)) != -1:
        yield position


def broken(whole: Whole, size: int, tail: bytes, directory: Path) -> Path:
    file = directory / f"take-000{whole.suffix}"
    file.write_bytes(whole.data[:size] + tail)
    return file


def count(file: Path) -> int:
    try:
        with open_take(file) as source:
            return sum(1 for _ in whole_packets(source))
    except av.FFmpegError:
        return 0


def joined(take: Path, directory: Path) -> CutFile | None:
    try:
        if take.suffix == ".m4a":
            return cut_audio([TakeMedia(take)], directory / "out.m4a", AudioExport())
        codec = Codec.VP8 if take.suffix == ".webm" else Codec.H264
        return cut([TakeMedia(take)], directory / f"out{take.suffix}", Format(codec, 160, 90))
    except NothingRecordedError:
        return None


def points(whole: Whole) -> list[int]:
    """Each end of a box or cluster, a byte before and a byte after, and some anywhere."""
    ends = _ends_of_clusters(whole.data) if whole.suffix == ".webm" else _ends_of_boxes(whole.data)
    anywhere = random.Random(5).choices(range(len(whole.data)), k=RANDOM_POINTS)
    return sorted({*(end + by for end in ends for by in (-1, 0, 1)), *anywhere, len(whole.data)})


def test_takes_should_have_several_fragments(whole: Whole) -> None:
    assert len(whole.packets) >= 4
    assert whole.least(len(whole.data)) >= 250


@pytest.mark.parametrize(
    "tail", [b"", bytes(70_000), random.Random(6).randbytes(5_000)], ids=["nothing", "zeros", "garbage"]
)
def test_take_that_broke_off_anywhere_should_give_all_whole_fragments(
    whole: Whole, tail: bytes, tmp_path: Path
) -> None:
    for size in points(whole):
        file = broken(whole, size, tail, tmp_path)
        assert count(file) >= whole.least(size), size


@pytest.mark.parametrize("tail", [b"", bytes(70_000)], ids=["nothing", "zeros"])
def test_cut_of_a_broken_take_should_have_what_is_whole_and_nothing_else(
    whole: Whole, tail: bytes, tmp_path: Path
) -> None:
    for size in points(whole)[::5]:
        take = broken(whole, size, tail, tmp_path)
        file = joined(take, tmp_path)
        seconds = file.duration_us / 1e6 if file else 0.0
        fragments = sum(end <= size for end in whole.packets)
        # The picture begins 0.1 s after the sound.
        assert seconds >= min(8.9, fragments * FRAGMENT[whole.suffix] - 0.2), size
        assert seconds <= 9.1
        assert take.read_bytes() == whole.data[:size] + tail


def test_broken_take_should_be_joined_with_the_next(whole: Whole, tmp_path: Path) -> None:
    if whole.suffix == ".m4a":
        pytest.skip("a take with picture is wanted")
    codec = Codec.VP8 if whole.suffix == ".webm" else Codec.H264
    first = broken(whole, list(whole.packets)[-2] + 20, b"", tmp_path)
    second = tmp_path / f"take-001{whole.suffix}"
    second.write_bytes(whole.data)
    fmt = Format(codec, 160, 90)
    alone = cut([TakeMedia(first)], tmp_path / f"alone{whole.suffix}", fmt)
    result = cut([TakeMedia(first), TakeMedia(second)], tmp_path / f"out{whole.suffix}", fmt)
    assert result.takes == 2
    dropped = 70_000  # up to four frames at the joint
    assert result.duration_us == pytest.approx(
        alone.duration_us + 8_900_000 - dropped, abs=dropped + 2 * PACKET_US
    )
    with av.open(str(result.path)) as source:
        assert sum(1 for _ in source.decode(source.streams.video[0])) == result.frames


def test_whole_take_should_be_read_to_its_end(whole: Whole, tmp_path: Path) -> None:
    with broken(whole, len(whole.data), b"", tmp_path).open("rb") as file:
        assert whole_bytes(file) == len(whole.data)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 200_000])
def test_file_of_zeros_should_have_nothing_whole(size: int, tmp_path: Path) -> None:
    (tmp_path / "take-000.mp4").write_bytes(bytes(size))
    assert count(tmp_path / "take-000.mp4") == 0


def test_boxes_that_say_nonsense_should_not_be_followed(tmp_path: Path) -> None:
    file = tmp_path / "take-000.mp4"
    for length in (b"\0\0\0\0", b"\0\0\0\x07", b"\xff\xff\xff\xff", b"\0\0\0\x01"):
        file.write_bytes(b"\0\0\0\x08ftyp" + length + b"moov" + b"\xff" * 50)
        with file.open("rb") as opened:
            assert whole_bytes(opened) == 8
