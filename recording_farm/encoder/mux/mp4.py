"""MP4: groups samples into chunks, and builds the head of a file, `ftyp` to the beginning of `mdat`.

libav writes a small file with the first sample of each track. Its description of codecs, colors, priming and
metadata is kept; this module writes the sample tables and durations (ISO/IEC 14496-12). So the head of two
hours takes some milliseconds, and needs no sample.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from recording_farm.encoder.mux.padding import NO_PADDING, Padding
from recording_farm.encoder.mux.samples import Entries, Entry, Kind, Sample

CHUNK_MS: Final = 500
"""Samples of one track that lie together: short enough to play while it loads, long enough for a small index.
"""

_SMALL: Final = 1 << 32
_CONTAINERS: Final = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"}
_TABLES: Final = {b"stts", b"stss", b"stsc", b"stsz", b"stco", b"co64"}
_KINDS: Final = {b"vide": Kind.VIDEO, b"soun": Kind.AUDIO}
_MDAT_HEAD: Final = 16
_FREE_HEAD: Final = 8
_ENTRY_HEADS: Final = {Kind.VIDEO: 78, Kind.AUDIO: 28}
"""Bytes of a sample entry before its boxes."""


def pack(samples: Sequence[Sample], offset: int) -> tuple[bytes, list[Entry]]:
    """A chunk of each track, to be written at `offset` of the body, and their entries."""
    data, entries = [], []
    for sample in sorted(samples, key=lambda sample: sample.kind):
        entries.append(Entry(sample.kind, sample.is_key, len(sample.data), sample.pts, offset))
        data.append(sample.data)
        offset += len(sample.data)
    return b"".join(data), entries


@dataclass(frozen=True)
class Mp4Tracks:
    """`scale`s are units of time in a second; `last` is the duration of the last sample, by kind of track."""

    scale: dict[Kind, int]
    last: dict[Kind, int]


def head(
    template: bytes, entries: Entries, body_size: int, tracks: Mp4Tracks, padding: Padding = NO_PADDING
) -> bytes:
    """The head of a file whose body has `entries` and `body_size` bytes.

    `template` is the file with the first sample of each track. The padding is a box `free`.
    """
    boxes = dict(_boxes(template, 0, len(template)))
    builder = _Builder(template, entries, tracks, wide=body_size >= _SMALL - (1 << 28))
    size = len(boxes[b"ftyp"].whole) + len(builder.movie(0)) + _MDAT_HEAD
    added = padding.of(size, _FREE_HEAD)
    size += added
    free = struct.pack(">I4s", added, b"free") + bytes(added - _FREE_HEAD) if added else b""
    mdat = struct.pack(">I4sQ", 1, b"mdat", _MDAT_HEAD + body_size)
    return boxes[b"ftyp"].whole + builder.movie(size) + free + mdat


@dataclass(frozen=True)
class _Box:
    kind: bytes
    whole: bytes
    content: bytes


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, _Box]]:
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        head_size = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            head_size = 16
        yield kind, _Box(kind, data[start : start + size], data[start + head_size : start + size])
        start += size


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _full(kind: bytes, content: bytes, version: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24) + content)


@dataclass(frozen=True)
class _Samples:
    """The samples of one track, by columns."""

    pts: "np.ndarray[Any, Any]"
    sizes: "np.ndarray[Any, Any]"
    keys: "np.ndarray[Any, Any]"

    @classmethod
    def of(cls, entries: Entries, mine: "np.ndarray[Any, Any]") -> "_Samples":
        return cls(*(entries[name][mine] for name in ("pts", "size", "key")))


class _Builder:
    """Builds the `moov` of a file from its template."""

    def __init__(self, template: bytes, entries: Entries, tracks: Mp4Tracks, *, wide: bool) -> None:
        self._movie = dict(_boxes(template, 0, len(template)))[b"moov"]
        self._tracks = tracks
        self._wide = wide
        # Contiguous columns, which numpy reads many times as fast as columns of rows.
        kinds, offsets, sizes = (np.ascontiguousarray(entries[name]) for name in ("kind", "offset", "size"))
        # A chunk ends where the track changes, or where the next sample is not adjacent.
        is_next = (kinds[1:] == kinds[:-1]) & (offsets[1:] == (offsets + sizes)[:-1])
        begins = np.flatnonzero(np.append(True, ~is_next)[: len(kinds)])
        counts = np.diff(begins, append=len(kinds))
        self._samples = {kind: _Samples.of(entries, kinds == kind) for kind in tracks.scale}
        self._chunks = {
            kind: (counts[mine], offsets[begins][mine])
            for kind in tracks.scale
            for mine in (kinds[begins] == kind,)
        }
        self._tables = {kind: self._sample_tables(kind) for kind in tracks.scale}
        (self._movie_scale,) = struct.unpack_from(">I", _first(self._movie, b"mvhd"), 12)
        self._durations = {kind: self._duration(kind) for kind in tracks.scale}

    def movie(self, shift: int) -> bytes:
        """The `moov`, for a body that begins `shift` bytes behind the beginning of the file."""
        content = b""
        durations = [0]
        for kind, box in _boxes(self._movie.content, 0, len(self._movie.content)):
            if kind == b"trak":
                track, duration = self._track(box, shift)
                durations.append(duration)
                content += track
            else:
                content += box.whole
        movie = bytearray(_box(b"moov", content))
        struct.pack_into(">I", movie, movie.index(b"mvhd") + 4 + 16, max(durations))
        return bytes(movie)

    def _duration(self, kind: Kind) -> int:
        pts = self._samples[kind].pts
        return int(pts[-1] - pts[0]) + self._tracks.last[kind] if len(pts) else 0

    def _track(self, track: _Box, shift: int) -> tuple[bytes, int]:
        """A track and its duration in the movie's units."""
        kind = _KINDS[_handler(track)]
        duration, scale = self._durations[kind], self._tracks.scale[kind]
        # Samples before the first edit are not shown: AAC's priming.
        edits, shown = _edits(track, lambda start: -(-(duration - start) * self._movie_scale // scale))
        return self._rebuilt(track, kind, shift, edits, shown), shown

    def _rebuilt(self, box: _Box, kind: Kind, shift: int, edits: bytes, shown: int) -> bytes:
        content = b""
        for name, child in _boxes(box.content, 0, len(box.content)):
            if name == b"tkhd":
                content += _patched(child.whole, 8 + 20, shown)
            elif name == b"mdhd":
                content += self._media_header(child, kind)
            elif name == b"elst":
                content += edits
            elif name == b"stsd":
                content += self._described(child, kind)
            elif name == b"sbgp":
                # One group of all samples.
                content += _patched(child.whole, 8 + 12, len(self._samples[kind].pts))
            elif name in _CONTAINERS:
                content += self._rebuilt(child, kind, shift, edits, shown)
            elif name not in _TABLES:
                content += child.whole
        if box.kind == b"stbl":
            content += self._tables[kind] + self._chunk_tables(kind, shift)
        return _box(box.kind, content)

    def _media_header(self, box: _Box, kind: Kind) -> bytes:
        _, created, modified, _, _, language = struct.unpack(">IIIIII", box.content)
        scale, duration = self._tracks.scale[kind], self._durations[kind]
        if duration < _SMALL:
            return _full(b"mdhd", struct.pack(">IIIII", created, modified, scale, duration, language))
        return _full(b"mdhd", struct.pack(">QQIQI", created, modified, scale, duration, language), version=1)

    def _described(self, box: _Box, kind: Kind) -> bytes:
        """The sample descriptions, with the bit rates of the whole track."""
        sizes = self._samples[kind].sizes
        seconds = self._durations[kind] / self._tracks.scale[kind]
        rate = round(float(sizes.sum(dtype=np.uint64)) * 8 / seconds) if seconds else 0
        changed = bytearray(box.whole)
        entry = 8 + 8
        for name, child, at in _places(changed, entry + 8 + _ENTRY_HEADS[kind], len(changed)):
            if name == b"btrt":
                struct.pack_into(">II", changed, at + 12, max(rate, 1), rate)
            elif name == b"esds":
                _set_rates(changed, at, child, rate)
        return bytes(changed)

    def _sample_tables(self, kind: Kind) -> bytes:
        """The tables that do not depend on where the body begins."""
        own = self._samples[kind]
        tables = _times(own.pts, self._tracks.last[kind])
        if kind is Kind.VIDEO:
            keys = np.flatnonzero(own.keys) + 1
            tables += _full(b"stss", struct.pack(">I", len(keys)) + keys.astype(">u4").tobytes())
        sizes = own.sizes.astype(">u4")
        tables += _full(b"stsz", struct.pack(">II", 0, len(sizes)) + sizes.tobytes())
        counts, _ = self._chunks[kind]
        runs = np.flatnonzero(np.diff(counts, prepend=-1))
        rows = np.stack([runs + 1, counts[runs], np.ones(len(runs), np.int64)], axis=1)
        return tables + _full(b"stsc", struct.pack(">I", len(rows)) + rows.astype(">u4").tobytes())

    def _chunk_tables(self, kind: Kind, shift: int) -> bytes:
        """The table of chunk offsets, for a body that begins at `shift`."""
        _, offsets = self._chunks[kind]
        name, form = (b"co64", ">u8") if self._wide else (b"stco", ">u4")
        places = (offsets + np.uint64(shift)).astype(form)
        return _full(name, struct.pack(">I", len(places)) + places.tobytes())


def _times(pts: "np.ndarray[Any, Any]", last: int) -> bytes:
    """The table of durations: the distances between samples."""
    durations = np.append(np.diff(pts), last)
    runs = np.flatnonzero(np.diff(durations, prepend=-1))
    rows = np.stack([np.diff(runs, append=len(durations)), durations[runs]], axis=1)
    return _full(b"stts", struct.pack(">I", len(rows)) + rows.astype(">u4").tobytes())


def _edits(track: _Box, shown_from: Callable[[int], int]) -> tuple[bytes, int]:
    """The edit list, and how long the track lasts, with the empty edit before it.

    `shown_from` returns the length of the media from one of its times on.
    """
    box = _find(track, b"edts")
    edits = dict(_boxes(box.content, 0, len(box.content)))[b"elst"].content if box else b""
    if not edits:
        return b"", shown_from(0)
    version, count = edits[0], struct.unpack_from(">I", edits, 4)[0]
    form = ">QqI" if version else ">IiI"
    shown, content = 0, b""
    for index in range(count):
        duration, start, rate = struct.unpack_from(form, edits, 8 + index * struct.calcsize(form))
        duration = duration if start < 0 else shown_from(start)
        shown += duration
        content += struct.pack(form, duration, start, rate)
    return _box(b"elst", edits[:8] + content), shown


def _find(box: _Box, name: bytes) -> _Box | None:
    return dict(_boxes(box.content, 0, len(box.content))).get(name)


def _first(box: _Box, name: bytes) -> bytes:
    found = _find(box, name)
    assert found is not None
    return found.content


def _handler(track: _Box) -> bytes:
    media = _find(track, b"mdia")
    assert media is not None
    return _first(media, b"hdlr")[8:12]


def _patched(whole: bytes, at: int, value: int) -> bytes:
    changed = bytearray(whole)
    struct.pack_into(">I", changed, at, value)
    return bytes(changed)


def _places(data: bytearray, start: int, end: int) -> Iterator[tuple[bytes, bytes, int]]:
    """The boxes in `data`: name, content and where each begins."""
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        yield name, bytes(data[start + 8 : start + size]), start
        start += max(size, 8)


def _set_rates(data: bytearray, at: int, content: bytes, rate: int) -> None:
    """Set the bit rates of an `esds`: in its DecoderConfigDescriptor, tag 4 (ISO/IEC 14496-1, 7.2.6.6)."""
    place = content.find(b"\x04\x80\x80\x80")
    if place >= 0:
        struct.pack_into(">II", data, at + 8 + place + 5 + 5, rate, rate)
