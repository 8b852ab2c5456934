"""Reads packets out of a body that grows, as a demuxer would read them out of the finished file."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import av
import numpy as np
from av.packet import Packet as AvPacket
from av.stream import Stream

from recording_farm.encoder.formats import Format
from recording_farm.encoder.mux import webm
from recording_farm.encoder.mux.body import LOG_NAME, STREAMS_NAME, is_webm, scales_of
from recording_farm.encoder.mux.head import make_head
from recording_farm.encoder.mux.samples import ENTRY, Entries, Kind, parse_entries
from recording_farm.encoder.mux.template import last_durations

Packet: TypeAlias = "AvPacket[Any]"

Read = Callable[[int, int], bytes]
"""Reads `size` existing bytes of the body from an offset. Raises OSError."""

_ENTRIES_AT_ONCE: Final = 512
"""Entries of the log that are read at once: less than ten seconds."""

_GAP_BYTES: Final = 4096
"""Bytes of other tracks that are read too, where a second read would cost more."""

_BEGINNING: Final = 50
"""Samples behind the first of each track in the file that shows how a demuxer reads its beginning."""

_KINDS: Final = {"video": Kind.VIDEO, "audio": Kind.AUDIO}


@dataclass(frozen=True)
class _Track:
    """How a demuxer shows a track: the offset of its times to those of the log, and the priming."""

    stream: Stream
    shift: int
    side_data: tuple[Any, ...]


class BodyPackets:
    """The packets of a growing body; use it as a context manager."""

    def __init__(self, directory: Path, fmt: Format, kinds: Sequence[Kind], read: Read) -> None:
        """Read tracks of these kinds of the growing cut in `directory`. Raises OSError."""
        self._directory = directory
        self._format = fmt
        self._kinds = kinds
        self.read = read
        self._opened = ExitStack()
        self._log: BinaryIO = self._opened.enter_context((directory / LOG_NAME).open("rb"))
        self._tracks: dict[Kind, _Track] = {}
        self._next = 0
        self._look_again = 0
        self.metadata: dict[str, str] = {}
        """The metadata as a demuxer shows it."""

    def __enter__(self) -> "BodyPackets":
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._opened.close()

    def open(self, entries: int, metadata: Mapping[str, str], *, is_all: bool) -> list[Stream] | None:
        """The streams, from the first `entries` of the log; None while a kind has no sample in them.

        With `is_all` the log is complete, so a kind without a sample has no stream. `metadata` is the
        finished file's. Raises OSError, av.FFmpegError.
        """
        if entries < self._look_again and not is_all:
            return None
        self._look_again = 2 * entries
        self._log.seek(0)
        seen = parse_entries(self._log.read(entries * ENTRY.itemsize))
        present = [kind for kind in self._kinds if (seen["kind"] == kind).any()]
        if not present or (len(present) < len(self._kinds) and not is_all):
            return None
        firsts = {kind: int((seen["kind"] == kind).argmax()) for kind in present}
        beginning = seen[: max(firsts.values()) + _BEGINNING]
        size = int((beginning["offset"] + beginning["size"]).max())
        with (self._directory / STREAMS_NAME).open("rb") as streams:
            head = make_head(streams, beginning, size, self._format, metadata)
        source = self._opened.enter_context(av.open(io.BytesIO(head + self.read(0, size)), "r"))
        self.metadata = dict(source.metadata)
        for packet in source.demux():
            kind = _KINDS.get(packet.stream.type)
            if kind in firsts and kind not in self._tracks and packet.pts is not None:
                side_data = tuple(packet.iter_sidedata())
                shift = packet.pts - int(seen["pts"][firsts[kind]])
                self._tracks[kind] = _Track(packet.stream, shift, side_data)
        return [self._tracks[kind].stream for kind in present]

    def packets(self, entries: int) -> Iterator[tuple[Kind, Packet]]:
        """The packets that were not read yet, among the first `entries` of the log. Raises OSError."""
        while self._next < entries:
            self._log.seek(self._next * ENTRY.itemsize)
            count = min(entries - self._next, _ENTRIES_AT_ONCE)
            rows = parse_entries(self._log.read(count * ENTRY.itemsize))
            self._next += len(rows)
            for together in _neighbors(rows[np.isin(rows["kind"], list(self._tracks))]):
                begin = int(together["offset"].min())
                data = self.read(begin, int((together["offset"] + together["size"]).max()) - begin)
                for row in together:
                    at = int(row["offset"]) - begin
                    kind = Kind(int(row["kind"]))
                    yield kind, self._packet(kind, row, data[at : at + int(row["size"])])

    def _packet(self, kind: Kind, row: Any, sample: bytes) -> Packet:
        track = self._tracks[kind]
        packet: Packet = av.Packet(webm.block_content(sample) if is_webm(self._format) else sample)
        packet.time_base = Fraction(1, scales_of(self._format)[kind])
        packet.pts = packet.dts = int(row["pts"]) + track.shift
        packet.duration = last_durations(self._format)[kind]
        packet.is_keyframe = bool(row["key"])
        for side_data in track.side_data:
            packet.set_sidedata(side_data)
        self._tracks[kind] = replace(track, side_data=())
        return packet


def _neighbors(rows: Entries) -> list[Entries]:
    """The entries in groups that are close together, and are read at once."""
    if not len(rows):
        return []
    ends = rows["offset"] + rows["size"]
    begins = np.flatnonzero(rows["offset"][1:] > ends[:-1] + np.uint64(_GAP_BYTES)) + 1
    return np.split(rows, begins)
