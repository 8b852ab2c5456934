"""Packets that are read out of a body, held against those that libav reads out of the finished file."""

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import av
import pytest

from recording_farm.encoder.cut.growing_cut import GrowingCut
from recording_farm.encoder.cut.joiner import TakeMedia
from recording_farm.encoder.formats import AudioExport, Codec, Format
from recording_farm.encoder.media.packets import Packet
from recording_farm.encoder.media.partial_file import open_take
from recording_farm.encoder.mux.body_packets import BodyPackets
from recording_farm.encoder.mux.samples import Kind
from testkit.encoder.beeps import make_take

FORMATS = {
    "H264": Format(Codec.H264, 160, 90),
    "VP8": Format(Codec.VP8, 160, 90),
    "sound": Format(audio_only=AudioExport()),
}
KINDS = {"video": Kind.VIDEO, "audio": Kind.AUDIO}


@pytest.fixture(params=FORMATS)
def fmt(request: pytest.FixtureRequest) -> Format:
    return FORMATS[request.param]


@pytest.fixture
def takes(fmt: Format, tmp_path: Path) -> list[TakeMedia]:
    """The sound of the first begins before its picture, that of the second in the middle of a packet."""
    places = [(3.4, 7.1, 3.409), (2.25, 6.0, 2.35)]
    files = [tmp_path / f"take-{number}{fmt.take_suffix}" for number in range(2)]
    return [
        TakeMedia(
            make_take(file, begin, end, picture_from=None if fmt.audio_only else picture), number=number
        )
        for number, (file, (begin, end, picture)) in enumerate(zip(files, places, strict=True))
    ]


def facts(packet: Packet) -> tuple[Any, ...]:
    side_data = [(each.data_type, bytes(each)) for each in packet.iter_sidedata()]
    return packet.pts, packet.time_base, packet.is_keyframe, bytes(packet), side_data


def demuxed(file: Path) -> dict[Kind, list[tuple[Any, ...]]]:
    found: dict[Kind, list[tuple[Any, ...]]] = {kind: [] for kind in KINDS.values()}
    with av.open(str(file)) as source:
        for packet in source.demux():
            if packet.size:
                found[KINDS[packet.stream.type]].append(facts(packet))
    return found


def test_packets_should_be_those_of_the_finished_file(
    fmt: Format, takes: list[TakeMedia], tmp_path: Path
) -> None:
    kinds = [Kind.AUDIO] if fmt.audio_only else list(KINDS.values())
    opened = ExitStack()
    growing = opened.enter_context(closing(GrowingCut(tmp_path / "cut", fmt)))

    def read(offset: int, size: int) -> bytes:
        with growing.body.open("rb") as body:
            body.seek(offset)
            return body.read(size)

    found: dict[Kind, list[tuple[Any, ...]]] = {kind: [] for kind in KINDS.values()}
    with opened, BodyPackets(tmp_path / "cut", fmt, kinds, read) as packets:
        assert packets.open(0, {}, is_all=False) is None
        is_open = False
        for take in takes:
            with open_take(take.path) as source:
                growing.add(take, source)
            entries = growing.entries
            if not is_open:
                assert packets.open(entries, {}, is_all=False) is not None
                is_open = True
            for kind, packet in packets.packets(entries):
                found[kind].append(facts(packet))
        shift = 0

        def read_finished(offset: int, size: int) -> bytes:
            with (tmp_path / "finished").open("rb") as file:
                file.seek(shift + offset)
                return file.read(size)

        packets.read = read_finished
        result = growing.finish(tmp_path / "finished")
        shift = result.path.stat().st_size - result.body_bytes
        for kind, packet in packets.packets(growing.entries):
            found[kind].append(facts(packet))
    wanted = demuxed(result.path)
    for kind in KINDS.values():
        assert len(found[kind]) == len(wanted[kind])
        assert found[kind] == wanted[kind]


def test_streams_should_wait_until_each_has_a_sample(tmp_path: Path) -> None:
    fmt = FORMATS["H264"]
    silent = tmp_path / "take-0.mp4"
    with av.open(str(silent), "w", options={"movflags": "frag_keyframe+default_base_moof"}) as output:
        stream = output.add_stream("libx264", rate=30, width=160, height=90, pix_fmt="yuv420p")
        output.mux(stream.encode(av.VideoFrame(160, 90, "yuv420p")))
        output.mux(stream.encode(None))
    growing = GrowingCut(tmp_path / "cut", fmt)
    with open_take(silent) as source:
        growing.add(TakeMedia(silent, number=0), source)
    growing.finish(tmp_path / "finished")
    growing.close()
    with BodyPackets(tmp_path / "cut", fmt, list(KINDS.values()), lambda _, size: bytes(size)) as packets:
        assert packets.open(growing.entries, {}, is_all=False) is None
        streams = packets.open(growing.entries, {}, is_all=True)
        assert streams is not None
        assert [each.type for each in streams] == ["video"]
