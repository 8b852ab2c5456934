"""Exports the audio of a finished recording to a file of its own, aligned with the recording.

Each sound lies where it lies in the recording. What an encoder needs before the first sample is told in the
file, and players leave it out: in MP4 it is an edit list, in MP3 LAME's part of the Info header.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
from av.audio import AudioStream
from av.audio.frame import AudioFrame
from av.container import InputContainer, OutputContainer
from av.filter import Graph

from recording_farm.encoder.errors import NothingRecordedError
from recording_farm.encoder.formats import AAC_FRAME_SAMPLES, SAMPLE_RATE, AudioCodec, AudioExport
from recording_farm.encoder.media.atomic_media import atomic_media
from recording_farm.encoder.media.packets import Packet, samples_of, whole_packets


@dataclass(frozen=True)
class _Way:
    """How a codec is encoded and written; `channel_bitrate` is in bits per second of each channel."""

    encoder: Literal["aac", "libmp3lame"]
    encoder_options: dict[str, str]
    channel_bitrate: int
    muxer: str
    muxer_options: dict[str, str]


WAYS = {
    # As the takes have it; the index at the front, so that a player can begin before it has the whole file.
    AudioCodec.AAC: _Way("aac", {}, 64_000, "ipod", {"movflags": "faststart"}),
    # LAME's default takes half as much time again (measured: 11.3 to 7.8 s for 5 minutes of noise).
    AudioCodec.MP3: _Way("libmp3lame", {"compression_level": "7"}, 96_000, "mp3", {}),
}
METADATA = "title", "creation_time"
LAYOUTS = {1: "mono", 2: "stereo"}
MONO = "mono|c0=0.5*c0+0.5*c1"
ALIGNMENT = f"{SAMPLE_RATE}:async=1:first_pts=0:min_comp=0:min_hard_comp=0.01"
"""Silence goes where there is no sound, before the first one and in gaps of 10 ms and more: smaller ones are
the rounding of times in a WebM, to 1 ms."""


def export_audio(recording: Path, target: Path, export: AudioExport) -> None:
    """Make `target`, which appears only when it is complete, of the sound of a finished recording.

    It has the recording's title and time of creation. AAC in the wanted channels is copied, anything else
    decoded and encoded once. Raises CutError when the recording has no sound or cannot be read, or `target`
    cannot be written.
    """
    with (
        atomic_media(target) as partial,
        # As a file object, so that a disk that fails is not taken for the file's end.
        recording.open("rb") as file,
        av.open(file, "r") as source,
        open_audio(partial, export.codec) as output,
    ):
        if not source.streams.audio:
            raise NothingRecordedError(f"{recording} has no sound")
        output.metadata.update({key: source.metadata[key] for key in METADATA if key in source.metadata})
        sound = source.streams.audio[0]
        if export.codec is AudioCodec.AAC and sound.name == "aac" and sound.channels == export.channels:
            _copy(source, sound, output)
        else:
            _encode(source, sound, output, export)


def open_audio(file: Path, codec: AudioCodec) -> OutputContainer:
    """Begin a file with sound alone. Raises av.FFmpegError when it cannot be written."""
    way = WAYS[codec]
    return av.open(str(file), "w", format=way.muxer, options=way.muxer_options)


def _copy(source: InputContainer, sound: AudioStream, output: OutputContainer) -> None:
    stream = output.add_stream_from_template(sound)
    for packet in _from_zero(whole_packets(source, sound)):
        packet.stream = stream
        output.mux(packet)


def _from_zero(packets: Iterator[Packet]) -> Iterator[Packet]:
    """The packets, behind as many of silence as it takes for the file to begin at zero or before.

    What lies before zero players leave out. A sound that begins later some of them move to zero, as ffmpeg
    does when it converts.
    """
    first = next(packets, None)
    if first is None:
        raise NothingRecordedError("there is no sound in it")
    begin = samples_of(first)
    silence = _silence()
    for number in range(-(-begin // AAC_FRAME_SAMPLES), 0, -1):
        packet = av.Packet(silence)
        packet.time_base = Fraction(1, SAMPLE_RATE)
        packet.pts = packet.dts = begin - number * AAC_FRAME_SAMPLES
        packet.duration = AAC_FRAME_SAMPLES
        yield packet
    yield first
    yield from packets


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


def _encode(source: InputContainer, sound: AudioStream, output: OutputContainer, export: AudioExport) -> None:
    way = WAYS[export.codec]
    stream = output.add_stream(
        way.encoder,
        rate=SAMPLE_RATE,
        options=way.encoder_options,
        layout=LAYOUTS[export.channels],
        bit_rate=way.channel_bitrate * export.channels,
    )
    graph = _graph(sound, export)
    for frame in source.decode(sound):
        graph.push(frame)
        for aligned in _pulled(graph):
            output.mux(stream.encode(aligned))
    graph.push(None)
    for aligned in _pulled(graph):
        output.mux(stream.encode(aligned))
    output.mux(stream.encode(None))


def _graph(sound: AudioStream, export: AudioExport) -> Graph:
    """The filter that puts decoded audio at its time and into the requested channels."""
    graph = Graph()
    nodes = [
        graph.add_abuffer(template=sound),
        graph.add("aresample", ALIGNMENT),
    ]
    if export.channels == 1:
        nodes.append(graph.add("pan", MONO))
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
