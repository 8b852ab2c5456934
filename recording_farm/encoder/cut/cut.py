"""The cut: concatenates the takes of a recording into one finished file, without re-encoding."""

import logging
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.stream import Disposition, Stream

from recording_farm.encoder.cut.joints import MAX_DROPPED, FrameGrid, Joint, first_joint, next_joint
from recording_farm.encoder.errors import NothingRecordedError
from recording_farm.encoder.formats import FRAME_TICKS, SAMPLE_RATE, Codec, Format
from recording_farm.encoder.journal import Lag, lag_at
from recording_farm.encoder.media.atomic_media import atomic_media
from recording_farm.encoder.media.packets import Packet, time_of, whole_packets
from recording_farm.encoder.media.partial_file import open_take

logger = logging.getLogger(__name__)

HEAD_PACKETS = 200
"""Packets in which to look for a take's first frame and the audio around it."""

OPUS_DELAY_US = 6_500
"""libopus looks 312 samples of 48 kHz ahead."""

MUXER_OPTIONS = {
    # The index at the front, so that a player can start before it has the whole file.
    Codec.H264: {"movflags": "faststart"},
    # The cues at the front for the same reason, in reserved space.
    Codec.VP8: {"cues_to_front": "1"},
}


@dataclass(frozen=True)
class TakeMedia:
    """A take's file, the lags of its frames behind their time, and its end (µs).

    The lags are subtracted from the times of the frames: the file then changes when the page changed for
    people, not when it was grabbed. Frames grabbed from `end_us` on are left out; None keeps all. `number`
    finds the take in the file's `joints`. Times are the clock's except for `stretch`, see `Format.stretch`.
    The take began at `began_us` (unix, µs); None if that is unknown.
    """

    path: Path
    lags: tuple[Lag, ...] = ()
    end_us: int | None = None
    number: int | None = None
    stretch: Fraction = Fraction(1)
    began_us: int | None = None


@dataclass(frozen=True)
class TakeJoint:
    """Where a take is in a finished file: from `start_ns` to `end_ns`, with so many frames.

    `offset` is added to the take's own times, in µs. `lost` frames are missing between its frames.
    """

    take: int | None
    offset: int
    start_ns: int = 0
    end_ns: int = 0
    frames: int = 0
    lost: int = 0


@dataclass(frozen=True)
class CutFile:
    """A finished file with its frames, lost frames, and frames that came too close together."""

    path: Path
    duration_us: int
    frames: int
    lost: int
    crowded: int
    takes: int
    joints: tuple[TakeJoint, ...] = ()


@dataclass(frozen=True)
class _Head:
    """The start of a take, in µs of its own clock, and the delay missing in its audio stamps."""

    video_first: int
    sound_times: list[int]
    sound_delay: int


def cut(takes: Sequence[TakeMedia], target: Path, fmt: Format, title: str | None = None) -> CutFile:
    """Join `takes`, in order, into `target`, which appears only when it is complete.

    The file contains the start time of the first take and the `title`. Takes without a whole frame are left
    out. Raises NothingRecordedError when nothing is left, CutError when the disk fails.
    """
    heads = [(take, head) for take in takes if (head := _read_head(take)) is not None]
    if not heads:
        raise NothingRecordedError(f"there is no whole frame in any of the {len(takes)} takes")
    with (
        atomic_media(target) as partial,
        av.open(
            str(partial),
            "w",
            format="mp4" if fmt.codec is Codec.H264 else "webm",
            options=MUXER_OPTIONS[fmt.codec],
        ) as output,
    ):
        output.metadata.update(file_metadata(heads[0][0], title))
        return _join(heads, output, fmt, target)


def _join(
    heads: list[tuple[TakeMedia, _Head]], output: OutputContainer, fmt: Format, target: Path
) -> CutFile:
    writer = _Writer(output, fmt)
    for take, head in heads:
        with open_take(take.path) as source:
            writer.add(source, head, take)
    writer.close()
    return CutFile(
        *(target, writer.video_end_us, writer.frames, writer.lost, writer.crowded, len(heads)),
        tuple(writer.joints),
    )


def file_metadata(first: TakeMedia, title: str | None) -> dict[str, str]:
    """The metadata of a file: its title, and the start time of its first take."""
    metadata = {} if title is None else {"title": title}
    if first.began_us is not None:
        began = datetime.fromtimestamp(first.began_us // 1_000_000, UTC)
        metadata["creation_time"] = began.replace(microsecond=first.began_us % 1_000_000).isoformat()
    return metadata


@dataclass(frozen=True)
class _Placed:
    """A packet and where it lies in the file: from `pts` to `end`, in units of `base`."""

    packet: Packet
    kind: str
    pts: int
    end: int
    base: Fraction

    @property
    def begin_us(self) -> Fraction:
        return self.pts * self.base * 1_000_000

    @property
    def end_us(self) -> Fraction:
        return self.end * self.base * 1_000_000


class _Writer:
    """Writes takes one behind the other.

    The last frames are held, and the sound from them on, because the next take may leave them out.
    """

    def __init__(self, output: OutputContainer, fmt: Format) -> None:
        self._output = output
        self._format = fmt
        self._tick = Fraction(1, fmt.timescale)
        self._streams: dict[str, Any] = {}
        self._frames: deque[_Placed] = deque()
        self._sound: deque[_Placed] = deque()
        # The end of the written packets.
        self._sound_end = Fraction(0)
        self._picture_end = 0
        self._take_from = 0
        self.frames = self.lost = self.crowded = 0
        self.joints: list[TakeJoint] = []

    @property
    def video_end_us(self) -> int:
        """Where the picture ends so far, in µs."""
        return round(self._picture_ends()[0] * self._tick * 1_000_000)

    def add(self, source: InputContainer, head: _Head, take: TakeMedia) -> None:
        """Append one take."""
        joint = self._joint(head)
        self._end_before(joint)
        self._take_from = joint.picture_from
        grid = FrameGrid(head.video_first, take.stretch * self._format.period_us)
        if not self._streams:
            self._streams = {
                stream.type: self._add_stream(stream)
                for stream in (*source.streams.video, *source.streams.audio)
            }
        for packet in whole_packets(source):
            if packet.stream.type == "audio":
                if time_of(packet) + head.sound_delay >= joint.sound_from:
                    self._sound.append(self._heard(packet, head.sound_delay + joint.offset))
            elif take.end_us is None or time_of(packet) < take.end_us:
                pts = joint.picture_from + grid.snap(_unlagged(packet, take))
                self._frames.append(_Placed(packet, "video", pts, joint.picture_from + grid.end, self._tick))
                if len(self._frames) > MAX_DROPPED:
                    self._write_frame(self._frames.popleft())
                    self._write_sound_until(self._frames[0].begin_us)
        if take.end_us is not None:
            grid.end_at(take.end_us - lag_at(take.lags, take.end_us))
        self.frames += grid.frames
        self.lost += grid.lost
        self.crowded += grid.crowded
        start = self._nanoseconds(joint.picture_from)
        self.joints.append(TakeJoint(take.number, joint.offset, start, start, grid.frames, grid.lost))

    def close(self) -> None:
        """Write the held packets; audio after the last frame is left out."""
        end = Fraction(self.video_end_us)
        while self._frames:
            self._write_frame(self._frames.popleft())
        self._end_take(dropped=0)
        while self._sound and self._sound[0].begin_us < end:
            self._write_sound()

    def _joint(self, head: _Head) -> Joint:
        if not self._streams:
            return first_joint(head.video_first)
        sound_ends = [self._sound_end, *(each.end_us for each in self._sound)]
        return next_joint(
            self._picture_ends(), sound_ends, head.video_first, head.sound_times, self._format.fps
        )

    def _picture_ends(self) -> list[int]:
        """Where the picture ends (ticks), and where without the last frame, and so on to the take's first."""
        ends = [frame.end for frame in reversed(self._frames)]
        return [*ends, self._picture_end] if self._picture_end > self._take_from or not ends else ends

    def _end_before(self, joint: Joint) -> None:
        """Write the packets of the last take that the joint keeps."""
        for _ in range(joint.dropped):
            self._frames.pop()
        self.frames -= joint.dropped
        while self._frames:
            self._write_frame(self._frames.popleft())
        while self._sound and self._sound[0].end_us <= joint.sound_end:
            self._write_sound()
        self._sound.clear()
        self._end_take(joint.dropped)

    def _end_take(self, dropped: int) -> None:
        """Note where the last take ends, of which so many frames were dropped."""
        if self.joints:
            last = self.joints[-1]
            end = self._nanoseconds(self._picture_end)
            self.joints[-1] = replace(last, end_ns=end, frames=last.frames - dropped)

    def _nanoseconds(self, ticks: int) -> int:
        return round(ticks * self._tick * 1_000_000_000)

    def _add_stream(self, template: Stream) -> Any:
        stream: Any = self._output.add_stream_from_template(template)
        stream.disposition = Disposition.default
        if template.type == "video":
            stream.time_base = self._tick
            # WebM tells it as DefaultDuration.
            stream.codec_context.framerate = self._format.fps
        return stream

    def _heard(self, packet: Packet, offset: int) -> _Placed:
        base = packet.time_base
        pts = round(Fraction(time_of(packet) + offset, 1_000_000) / base)
        length = round(Fraction(self._format.codec.audio_frame_samples, SAMPLE_RATE) / base)
        return _Placed(_whole_sound(packet), "audio", pts, pts + length, base)

    def _write_sound_until(self, end_us: Fraction) -> None:
        while self._sound and self._sound[0].end_us <= end_us:
            self._write_sound()

    def _write_sound(self) -> None:
        sound = self._sound.popleft()
        self._write(sound, sound.packet.duration)
        self._sound_end = sound.end_us

    def _write_frame(self, frame: _Placed) -> None:
        self._write(frame, FRAME_TICKS)
        self._picture_end = frame.end

    def _write(self, placed: _Placed, duration: int | None) -> None:
        packet = placed.packet
        packet.stream = self._streams[placed.kind]
        packet.time_base = placed.base
        packet.pts = packet.dts = placed.pts
        packet.duration = duration
        self._output.mux(packet)


def _whole_sound(packet: Packet) -> Packet:
    """The packet without what a take's ffmpeg says of its last one: that its end is to be left out.

    In the file it would stand in the midst, or behind the last frame, as WebM's DiscardPadding. Firefox plays
    no file whose last packet has one (measured with 153).
    """
    if not packet.has_sidedata("skip_samples"):
        return packet
    whole: Packet = av.Packet(bytes(packet))
    whole.time_base, whole.duration = packet.time_base, packet.duration
    whole.is_keyframe = True
    return whole


def _unlagged(packet: Packet, take: TakeMedia) -> int:
    time = time_of(packet)
    return time - lag_at(take.lags, time)


def _read_head(take: TakeMedia) -> _Head | None:
    """Where a take's picture and sound begin; None if it has no whole frame.

    Raises CutError when the disk fails: an unreadable part now must not be lost for good.
    """
    video_first: int | None = None
    sound_times: list[int] = []
    delay = 0
    try:
        with open_take(take.path) as source:
            delay = _sound_delay(source)
            for number, packet in enumerate(whole_packets(source)):
                if packet.stream.type == "audio":
                    sound_times.append(time_of(packet) + delay)
                elif video_first is None:
                    video_first = _unlagged(packet, take)
                if number > HEAD_PACKETS:
                    break
    except av.FFmpegError as error:
        logger.warning("take %s is broken and is left out: %s", take.path.name, error.strerror)
    return None if video_first is None else _Head(video_first, sound_times, delay)


def _sound_delay(source: InputContainer) -> int:
    """The delay missing in the Opus stamps of a WebM, in µs.

    A demuxer takes the encoder's delay off the stamps, as WebM has it, but the muxers of old libavformats
    never put it on (measured with 59 in ffmpeg 5.1; 61 in ffmpeg 7 does).
    """
    muxer = re.match(r"Lavf(\d+)\.", source.metadata.get("ENCODER", source.metadata.get("encoder", "")))
    opus = any(stream.codec_context.name == "opus" for stream in source.streams.audio)
    webm = "webm" in source.format.name
    return OPUS_DELAY_US if opus and webm and muxer and int(muxer[1]) < 61 else 0
