"""Small files by libav that describe the tracks of a file.

`save_streams` keeps the tracks of a take beside the growing body, so that no take is needed at the end.
`make_template` writes the file whose head `mp4` and `webm` complete.
"""

import io
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Final

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.stream import Disposition, Stream

from recording_farm.encoder.formats import FRAME_TICKS, SAMPLE_RATE, Format
from recording_farm.encoder.mux.body import is_webm, scales_of
from recording_farm.encoder.mux.samples import Entries, Kind

_KINDS: Final = {"video": Kind.VIDEO, "audio": Kind.AUDIO}


def save_streams(source: InputContainer, file: Path, fmt: Format) -> None:
    """Keep the tracks of a take in `file`. Raises OSError, av.FFmpegError."""
    streams = [*source.streams.video, *source.streams.audio]
    entries = {_KINDS[stream.type]: (0, 1) for stream in streams}
    draft = file.with_name(f"{file.name}.part")
    draft.write_bytes(_written(streams, entries, fmt, {}))
    draft.replace(file)


def make_template(kept: BinaryIO, entries: Entries, fmt: Format, metadata: Mapping[str, str]) -> bytes:
    """A file with the first sample of each track, of the tracks that were `kept`, and with `metadata`.

    Raises av.FFmpegError, OSError.
    """
    firsts = {}
    for kind in (Kind.VIDEO, Kind.AUDIO):
        places = np.flatnonzero(entries["kind"] == kind)
        if len(places):
            first = entries[places[0]]
            firsts[kind] = int(first["pts"]), int(first["size"])
    with av.open(kept, "r") as source:
        streams = [
            stream
            for stream in (*source.streams.video, *source.streams.audio)
            if _KINDS[stream.type] in firsts
        ]
        return _written(streams, firsts, fmt, metadata)


def _written(
    streams: list[Stream],
    firsts: Mapping[Kind, tuple[int, int]],
    fmt: Format,
    metadata: Mapping[str, str],
) -> bytes:
    file = io.BytesIO()
    # The same content gives the same file, without random ids.
    options = {"fflags": "+bitexact"}
    with av.open(file, "w", format=_muxer(fmt), options=options) as output:
        output.metadata.update(metadata)
        added = {_KINDS[stream.type]: _added(output, stream, fmt) for stream in streams}
        scales = scales_of(fmt)
        for kind, stream in added.items():
            pts, size = firsts[kind]
            packet: Any = av.Packet(bytes(max(size, 1)))
            packet.stream = stream
            packet.time_base = Fraction(1, scales[kind])
            packet.pts = packet.dts = pts
            packet.duration = _duration(kind, fmt)
            packet.is_keyframe = True
            output.mux(packet)
    return file.getvalue()


def _muxer(fmt: Format) -> str:
    if is_webm(fmt):
        return "webm"
    return "mp4" if fmt.audio_only is None else "ipod"


def _added(output: OutputContainer, template: Stream, fmt: Format) -> Any:
    stream: Any = output.add_stream_from_template(template)
    stream.disposition = Disposition.default
    if template.type == "video":
        stream.time_base = Fraction(1, fmt.timescale)
        # In WebM it is the DefaultDuration.
        stream.codec_context.framerate = fmt.fps
        # libav does not copy it from file to file.
        stream.codec_context.sample_aspect_ratio = 1
    return stream


def _duration(kind: Kind, fmt: Format) -> int:
    """The duration of a sample in the units of its track."""
    if kind is Kind.VIDEO:
        return round(FRAME_TICKS * scales_of(fmt)[kind] / fmt.timescale)
    return fmt.codec.audio_frame_samples * scales_of(fmt)[kind] // SAMPLE_RATE


def last_durations(fmt: Format) -> dict[Kind, int]:
    """How long the last sample of each track is, in the units of the track."""
    return {kind: _duration(kind, fmt) for kind in scales_of(fmt)}
