"""The head of a file whose body has been written."""

from collections.abc import Mapping
from typing import BinaryIO

from recording_farm.encoder.formats import Format
from recording_farm.encoder.mux import mp4, webm
from recording_farm.encoder.mux.body import is_webm, scales_of
from recording_farm.encoder.mux.padding import NO_PADDING, Padding
from recording_farm.encoder.mux.samples import Entries
from recording_farm.encoder.mux.template import last_durations, make_template


def make_head(
    kept: BinaryIO,
    entries: Entries,
    body_size: int,
    fmt: Format,
    metadata: Mapping[str, str],
    padding: Padding = NO_PADDING,
) -> bytes:
    """The head of a file with `metadata`, whose body has `entries` and `body_size` bytes.

    `kept` are its tracks, see `save_streams`. Raises av.FFmpegError.
    """
    template = make_template(kept, entries, fmt, metadata)
    if is_webm(fmt):
        return webm.head(template, entries, body_size, last_durations(fmt), padding)
    tracks = mp4.Mp4Tracks(scales_of(fmt), last_durations(fmt))
    return mp4.head(template, entries, body_size, tracks, padding)
