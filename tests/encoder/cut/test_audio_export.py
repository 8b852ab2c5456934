"""Files with sound alone, held against the sound of the recordings they are of, joined from two takes."""

from itertools import product
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pytest

from recording_farm.encoder.cut.audio_export import export_audio
from recording_farm.encoder.cut.cut import cut
from recording_farm.encoder.cut.joiner import TakeMedia
from recording_farm.encoder.errors import CutError
from recording_farm.encoder.formats import AudioCodec, AudioExport, Codec, Format
from recording_farm.encoder.media.probe import probe
from testkit.encoder.beeps import beeps, make_take, played, shown

CHANNELS: tuple[Literal[1, 2], ...] = (1, 2)
EXPORTS = [AudioExport(codec, channels) for codec, channels in product(AudioCodec, CHANNELS)]
PACKET = 0.024


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[Codec, Path]:
    """A recording in each format; the first sound in it begins somewhere in its first packet's length."""
    made = {}
    for codec in Codec:
        directory = tmp_path_factory.mktemp(codec.value)
        first, second = (directory / f"take-{number}{codec.suffix}" for number in range(2))
        takes = [
            TakeMedia(make_take(first, 3.4, 7.1, picture_from=3.5)),
            TakeMedia(make_take(second, 2.25, 6.0, picture_from=2.35)),
        ]
        made[codec] = directory / f"recording{codec.suffix}"
        cut(takes, made[codec], Format(codec, 160, 90))
    return made


@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("export", EXPORTS, ids=str)
def test_beeps_should_lie_where_they_lie_in_the_recording(
    recordings: dict[Codec, Path], tmp_path: Path, codec: Codec, export: AudioExport
) -> None:
    target = tmp_path / f"sound{export.codec.suffix}"
    export_audio(recordings[codec], target, export)
    wanted, heard = shown(recordings[codec]), played(target)
    assert len(beeps(wanted)) == 7
    assert beeps(heard) == pytest.approx(beeps(wanted), abs=0.001)
    (stream,) = probe(target).streams
    assert (stream.codec, stream.channels) == (export.codec.value.lower(), export.channels)
    length = probe(recordings[codec]).duration_us / 1e6
    assert heard.shape[1] / 48_000 == pytest.approx(length, abs=PACKET)
    assert probe(target).duration_us / 1e6 == pytest.approx(length, abs=PACKET)
    assert [file.name for file in tmp_path.iterdir()] == [target.name]


def test_aac_that_stays_aac_should_be_copied(recordings: dict[Codec, Path], tmp_path: Path) -> None:
    target = tmp_path / "sound.m4a"
    export_audio(recordings[Codec.H264], target, AudioExport())
    packets = []
    for file in (recordings[Codec.H264], target):
        with av.open(str(file)) as source:
            packets.append([bytes(packet) for packet in source.demux(source.streams.audio[0]) if packet.size])
    recorded, copied = packets
    assert copied[-len(recorded) :] == recorded
    assert len(copied) <= len(recorded) + 1


def test_sound_should_lie_at_the_sample_where_it_lies_in_the_recording(
    recordings: dict[Codec, Path], tmp_path: Path
) -> None:
    target = tmp_path / "sound.m4a"
    export_audio(recordings[Codec.H264], target, AudioExport())
    wanted, heard = shown(recordings[Codec.H264]), played(target)
    assert np.abs(wanted[:, 2048:100_000] - heard[:, 2048:100_000]).max() < 1e-4


def test_mono_should_have_half_of_each_side(recordings: dict[Codec, Path], tmp_path: Path) -> None:
    target = tmp_path / "sound.m4a"
    export_audio(recordings[Codec.H264], target, AudioExport(channels=1))
    wanted = shown(recordings[Codec.H264]).mean(axis=0)
    (heard,) = played(target, channels=1)
    beep = slice(round(beeps(played(target))[2] * 48_000) + 300, None)
    assert np.abs(heard[beep][:960]).max() == pytest.approx(np.abs(wanted[beep][:960]).max(), rel=0.1)
    assert np.abs(heard).max() < 0.8


def test_index_should_be_at_the_front_of_an_m4a(recordings: dict[Codec, Path], tmp_path: Path) -> None:
    export_audio(recordings[Codec.VP8], tmp_path / "sound.m4a", AudioExport())
    head = (tmp_path / "sound.m4a").read_bytes()
    assert head[4:12] == b"ftypM4A "
    assert head.index(b"moov") < head.index(b"mdat")


def test_mp3_should_tell_the_encoders_delay_at_the_front(
    recordings: dict[Codec, Path], tmp_path: Path
) -> None:
    export_audio(recordings[Codec.H264], tmp_path / "sound.mp3", AudioExport(AudioCodec.MP3))
    head = (tmp_path / "sound.mp3").read_bytes()[:1000]
    info = head.index(b"Info")
    # Tag, flags, frames, bytes, seek table and quality have 120 bytes; LAME's part has the delay at its 21st.
    assert head[info + 120 : info + 124] == b"Lavf"
    assert int.from_bytes(head[info + 141 : info + 144], "big") >> 12 == 576


@pytest.mark.parametrize("kind", ["garbage", "silent film"])
@pytest.mark.parametrize("export", EXPORTS, ids=str)
def test_recording_without_sound_should_be_an_error_and_leave_no_file(
    tmp_path: Path, kind: str, export: AudioExport
) -> None:
    recording = tmp_path / "recording.mp4"
    if kind == "garbage":
        recording.write_bytes(b"\0" * 5000)
    else:
        with av.open(str(recording), "w") as output:
            stream = output.add_stream("libx264", rate=30, width=160, height=90, pix_fmt="yuv420p")
            output.mux(stream.encode(av.VideoFrame(160, 90, "yuv420p")))
            output.mux(stream.encode(None))
    with pytest.raises(CutError):
        export_audio(recording, tmp_path / f"sound{export.codec.suffix}", export)
    assert [file.name for file in tmp_path.iterdir()] == ["recording.mp4"]


def test_target_that_cannot_be_written_should_be_an_error(
    recordings: dict[Codec, Path], tmp_path: Path
) -> None:
    with pytest.raises(CutError, match="could not be made"):
        export_audio(recordings[Codec.H264], tmp_path / "nowhere" / "sound.m4a", AudioExport())
