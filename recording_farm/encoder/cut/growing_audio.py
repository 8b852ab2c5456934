"""An audio file that grows with the audio packets of a recording, aligned with the recording.

Each sound has the same time as in the recording. The file says how much of its beginning is the encoder's
delay, which players skip: in MP4 by an edit list, in MP3 by LAME's part of the Info header. At the end only
the samples that the encoder still holds, and the head, are missing.
"""

import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO, Final, Literal

import av
from av.audio import AudioStream
from av.audio.frame import AudioFrame
from av.filter import Graph

from recording_farm.encoder.atomic_file import put_in_place
from recording_farm.encoder.cut.put_in_front import BLOCK_BYTES, COPIED_BYTES, put_in_front
from recording_farm.encoder.errors import NothingRecordedError
from recording_farm.encoder.formats import AAC_FRAME_SAMPLES, SAMPLE_RATE, AudioCodec, AudioExport, Format
from recording_farm.encoder.media.packets import Packet, samples_of
from recording_farm.encoder.mux import mp4
from recording_farm.encoder.mux.body import BODY_NAME, CHECKSUMS_NAME, LOG_NAME, Body, scales_of
from recording_farm.encoder.mux.checksums import BodyChecksums, GrowingChecksums
from recording_farm.encoder.mux.padding import NO_PADDING, Padding
from recording_farm.encoder.mux.samples import Kind, Sample, read_entries


@dataclass(frozen=True)
class _Way:
    """Encoder and container of a codec; `channel_bitrate` is in bits per second of each channel."""

    encoder: Literal["aac", "libmp3lame"]
    encoder_options: dict[str, str]
    channel_bitrate: int


_WAYS: Final = {
    # The same as in the takes.
    AudioCodec.AAC: _Way("aac", {}, 64_000),
    # LAME's default takes half as much time again (measured: 11.3 to 7.8 s for 5 minutes of noise).
    AudioCodec.MP3: _Way("libmp3lame", {"compression_level": "7"}, 96_000),
}
_LAYOUTS: Final = {1: "mono", 2: "stereo"}
_MONO: Final = "mono|c0=0.5*c0+0.5*c1"
_ALIGNMENT: Final = f"{SAMPLE_RATE}:async=1:first_pts=0:min_comp=0:min_hard_comp=0.01"
"""Gaps from 10 ms on, and the time before the first sound, are filled with silence. Smaller gaps come from
times in a WebM, which are rounded to 1 ms."""

_FORMAT: Final = Format(audio_only=AudioExport())
"""The format of the body of an MP4."""

MP3_HEAD_BYTES: Final = 64 << 10
"""The beginning of an MP3 that contains its tag and the Info header, which is written at the end."""


@dataclass(frozen=True)
class GrownFile:
    """A finished file, with the checksums of its `body`, which follows the head and has this `identity`."""

    path: Path
    body: BodyChecksums
    identity: str


class GrowingAudio:
    """The audio of a recording in a file of its own; use it as a context manager.

    The first `body_size` bytes of its body are final.
    """

    def __init__(
        self, directory: Path, sound: AudioStream, export: AudioExport, metadata: Mapping[str, str]
    ) -> None:
        """Begin with the packets of `sound`, whose container stays open. Deletes the content of `directory`.

        AAC in the wanted channels is copied, anything else decoded and encoded once. Raises OSError,
        av.FFmpegError.
        """
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        self.identity = token_hex(8)
        self._opened = ExitStack()
        self._sound = sound
        self._file: _Mp4 | _Mp3 = (_Mp4 if export.codec is AudioCodec.AAC else _Mp3)(directory, metadata)
        self._opened.callback(self._file.close)
        self._has_sound = False
        is_copied = export.codec is AudioCodec.AAC and (sound.name, sound.channels) == (
            "aac",
            export.channels,
        )
        if is_copied:
            self._encoder = None
            self._file.add_track(self._file.output.add_stream_from_template(sound))
        else:
            self._encoder = _Encoder(sound, self._file.output, export)
            self._file.add_track(self._encoder.stream)

    def __enter__(self) -> "GrowingAudio":
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._opened.close()

    @property
    def body(self) -> tuple[Path, int]:
        """The file that contains the body, and the offset of the body in it."""
        return self._file.body

    @property
    def body_size(self) -> int:
        """See the class."""
        return self._file.body_size

    def add(self, packet: Packet) -> None:
        """Append a packet. Raises OSError, av.FFmpegError."""
        if self._encoder is not None:
            for encoded in self._encoder.encode(packet):
                self._file.add(encoded)
        else:
            if not self._has_sound:
                for silence in _silence_before(packet):
                    self._file.add(silence)
            self._file.add(packet)
        self._has_sound = True

    def finish(self, target: Path) -> GrownFile:
        """Finish the file, and move it to `target`. Raises NothingRecordedError, OSError, av.FFmpegError."""
        if not self._has_sound:
            raise NothingRecordedError("there is no sound in it")
        if self._encoder is not None:
            for encoded in self._encoder.flush():
                self._file.add(encoded)
        body = self._file.finish(target)
        return GrownFile(target, body, self.identity)


class _Encoder:
    """Decodes packets, converts the audio to its times and the wanted channels, and encodes it."""

    def __init__(self, sound: AudioStream, output: Any, export: AudioExport) -> None:
        way = _WAYS[export.codec]
        self._decoder = sound.codec_context
        self.stream = output.add_stream(
            way.encoder,
            rate=SAMPLE_RATE,
            options=way.encoder_options,
            layout=_LAYOUTS[export.channels],
            bit_rate=way.channel_bitrate * export.channels,
        )
        self._graph = _graph(sound, export)

    def encode(self, packet: Packet) -> Iterator[Packet]:
        """The encoded packets of one more packet."""
        yield from self._encoded(self._decoder.decode(packet))

    def flush(self) -> Iterator[Packet]:
        """The encoded packets that are still held."""
        yield from self._encoded(self._decoder.decode(None))
        yield from self._encoded([None])
        yield from self.stream.encode(None)

    def _encoded(self, frames: Sequence[AudioFrame | None]) -> Iterator[Packet]:
        for frame in frames:
            self._graph.push(frame)
            for aligned in _pulled(self._graph):
                yield from self.stream.encode(aligned)


class _Mp4:
    """AAC in MP4, with its index in front so that a player can begin before it has the whole file."""

    def __init__(self, directory: Path, metadata: Mapping[str, str]) -> None:
        self._directory = directory
        self._head = io.BytesIO()
        # It gets the first packet; all of its head but the tables is kept.
        self.output = av.open(self._head, "w", format="ipod")
        self.output.metadata.update(metadata)
        self._body = Body(directory, _FORMAT)
        self._track: Any = None
        self._last_duration: int | None = None

    def add_track(self, track: Any) -> None:
        self._track = track

    @property
    def body(self) -> tuple[Path, int]:
        return self._directory / BODY_NAME, 0

    @property
    def body_size(self) -> int:
        return self._body.size

    def add(self, packet: Packet) -> None:
        sample = Sample(Kind.AUDIO, samples_of(packet), True, bytes(packet))
        if self._body.begins_group(sample):
            self._body.flush()
        self._body.add(sample)
        duration = round(packet.duration * packet.time_base * SAMPLE_RATE) if packet.duration else 0
        if self._last_duration is None:
            packet.stream = self._track
            self.output.mux(packet)
        self._last_duration = duration or AAC_FRAME_SAMPLES

    def finish(self, target: Path) -> BodyChecksums:
        self._body.flush()
        self._body.sync()
        self.output.close()
        entries = read_entries(self._directory / LOG_NAME)
        tracks = mp4.Mp4Tracks(
            {Kind.AUDIO: scales_of(_FORMAT)[Kind.AUDIO]},
            {Kind.AUDIO: self._last_duration or AAC_FRAME_SAMPLES},
        )
        size = self._body.size
        padding = Padding(BLOCK_BYTES) if size > COPIED_BYTES else NO_PADDING
        head = mp4.head(self._head.getvalue(), entries, size, tracks, padding)
        put_in_front(head, self._directory / BODY_NAME, target)
        return self._body.checksums.result()

    def close(self) -> None:
        self._body.close()
        self.output.close()


class _Mp3:
    """MP3, whose Info header libav writes at the end, into a place it has reserved at the beginning."""

    def __init__(self, directory: Path, metadata: Mapping[str, str]) -> None:
        self._path = directory / BODY_NAME
        self._opened = ExitStack()
        self._checksums = GrowingChecksums(directory / CHECKSUMS_NAME)
        self._opened.callback(self._checksums.close)
        self._file = _BehindHead(self._opened.enter_context(self._path.open("xb")), self._checksums)
        self.output = av.open(self._file, "w", format="mp3")
        self._opened.callback(self.output.close)
        self.output.metadata.update(metadata)
        self._track: Any = None

    def add_track(self, track: Any) -> None:
        self._track = track

    @property
    def body(self) -> tuple[Path, int]:
        return self._path, MP3_HEAD_BYTES

    @property
    def body_size(self) -> int:
        return max(0, self._file.size - MP3_HEAD_BYTES)

    def add(self, packet: Packet) -> None:
        packet.stream = self._track
        self.output.mux(packet)

    def finish(self, target: Path) -> BodyChecksums:
        self.output.close()
        put_in_place(self._path, target)
        return self._checksums.result()

    def close(self) -> None:
        self._opened.close()


class _BehindHead:
    """A file for libav, which rewrites its head only, with checksums of the rest."""

    def __init__(self, file: BinaryIO, checksums: GrowingChecksums) -> None:
        self._file = file
        self._checksums = checksums
        self.size = 0

    def write(self, data: bytes) -> int:
        begin = self._file.tell()
        end = begin + len(data)
        if begin < self.size and end > MP3_HEAD_BYTES:
            raise OSError("libav writes into the body again")
        self._file.write(data)
        self._file.flush()
        if end > MP3_HEAD_BYTES:
            self._checksums.update(bytes(data[max(0, MP3_HEAD_BYTES - begin) :]))
        self.size = max(self.size, end)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _silence_before(first: Packet) -> Iterator[Packet]:
    """The packets of silence with which the file begins at zero or before.

    Players skip everything before zero. If the audio began later, some players would move it to zero, and so
    does ffmpeg when it converts.
    """
    begin = samples_of(first)
    silence = _silence()
    for number in range(-(-begin // AAC_FRAME_SAMPLES), 0, -1):
        packet = av.Packet(silence)
        packet.time_base = Fraction(1, SAMPLE_RATE)
        packet.pts = packet.dts = begin - number * AAC_FRAME_SAMPLES
        packet.duration = AAC_FRAME_SAMPLES
        yield packet


def _silence() -> bytes:
    """A packet of AAC that is silence in stereo."""
    encoder = av.AudioCodecContext.create("aac", "w")
    encoder.format, encoder.layout, encoder.sample_rate = "fltp", "stereo", SAMPLE_RATE
    frame = AudioFrame("fltp", "stereo", AAC_FRAME_SAMPLES)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    frame.sample_rate = SAMPLE_RATE
    packet, *_ = [*encoder.encode(frame), *encoder.encode(None)]
    return bytes(packet)


def _graph(sound: AudioStream, export: AudioExport) -> Graph:
    """The filter that puts decoded audio at its time and into the requested channels."""
    graph = Graph()
    nodes = [
        graph.add_abuffer(template=sound),
        graph.add("aresample", _ALIGNMENT),
    ]
    if export.channels == 1:
        nodes.append(graph.add("pan", _MONO))
    nodes.append(graph.add("abuffersink"))
    graph.link_nodes(*nodes).configure()
    return graph


def _pulled(graph: Graph) -> Iterator[AudioFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(frame, AudioFrame)
        yield frame
