"""Takes without a picture, made by the real ffmpeg, with a beep at each whole second of their clock."""

from itertools import product
from pathlib import Path
from typing import Literal

import av
import pytest

from recording_farm.encoder.cut.audio_cut import cut_audio
from recording_farm.encoder.cut.joiner import TakeMedia
from recording_farm.encoder.errors import CutError
from recording_farm.encoder.formats import AudioCodec, AudioExport
from recording_farm.encoder.media.probe import probe
from testkit.encoder.beeps import beeps, make_take, played

CHANNELS: tuple[Literal[1, 2], ...] = (1, 2)
EXPORTS = [AudioExport(codec, channels) for codec, channels in product(AudioCodec, CHANNELS)]
PACKET = 1024 / 48_000


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> list[TakeMedia]:
    """Two takes: of the first 3.25 s belong to the recording, of the second 3.75 s."""
    directory = tmp_path_factory.mktemp("takes")
    return [
        TakeMedia(make_take(directory / "take-000.m4a", 3.4, 7.1), end_us=6_650_000),
        TakeMedia(make_take(directory / "take-001.m4a", 2.25, 6.0)),
    ]


@pytest.mark.parametrize("export", EXPORTS, ids=str)
def test_sound_should_begin_at_its_first_sample_and_go_on_at_a_joint(
    takes: list[TakeMedia], tmp_path: Path, export: AudioExport
) -> None:
    target = tmp_path / f"out{export.codec.suffix}"
    result = cut_audio(takes, target, export)
    assert (result.path, result.takes, result.frames, result.lost) == (target, 2, 0, 0)
    assert 7 <= result.duration_us / 1e6 < 7 + 2 * PACKET
    heard = played(target)
    assert heard.shape[1] / 48_000 == pytest.approx(result.duration_us / 1e6, abs=PACKET)
    assert probe(target).duration_us == pytest.approx(result.duration_us, abs=PACKET * 1e6)
    first, second = beeps(heard)[:3], beeps(heard)[3:]
    assert first == pytest.approx([0.6, 1.6, 2.6], abs=0.001)
    joint = second[0] - 0.75
    assert 3.25 <= joint < 3.25 + PACKET
    assert second == pytest.approx([joint + 0.75, joint + 1.75, joint + 2.75], abs=0.001)
    assert [file.name for file in tmp_path.iterdir()] == [target.name]


def test_packets_should_follow_each_other_without_a_gap(takes: list[TakeMedia], tmp_path: Path) -> None:
    cut_audio(takes, tmp_path / "out.m4a", AudioExport())
    with av.open(str(tmp_path / "out.m4a")) as source:
        starts = [packet.pts for packet in source.demux(source.streams.audio[0]) if packet.pts is not None]
    assert starts == list(range(-1024, 1024 * (len(starts) - 1), 1024))


@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_take_that_broke_off_should_give_what_is_whole(
    takes: list[TakeMedia], tmp_path: Path, share: float
) -> None:
    data = takes[0].path.read_bytes()
    broken = tmp_path / "take-000.m4a"
    broken.write_bytes(data[: data.rindex(b"mdat", 0, round(len(data) * share)) + 1000])
    result = cut_audio([TakeMedia(broken)], tmp_path / "out.m4a", AudioExport())
    # A beep takes more bytes than silence.
    assert result.duration_us / 1e6 > 3.7 * share - 0.7
    heard = played(tmp_path / "out.m4a")
    assert heard.shape[1] / 48_000 == pytest.approx(result.duration_us / 1e6, abs=PACKET)


def test_take_without_sound_should_be_left_out(takes: list[TakeMedia], tmp_path: Path) -> None:
    empty, garbage = tmp_path / "take-000.m4a", tmp_path / "take-002.m4a"
    empty.touch()
    garbage.write_bytes(b"\0" * 5000)
    ended_at_once = TakeMedia(takes[0].path, end_us=3_390_000)
    result = cut_audio(
        [TakeMedia(empty), ended_at_once, takes[1], TakeMedia(garbage)], tmp_path / "out.m4a", AudioExport()
    )
    assert result.takes == 1
    assert beeps(played(tmp_path / "out.m4a")) == pytest.approx([0.75, 1.75, 2.75], abs=0.001)


@pytest.mark.parametrize("export", EXPORTS, ids=str)
def test_nothing_to_join_should_be_an_error_and_leave_no_file(tmp_path: Path, export: AudioExport) -> None:
    (tmp_path / "take-000.m4a").touch()
    with pytest.raises(CutError, match="no whole sound"):
        cut_audio([TakeMedia(tmp_path / "take-000.m4a")], tmp_path / "out", export)
    assert [file.name for file in tmp_path.iterdir()] == ["take-000.m4a"]
