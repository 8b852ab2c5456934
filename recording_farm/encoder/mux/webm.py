"""WebM: groups samples into clusters, and builds the head of a file, up to its first cluster.

libav writes a small file with the first sample of each track. Its description of the tracks and the metadata
is kept; this module writes the duration, the cues and their places (RFC 9559, RFC 8794). Times are in
milliseconds.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from recording_farm.encoder.mux.padding import NO_PADDING, Padding
from recording_farm.encoder.mux.samples import Entries, Entry, Kind, Sample

MAX_CLUSTER_MS: Final = 5_000
"""Times in a cluster are 16 bits, and players load one at once."""

_TRACK_NUMBERS: Final = {Kind.VIDEO: 1, Kind.AUDIO: 2}
_KEY_FRAME: Final = 0x80
_BLOCK_HEAD: Final = 4
"""The number of the track in one byte, the time in two, flags."""

_EBML: Final = bytes.fromhex("1A45DFA3")
_SEGMENT: Final = bytes.fromhex("18538067")
_SEEK_HEAD: Final = bytes.fromhex("114D9B74")
_SEEK: Final = bytes.fromhex("4DBB")
_SEEK_ID: Final = bytes.fromhex("53AB")
_SEEK_POSITION: Final = bytes.fromhex("53AC")
_INFO: Final = bytes.fromhex("1549A966")
_DURATION: Final = bytes.fromhex("4489")
_TRACKS: Final = bytes.fromhex("1654AE6B")
_CLUSTER: Final = bytes.fromhex("1F43B675")
_TIMESTAMP: Final = bytes.fromhex("E7")
_SIMPLE_BLOCK: Final = bytes.fromhex("A3")
_CUES: Final = bytes.fromhex("1C53BB6B")
_CUE_POINT: Final = bytes.fromhex("BB")
_CUE_TIME: Final = bytes.fromhex("B3")
_CUE_TRACK_POSITIONS: Final = bytes.fromhex("B7")
_CUE_TRACK: Final = bytes.fromhex("F7")
_CUE_CLUSTER_POSITION: Final = bytes.fromhex("F1")
_CUE_RELATIVE_POSITION: Final = bytes.fromhex("F0")
_VOID: Final = bytes.fromhex("EC")
_VOID_HEAD: Final = 9


def pack(samples: Sequence[Sample], offset: int) -> tuple[bytes, list[Entry]]:
    """A cluster, to be written at `offset` of the body, and the entries of it and of its samples."""
    begin = min(sample.pts for sample in samples)
    samples = sorted(samples, key=lambda sample: (sample.pts, sample.kind))
    blocks = [_block(sample, begin) for sample in samples]
    content = _element(_TIMESTAMP, _number(begin))
    content += b"".join(blocks)
    cluster = _CLUSTER + _wide_length(len(content)) + content
    entries = [Entry(Kind.CLUSTER, False, len(cluster), begin, offset)]
    place = offset + len(cluster) - sum(map(len, blocks))
    for sample, block in zip(samples, blocks, strict=True):
        entries.append(Entry(sample.kind, sample.is_key, len(block), sample.pts, place))
        place += len(block)
    return cluster, entries


def head(
    template: bytes,
    entries: Entries,
    body_size: int,
    last: Mapping[Kind, int],
    padding: Padding = NO_PADDING,
) -> bytes:
    """The head of a file whose body has `entries` and `body_size` bytes.

    `template` is the file with the first sample of each track, `last` the duration of the last one (ms). The
    padding is an element Void.
    """
    parts = {name: whole for name, whole, _ in _elements(template, 0)}
    segment = next(content for name, _, content in _elements(template, 0) if name == _SEGMENT)
    inside = {name: whole for name, whole, _ in _elements(segment, 0)}
    start = parts[_EBML]
    info = _info(segment, _duration(entries, last))
    tracks = inside[_TRACKS]
    # The cues have one size, wherever the clusters are.
    cues_size = len(_cues(entries, 0))
    seek_head_size = len(_seek_head({}, 3))
    begin = len(start) + len(_SEGMENT) + 8
    size = begin + seek_head_size + len(info) + len(tracks) + cues_size
    added = padding.of(size, _VOID_HEAD)
    size += added
    places = {
        _INFO: seek_head_size,
        _TRACKS: seek_head_size + len(info),
        _CUES: seek_head_size + len(info) + len(tracks),
    }
    void = _VOID + _wide_length(added - _VOID_HEAD) + bytes(added - _VOID_HEAD) if added else b""
    content = _seek_head(places, 3) + info + tracks + _cues(entries, size - begin) + void
    return start + _SEGMENT + _wide_length(len(content) + body_size) + content


def _duration(entries: Entries, last: Mapping[Kind, int]) -> int:
    ends = (
        int(own["pts"].max()) + length
        for kind, length in last.items()
        if len(own := entries[entries["kind"] == kind])
    )
    return max(ends, default=0)


def _seek_head(places: dict[bytes, int], count: int) -> bytes:
    """The SeekHead of elements; its size depends on their number only."""
    seeks = [
        _element(_SEEK, _element(_SEEK_ID, name) + _element(_SEEK_POSITION, struct.pack(">Q", place)))
        for name, place in places.items() or [(_VOID * 4, 0)] * count
    ]
    return _element(_SEEK_HEAD, b"".join(seeks))


def _info(segment: bytes, duration_ms: int) -> bytes:
    info = next(content for name, _, content in _elements(segment, 0) if name == _INFO)
    kept = [whole for name, whole, _ in _elements(info, 0) if name != _DURATION]
    return _element(_INFO, b"".join(kept) + _element(_DURATION, struct.pack(">d", duration_ms)))


def _cues(entries: Entries, shift: int) -> bytes:
    """A cue for each key frame; a body begins `shift` bytes behind the beginning of the segment."""
    clusters = entries[entries["kind"] == Kind.CLUSTER]
    keys = entries[(entries["kind"] == Kind.VIDEO) & (entries["key"] == 1)]
    if not len(keys):
        # Without video, each cluster.
        keys = clusters
    own = np.searchsorted(clusters["offset"], keys["offset"], side="right") - 1
    points = []
    for key, cluster in zip(keys, clusters[own], strict=True):
        track = _TRACK_NUMBERS.get(Kind(int(key["kind"])), 1)
        inside = int(key["offset"]) - int(cluster["offset"]) - len(_CLUSTER) - 8
        positions = (
            _element(_CUE_TRACK, _number(track))
            + _element(_CUE_CLUSTER_POSITION, struct.pack(">Q", int(cluster["offset"]) + shift))
            + _element(_CUE_RELATIVE_POSITION, struct.pack(">I", max(inside, 0)))
        )
        time = _element(_CUE_TIME, _number(int(key["pts"])))
        points.append(_element(_CUE_POINT, time + _element(_CUE_TRACK_POSITIONS, positions)))
    return _element(_CUES, b"".join(points))


def _block(sample: Sample, cluster_pts: int) -> bytes:
    flags = _KEY_FRAME if sample.is_key else 0
    head = bytes([0x80 | _TRACK_NUMBERS[sample.kind]]) + struct.pack(">hB", sample.pts - cluster_pts, flags)
    return _element(_SIMPLE_BLOCK, head + sample.data)


def block_content(block: bytes) -> bytes:
    """The frame or packet of audio in a block."""
    (_, _, content) = next(_elements(block, 0))
    return content[_BLOCK_HEAD:]


def _element(name: bytes, content: bytes) -> bytes:
    return name + _length(len(content)) + content


def _length(size: int) -> bytes:
    """A length in as few bytes as possible; all bits set would mean an unknown length."""
    count = next(count for count in range(1, 9) if size < (1 << 7 * count) - 1)
    return (1 << 7 * count | size).to_bytes(count)


def _wide_length(size: int) -> bytes:
    """A length in eight bytes, whatever it is."""
    return (1 << 56 | size).to_bytes(8)


def _number(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8))


def _elements(data: bytes, start: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    """The elements in `data`: id, the whole element, its content."""
    while start < len(data):
        id_size = _vint_size(data[start])
        name = data[start : start + id_size]
        length_at = start + id_size
        length_size = _vint_size(data[length_at])
        raw = int.from_bytes(data[length_at : length_at + length_size])
        size = raw & ((1 << 7 * length_size) - 1)
        begin = length_at + length_size
        if size == (1 << 7 * length_size) - 1:  # unknown: to the end
            size = len(data) - begin
        yield name, data[start : begin + size], data[begin : begin + size]
        start = begin + size


def _vint_size(first: int) -> int:
    return 9 - first.bit_length()
