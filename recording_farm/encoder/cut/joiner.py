"""Joins takes, packet by packet: decides where each packet is in the finished file.

It can stop after any group of samples, and another process can continue from there, see `JoinState`.
"""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Final

from av.container import InputContainer

from recording_farm.encoder.cut.joints import MAX_DROPPED, FrameGrid, Joint, first_joint, next_joint
from recording_farm.encoder.formats import SAMPLE_RATE, Codec, Format
from recording_farm.encoder.journal import Lag, lag_at
from recording_farm.encoder.media.packets import Packet, time_of
from recording_farm.encoder.mux.body import Body
from recording_farm.encoder.mux.samples import Kind, Sample

OPUS_DELAY_US: Final = 6_500
"""libopus looks 312 samples of 48 kHz ahead."""

MILLISECOND: Final = Fraction(1, 1000)


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

    def unlagged(self, time_us: int) -> int:
        """The time of a frame that was grabbed at `time_us`."""
        return time_us - lag_at(self.lags, time_us)


@dataclass(frozen=True)
class TakeJoint:
    """Where a take is in a finished file: from `start_ns` to `end_ns`, with so many frames.

    `offset` is added to the take's own times, in µs. `lost` frames are missing between its frames, `crowded`
    ones came too close together.
    """

    take: int | None
    offset: int
    start_ns: int = 0
    end_ns: int = 0
    frames: int = 0
    lost: int = 0
    crowded: int = 0


@dataclass(frozen=True)
class _TakeHead:
    """The start of a take, in µs of its own clock, and the delay missing in its audio stamps."""

    video_first: int
    sound_times: Sequence[int]
    sound_delay: int


@dataclass(frozen=True)
class TakePlace:
    """A take that is being joined; it is written up to these times of its own clock."""

    number: int | None
    video_first: int
    sound_delay: int
    sound_from: int
    offset: int
    picture_from: int
    stretch: Fraction
    grid: Sequence[int]
    video_until: int | None = None
    audio_until: int | None = None


@dataclass(frozen=True)
class JoinState:
    """The state from which a joiner continues: the written samples end at `picture_end` and `sound_end`."""

    picture_end: int = 0
    sound_end: Fraction = Fraction(0)
    codec_delay_ms: int = 0
    """Delay of the audio in a WebM, which players subtract (RFC 9559, CodecDelay)."""
    joints: tuple[TakeJoint, ...] = ()
    take: TakePlace | None = None
    """The take that is being joined; its joint is the last of `joints`."""


@dataclass(frozen=True)
class Joined:
    """What was joined, with the sums of all takes."""

    duration_us: int
    frames: int
    lost: int
    crowded: int
    joints: tuple[TakeJoint, ...]


@dataclass
class _Placed:
    """A packet and its place in the file: from `pts` to `end`, in units of `base`; `time` is its time in the
    take."""

    data: bytes
    kind: Kind
    pts: int
    end: int
    base: Fraction
    time: int
    is_key: bool
    grid: tuple[int, ...] = field(default=())

    @property
    def begin_us(self) -> Fraction:
        return self.pts * self.base * 1_000_000

    @property
    def end_us(self) -> Fraction:
        return self.end * self.base * 1_000_000


class Joiner:
    """Appends takes to a body.

    It holds the last frames and the audio from them on, because the next take may leave them out.
    """

    def __init__(self, fmt: Format, body: Body, state: JoinState | None = None) -> None:
        """Continue from `state`, whose samples are in `body`."""
        self._format = fmt
        self._body = body
        self._tick = Fraction(1, fmt.timescale)
        self._frames: deque[_Placed] = deque()
        self._sound: deque[_Placed] = deque()
        self.state = state or JoinState()
        """The state at the end of the last group of samples, which is in the body."""
        self._place = self.state.take
        self._joints = list(self.state.joints)
        self._picture_end = self.state.picture_end
        self._sound_end = self.state.sound_end
        self._codec_delay_ms = self.state.codec_delay_ms
        # The take as far as it is written.
        self._grid_state: Sequence[int] = self._place.grid if self._place else ()
        self._video_until = self._place.video_until if self._place else None
        self._audio_until = self._place.audio_until if self._place else None
        self._grid: FrameGrid | None = None

    @property
    def duration_us(self) -> int:
        """Where the video ends so far, in µs."""
        return round(self._picture_ends()[0] * self._tick * 1_000_000)

    def begin(self, take: TakeMedia, first: Sequence[Packet], source: InputContainer) -> bool:
        """Begin a take, whose packets are added next, from the `first` ones on.

        Does nothing and returns false if there is no frame among the first packets.
        """
        head = _head_of(take, first, sound_delay(source))
        if head is None:
            return False
        if not self._joints:
            self._codec_delay_ms = _codec_delay_ms(source)
        joint = self._joint(head)
        self._end_before(joint)
        self._grid = FrameGrid(head.video_first, take.stretch * self._format.period_us)
        self._place = TakePlace(
            number=take.number,
            video_first=head.video_first,
            sound_delay=head.sound_delay,
            sound_from=joint.sound_from,
            offset=joint.offset,
            picture_from=joint.picture_from,
            stretch=take.stretch,
            grid=self._grid.state,
        )
        self._grid_state, self._video_until, self._audio_until = self._grid.state, None, None
        start = self._nanoseconds(joint.picture_from)
        self._joints.append(TakeJoint(take.number, joint.offset, start, start))
        return True

    def resume(self) -> None:
        """Continue the take of the state; its next packets may begin anywhere before the end of the written
        ones."""
        assert self._place is not None
        self._grid = FrameGrid(self._place.video_first, self._place.stretch * self._format.period_us)
        self._grid.restore(self._place.grid)

    def add(self, packet: Packet, take: TakeMedia) -> None:
        """Append a packet of the take, unless it is written already."""
        assert self._place is not None
        time = time_of(packet)
        if packet.stream.type == "audio":
            is_new = self._audio_until is None or time > self._audio_until
            if is_new and time + self._place.sound_delay >= self._place.sound_from:
                self._sound.append(self._heard(packet, self._place.sound_delay + self._place.offset))
        elif (self._video_until is None or time > self._video_until) and (
            take.end_us is None or time < take.end_us
        ):
            self._frames.append(self._seen(packet, take.unlagged(time)))
            if len(self._frames) > MAX_DROPPED:
                self._write_frame(self._frames.popleft())
                self._write_sound_until(self._frames[0].begin_us)

    def end_take(self, take: TakeMedia) -> None:
        """End the take, which has no more packets, and count its frames."""
        assert self._grid is not None
        grid, self._grid = self._grid, None
        if take.end_us is not None:
            grid.end_at(take.end_us - lag_at(take.lags, take.end_us))
        self._joints[-1] = replace(self._joints[-1], frames=grid.frames, lost=grid.lost, crowded=grid.crowded)

    def close(self) -> Joined:
        """Write the held packets; audio after the last frame is left out."""
        end = Fraction(self._picture_ends()[0] * self._tick * 1_000_000)
        while self._frames:
            self._write_frame(self._frames.popleft())
        self._end_last(dropped=0)
        while self._sound and self._sound[0].begin_us < end:
            self._write_sound()
        self._body.flush()
        return Joined(
            round(end),
            sum(joint.frames for joint in self._joints),
            sum(joint.lost for joint in self._joints),
            sum(joint.crowded for joint in self._joints),
            tuple(self._joints),
        )

    def _joint(self, head: _TakeHead) -> Joint:
        if not self._joints:
            return first_joint(head.video_first)
        sound_ends = [self._sound_end, *(each.end_us for each in self._sound)]
        return next_joint(
            self._picture_ends(), sound_ends, head.video_first, head.sound_times, self._format.fps
        )

    def _picture_ends(self) -> list[int]:
        """Where the video ends (ticks), where it ends without the last frame, and so on to the take's first
        frame."""
        ends = [frame.end for frame in reversed(self._frames)]
        take_from = self._place.picture_from if self._place else 0
        return [*ends, self._picture_end] if self._picture_end > take_from or not ends else ends

    def _end_before(self, joint: Joint) -> None:
        """Write the held packets of the last take that the joint keeps."""
        for _ in range(joint.dropped):
            self._frames.pop()
        while self._frames:
            self._write_frame(self._frames.popleft())
        while self._sound and self._sound[0].end_us <= joint.sound_end:
            self._write_sound()
        self._sound.clear()
        self._end_last(joint.dropped)

    def _end_last(self, dropped: int) -> None:
        """Note where the last take ends, without its `dropped` frames."""
        if self._joints:
            last = self._joints[-1]
            end = self._nanoseconds(self._picture_end)
            self._joints[-1] = replace(last, end_ns=end, frames=last.frames - dropped)

    def _nanoseconds(self, ticks: int) -> int:
        return round(ticks * self._tick * 1_000_000_000)

    def _seen(self, packet: Packet, time_us: int) -> _Placed:
        assert self._place is not None
        assert self._grid is not None
        pts = self._place.picture_from + self._grid.snap(time_us)
        return _Placed(
            *(bytes(packet), Kind.VIDEO, pts, self._place.picture_from + self._grid.end, self._tick),
            *(time_of(packet), packet.is_keyframe, self._grid.state),
        )

    def _heard(self, packet: Packet, offset: int) -> _Placed:
        base = packet.time_base
        time = time_of(packet)
        pts = round(Fraction(time + offset, 1_000_000) / base)
        length = round(Fraction(self._format.codec.audio_frame_samples, SAMPLE_RATE) / base)
        return _Placed(bytes(packet), Kind.AUDIO, pts, pts + length, base, time, is_key=True)

    def _write_sound_until(self, end_us: Fraction) -> None:
        while self._sound and self._sound[0].end_us <= end_us:
            self._write_sound()

    def _write_sound(self) -> None:
        sound = self._sound.popleft()
        self._write(sound)
        self._sound_end, self._audio_until = sound.end_us, sound.time

    def _write_frame(self, frame: _Placed) -> None:
        self._write(frame)
        self._picture_end, self._video_until, self._grid_state = frame.end, frame.time, frame.grid

    def _write(self, placed: _Placed) -> None:
        """Put a packet into the body; WebM counts whole milliseconds."""
        pts = placed.pts
        if self._format.codec is Codec.VP8:
            pts = _rounded(pts * placed.base / MILLISECOND)
            if placed.kind is Kind.AUDIO:
                pts += self._codec_delay_ms
        elif placed.kind is Kind.AUDIO:
            pts = round(pts * placed.base * SAMPLE_RATE)
        sample = Sample(placed.kind, pts, placed.is_key, placed.data)
        if self._body.begins_group(sample):
            self._body.flush()
            self.state = self._snapshot()
        self._body.add(sample)

    def _snapshot(self) -> JoinState:
        place = self._place and replace(
            self._place,
            grid=self._grid_state,
            video_until=self._video_until,
            audio_until=self._audio_until,
        )
        return JoinState(self._picture_end, self._sound_end, self._codec_delay_ms, tuple(self._joints), place)


def _rounded(value: Fraction) -> int:
    """The nearest whole number, halves up, as libav rounds times."""
    return int((2 * value + 1) // 2)


def _head_of(take: TakeMedia, packets: Sequence[Packet], delay: int) -> _TakeHead | None:
    """Where a take's video and audio begin; None if it has no whole frame."""
    frames = (packet for packet in packets if packet.stream.type == "video")
    frame = next(frames, None)
    if frame is None:
        return None
    sound_times = [time_of(packet) + delay for packet in packets if packet.stream.type == "audio"]
    return _TakeHead(take.unlagged(time_of(frame)), sound_times, delay)


def sound_delay(source: InputContainer) -> int:
    """The delay missing in the Opus stamps of a WebM, in µs.

    A demuxer takes the encoder's delay off the stamps, as WebM has it, but the muxers of old libavformats
    never put it on (measured with 59 in ffmpeg 5.1; 61 in ffmpeg 7 does).
    """
    muxer = re.match(r"Lavf(\d+)\.", source.metadata.get("ENCODER", source.metadata.get("encoder", "")))
    opus = any(stream.codec_context.name == "opus" for stream in source.streams.audio)
    webm = "matroska" in source.format.name  # libav has one demuxer for both
    return OPUS_DELAY_US if opus and webm and muxer and int(muxer[1]) < 61 else 0


def _codec_delay_ms(source: InputContainer) -> int:
    """The pre-skip of an Opus track (RFC 7845, 5.1), in ms as libav rounds it; else 0."""
    for stream in source.streams.audio:
        if stream.codec_context.name == "opus" and stream.codec_context.extradata:
            samples = int.from_bytes(stream.codec_context.extradata[10:12], "little")
            return _rounded(Fraction(samples * 1000, SAMPLE_RATE))
    return 0
