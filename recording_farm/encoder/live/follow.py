"""Follows a recording while it is made: its packets, take after take, without the pauses between them.

Times begin at 0 with the first frame. Within a take picture and sound keep their distance, the lag of the
frames taken off as in the finished file; at a joint both move together.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

import av
from av.container import InputContainer
from av.stream import Stream

from recording_farm.encoder.formats import AAC_FRAME_SAMPLES, SAMPLE_RATE, Format
from recording_farm.encoder.journal import Journal, lag_at, read_journal
from recording_farm.encoder.media.growing_file import LOOK_SECONDS, GrowingFile, last_fragments
from recording_farm.encoder.media.packets import Packet, time_of, whole_packets

logger = logging.getLogger(__name__)

LIVE_FRAGMENTS: Final = 10
"""Fragments of a quarter of a second in which there is a key frame, because these come every 2 s."""

MIN_STEP_US: Final = 2_000
"""Between two packets of a stream: FLV counts whole milliseconds."""

_SOUND_US: Final = AAC_FRAME_SAMPLES * 1_000_000 // SAMPLE_RATE
_TAKE: Final = re.compile(r"take-(\d+)\..+")
_OPTIONS: Final = {"analyzeduration": "0"}
"""The header of a take describes all of its streams; nothing has to be read ahead."""

Kind: TypeAlias = Literal["video", "audio"]


@dataclass(frozen=True)
class FollowedPacket:
    """A packet, and its time in µs from the first frame of what is followed; `take_us` is that in its take.

    `age_us` is how long ago it was recorded; None if that is not known.
    """

    packet: Packet
    kind: Kind
    time_us: int
    take: int
    take_us: int
    age_us: int | None


def follow(
    directory: Path, fmt: Format, is_over: Callable[[], bool], *, live: bool
) -> Iterator[tuple[list[Stream], Iterator[FollowedPacket]]]:
    """Of each take in `directory`, its streams and its packets, as they come, until the recording `is_over`.

    All of a take's packets are to be taken before the next take. With `live` it begins with the newest key
    frame; earlier packets are left out. Only takes in MP4 can be followed.
    """
    end = 0
    number = (_first_from(directory, fmt, 0, max) or 0) if live else 0
    while (found := _wait_for_take(directory, fmt, number, is_over)) is not None:
        number, path = found
        has_ended = partial(_has_ended, directory, fmt, number, is_over)
        try:
            with _opened(path, has_ended, live=live) as source:
                take = _FollowedTake(source, number, path.with_suffix(".json"), end, fmt.period_us)
                yield [*source.streams.video, *source.streams.audio], take.packets()
                end = take.end
        except (av.FFmpegError, OSError) as error:
            logger.info("%s cannot be followed: %s", path.name, error.strerror)
        number += 1
        live = False


class _FollowedTake:
    """The packets of one take, appended at `end` (µs)."""

    def __init__(self, source: InputContainer, number: int, journal: Path, end: int, period: int) -> None:
        self._source = source
        self._number = number
        self._journal_file = journal
        self._journal: Journal | None = None
        self._looked = -1
        self._period = period
        self._first: Kind = "video" if source.streams.video else "audio"
        self._offset: int | None = None
        self._least: dict[Kind, int] = {"video": end, "audio": end}
        self.end = end

    def packets(self) -> Iterator[FollowedPacket]:
        before: list[Packet] = []
        for packet in whole_packets(self._source):
            self._look_into_journal(time_of(packet))
            kind = _kind(packet)
            if self._offset is None:
                if kind != self._first or not packet.is_keyframe:
                    # The sound of a moment lies before or behind its frame.
                    before = [*before, packet] if kind == "audio" else []
                    continue
                self._offset = self.end - self._unlagged(packet)
                for each in before:
                    yield from self._placed(each)
            yield from self._placed(packet)

    def _placed(self, packet: Packet) -> Iterator[FollowedPacket]:
        """The packet where it belongs; nothing for sound from before the first frame."""
        assert self._offset is not None
        kind = _kind(packet)
        time_us = self._unlagged(packet) + self._offset
        if kind == "audio" and time_us < self._least[kind]:
            return
        # A lag that grows must not turn time back, nor make two times one where they are counted coarsely.
        time_us = max(time_us, self._least[kind])
        self._least[kind] = time_us + MIN_STEP_US
        self.end = max(self.end, time_us + (_SOUND_US if kind == "audio" else self._period))
        yield FollowedPacket(packet, kind, time_us, self._number, time_of(packet), self._age(packet))

    def _unlagged(self, packet: Packet) -> int:
        time_us = time_of(packet)
        if self._journal is None or packet.stream.type == "audio":
            return time_us
        return time_us - lag_at(self._journal.lags, time_us)

    def _age(self, packet: Packet) -> int | None:
        if self._journal is None:
            return None
        return self._journal.time_of(time.monotonic_ns() // 1000) - time_of(packet)

    def _look_into_journal(self, time_us: int) -> None:
        # The compositor's depth can change while a take runs; a look each second is soon enough.
        if time_us // 1_000_000 != self._looked:
            self._looked = time_us // 1_000_000
            self._journal = read_journal(self._journal_file) or self._journal


def _kind(packet: Packet) -> Kind:
    return "video" if packet.stream.type == "video" else "audio"


@contextmanager
def _opened(path: Path, has_ended: Callable[[], bool], *, live: bool) -> Iterator[InputContainer]:
    begin = last_fragments(path, LIVE_FRAGMENTS) if live else None
    file = GrowingFile(path, has_ended, begin)
    try:
        with av.open(file, "r", format="mp4", options=_OPTIONS, metadata_errors="replace") as source:
            yield source
    finally:
        file.close()


def _wait_for_take(
    directory: Path, fmt: Format, number: int, is_over: Callable[[], bool]
) -> tuple[int, Path] | None:
    """The take `number` or the next there is, once something is in it; None when the recording is over."""
    while True:
        over = is_over()
        found = _first_from(directory, fmt, number, min)
        if found is not None:
            return found, _file(directory, fmt, found)
        if over:
            return None
        time.sleep(LOOK_SECONDS)


def _has_ended(directory: Path, fmt: Format, number: int, is_over: Callable[[], bool]) -> bool:
    """Whether nothing will be added to a take any more: the next one has begun, or the recording is over."""
    return is_over() or _first_from(directory, fmt, number + 1, min) is not None


def _first_from(directory: Path, fmt: Format, number: int, which: Callable[[list[int]], int]) -> int | None:
    numbers = [
        int(match[1])
        for file in directory.glob(f"take-*{fmt.take_suffix}")
        # One that waits for its beginning is empty.
        if (match := _TAKE.fullmatch(file.name)) and file.stat().st_size
    ]
    numbers = [each for each in numbers if each >= number]
    return which(numbers) if numbers else None


def _file(directory: Path, fmt: Format, number: int) -> Path:
    return directory / f"take-{number:03d}{fmt.take_suffix}"
