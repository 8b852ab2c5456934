"""A take of hours: a minute that ffmpeg encodes as a recorder's, repeated, and written to a spool at speed.

The first part of it is there at once, as if the recording had begun that long ago. From then on the take
grows as a recorder's does.
"""

import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final

import av
import ffmpeg

from recording_farm.encoder.formats import AAC_FRAME_SAMPLES, SAMPLE_RATE, Format
from recording_farm.encoder.journal import Journal, Lag, write_journal
from recording_farm.encoder.takes.command import encoding
from recording_farm.farm.spool.spool import Spool

MINUTE: Final = 64
"""Seconds of the encoded film: whole frames of the picture and of AAC."""

BITRATE: Final = 1_250_000
"""Bits per second of the picture; with the sound 622 MB an hour, as a page of the profile `mixed`."""

_BEGIN: Final = 1
"""Seconds from a take's epoch to its first frame."""

_COPIED_BYTES: Final = 16 << 20


@dataclass(frozen=True)
class LongTake:
    """The file of a take, and where the fragments of each time begin."""

    file: Path
    format: Format
    times: list[float]
    """The beginning of each fragment, in seconds from the take's."""
    offsets: list[int]

    def before(self, seconds: float) -> tuple[float, int]:
        """The last beginning of a fragment up to a time: its time, and how many bytes are before it."""
        index = max(0, bisect_right(self.times, seconds) - 1)
        return self.times[index], self.offsets[index]


def make_long_take(directory: Path, fmt: Format, seconds: float) -> LongTake:
    """Encode a minute and repeat it for `seconds`."""
    minute, file = directory / "minute.mp4", directory / "take.mp4"
    picture = ffmpeg.input(f"testsrc2=size={fmt.width}x{fmt.height}:rate={fmt.fps}", f="lavfi").video
    sound = ffmpeg.input(f"sine=frequency=440:sample_rate={SAMPLE_RATE}", f="lavfi").audio
    options = encoding(fmt) | {"video_bitrate": BITRATE, "preset": "ultrafast", "t": MINUTE + 1}
    del options["crf"]
    output = ffmpeg.output(picture, sound, str(minute), **options)
    output.global_args("-nostdin", "-loglevel", "error").overwrite_output().run()
    _repeat(minute, file, fmt, -(-int(seconds) // MINUTE))
    fragments = list(_fragments(file))
    return LongTake(file, fmt, [at for at, _ in fragments], [offset for _, offset in fragments])


def _repeat(minute: Path, target: Path, fmt: Format, times: int) -> None:
    """Write the packets of a film again and again, each time with later times."""
    container = {name: str(encoding(fmt)[name]) for name in ("movflags", "movie_timescale", "frag_duration")}
    with av.open(str(minute)) as source, av.open(str(target), "w", format="mp4", options=container) as output:
        packets = [packet for packet in source.demux() if packet.size]
        streams = [output.add_stream_from_template(stream) for stream in source.streams]
        for stream, model in zip(streams, source.streams, strict=True):
            assert model.time_base is not None
            stream.time_base = model.time_base
        wanted = [
            MINUTE * (fmt.fps if stream.type == "video" else Fraction(SAMPLE_RATE, AAC_FRAME_SAMPLES))
            for stream in source.streams
        ]
        kept = []
        for packet in packets:
            if wanted[packet.stream_index] > 0:
                wanted[packet.stream_index] -= 1
                kept.append((packet.stream_index, bytes(packet), packet.pts, packet.time_base, packet))
        for number in range(times):
            for index, data, pts, base, before in kept:
                assert pts is not None
                assert base is not None
                packet = av.Packet(data)
                packet.stream, packet.time_base = streams[index], base
                packet.pts = packet.dts = pts + round((_BEGIN + number * MINUTE) / base)
                packet.duration, packet.is_keyframe = before.duration, before.is_keyframe
                output.mux_one(packet)


def _fragments(file: Path) -> Iterator[tuple[float, int]]:
    """When each fragment of a file begins, in seconds, and where."""
    with av.open(str(file)) as media:
        base = media.streams.video[0].time_base
        assert base is not None
    with file.open("rb") as content:
        while len(header := content.read(8)) == 8:
            size, kind = int.from_bytes(header[:4], "big"), header[4:]
            if kind == b"moof":
                box = content.read(size - 8)
                # The picture's track is the first; its time stands behind version and flags.
                at = box.index(b"tfdt") + 8
                yield float(int.from_bytes(box[at : at + 8], "big") * base), content.tell() - size
            else:
                content.seek(size - 8, 1)


class Feed:
    """Writes a long take into a spool: `past` seconds of it at once, the rest as time passes."""

    def __init__(self, take: LongTake, spool: Spool, past: float) -> None:
        """Write the beginning."""
        self._take = take
        self._media = spool.media(0)
        self._source = take.file.open("rb")
        # Whole seconds, as the epoch of a take.
        wall = int(time.time() - past)
        self._began = time.monotonic() - (time.time() - wall)
        self._target = self._media.open("wb", buffering=0)
        self._end = 0.0
        self.advance()
        self.journal = Journal(
            *(0, wall - _BEGIN, wall * 1_000_000, round(self._began * 1e6), 0),
            lags=(Lag(0, 0),),
            speed=1.0,
            stretch=take.format.stretch.as_integer_ratio(),
        )
        self._write_journal()

    @property
    def seconds(self) -> float:
        """How long the take is."""
        return time.monotonic() - self._began

    @property
    def seconds_written(self) -> float:
        """How much of it is in the spool."""
        return self._end

    def advance(self) -> None:
        """Write what a recorder would have written until now."""
        self._end, offset = self._take.before(self.seconds)
        if not self._end:
            return
        _copy(self._source, self._target, offset - self._source.tell())

    def end(self) -> Journal:
        """End the take as a recorder does; returns its journal."""
        self.advance()
        self._target.close()
        self._source.close()
        self.journal = replace(self.journal, end_us=round((_BEGIN + self._end) * 1e6))
        self._write_journal()
        return self.journal

    def _write_journal(self) -> None:
        write_journal(self._media.with_suffix(".json"), self.journal)


def _copy(source: BinaryIO, target: FileIO, size: int) -> None:
    while size > 0:
        data = source.read(min(size, _COPIED_BYTES))
        assert data, "the take is not long enough"
        target.write(data)
        size -= len(data)
