"""The cut of an audio recording: the audio of its takes joined (without encoding again) into one file.

The first packet of a take is AAC's priming: it decodes to the silence before the sound, and the packet after
it cannot be decoded without it. In the file the first take keeps it, before time zero, where the edit list
has it left out. At a joint the last packet of the take before stands in for it, so one take fades into
the other over one packet, and the audio continues without a gap.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer

from recording_farm.encoder.cut.audio_export import export_audio, open_audio
from recording_farm.encoder.cut.cut import CutFile, TakeJoint, TakeMedia, file_metadata
from recording_farm.encoder.errors import NothingRecordedError
from recording_farm.encoder.formats import AAC_FRAME_SAMPLES, SAMPLE_RATE, AudioCodec, AudioExport
from recording_farm.encoder.media.atomic_media import atomic_media
from recording_farm.encoder.media.packets import Packet, samples_of, time_of, whole_packets
from recording_farm.encoder.media.partial_file import open_take

logger = logging.getLogger(__name__)

AS_TAKEN = AudioExport(AudioCodec.AAC, channels=2)


def cut_audio(
    takes: Sequence[TakeMedia], target: Path, export: AudioExport, title: str | None = None
) -> CutFile:
    """Join `takes`, in order, into `target`, which appears only when it is complete.

    The file says when the first of them began, and its `title`. Takes without sound are left out. Raises
    NothingRecordedError when nothing is left, CutError when the disk fails.
    """
    heard = [take for take in takes if _has_audio(take)]
    if not heard:
        raise NothingRecordedError(f"there is no whole sound in any of the {len(takes)} takes")
    if export == AS_TAKEN:
        return _join(heard, target, title)
    joined = target.with_name(f".{target.name}.joined")
    try:
        result = _join(heard, joined, title)
        export_audio(joined, target, export)
    finally:
        joined.unlink(missing_ok=True)
    return replace(result, path=target)


def _join(takes: Sequence[TakeMedia], target: Path, title: str | None) -> CutFile:
    with atomic_media(target) as partial, open_audio(partial, AudioCodec.AAC) as output:
        output.metadata.update(file_metadata(takes[0], title))
        writer = _Writer(output)
        joints = []
        for take in takes:
            start = writer.end
            with open_take(take.path) as source:
                offset = writer.add(source, take.end_us)
            joints.append(
                TakeJoint(take.number, _in(offset, 10**6), _in(start, 10**9), _in(writer.end, 10**9))
            )
    return CutFile(
        *(target, _in(writer.end, 10**6)),
        frames=0,
        lost=0,
        crowded=0,
        takes=len(takes),
        joints=tuple(joints),
    )


def _in(samples: int, units: int) -> int:
    """A time in samples in other units, of which a second has so many."""
    return samples * units // SAMPLE_RATE


class _Writer:
    """Writes takes one behind the other, and knows where the sound ends so far (samples, file's time)."""

    def __init__(self, output: OutputContainer) -> None:
        self._output = output
        self._stream: Any = None
        self.end = 0

    def add(self, source: InputContainer, end_us: int | None) -> int:
        """Append one take, up to `end_us` of its own time; returns the offset of its times, in samples."""
        packets = whole_packets(source)
        priming = next(packets)
        offset = self.end - samples_of(priming) - AAC_FRAME_SAMPLES
        if self._stream is None:
            self._stream = self._output.add_stream_from_template(source.streams.audio[0])
            self._write(priming, offset)
        for packet in packets:
            if end_us is not None and time_of(packet) >= end_us:
                break
            self._write(packet, offset)
        return offset

    def _write(self, packet: Packet, offset: int) -> None:
        pts = samples_of(packet) + offset
        self.end = pts + AAC_FRAME_SAMPLES
        packet.stream = self._stream
        packet.time_base = Fraction(1, SAMPLE_RATE)
        packet.pts = packet.dts = pts
        self._output.mux(packet)


def _has_audio(take: TakeMedia) -> bool:
    try:
        with open_take(take.path) as source:
            sound = list(islice(whole_packets(source), 1, 2))
    except av.FFmpegError as error:
        logger.warning("take %s is broken and is left out: %s", take.path.name, error.strerror)
        return False
    return any(take.end_us is None or time_of(packet) < take.end_us for packet in sound)
