"""The body of a file that is being written, with the log of its samples."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from recording_farm.encoder.formats import SAMPLE_RATE, Format
from recording_farm.encoder.mux import mp4, webm
from recording_farm.encoder.mux.checksums import GrowingChecksums, SavedChecksums
from recording_farm.encoder.mux.open_file import opened_at
from recording_farm.encoder.mux.samples import ENTRY, Kind, Sample, append_entries

BODY_NAME: Final = "body"
LOG_NAME: Final = "samples"
CHECKSUMS_NAME: Final = "checksums"
STREAMS_NAME: Final = "streams"


_CACHED_BYTES: Final = 32 << 20
"""The end of a body that stays in the page cache, because the senders of parts read it."""


def is_webm(fmt: Format) -> bool:
    """Whether the finished file is WebM; else it is MP4."""
    return fmt.take_suffix == ".webm"


def scales_of(fmt: Format) -> dict[Kind, int]:
    """Units of time in a second, by kind of track."""
    if is_webm(fmt):
        return {Kind.VIDEO: 1000, Kind.AUDIO: 1000}
    audio = {Kind.AUDIO: SAMPLE_RATE}
    return audio if fmt.audio_only is not None else {Kind.VIDEO: fmt.timescale} | audio


class Body:
    """Appends samples to a body, in groups: chunks of MP4, clusters of WebM.

    `size` and `entries` count the groups that are written.
    """

    def __init__(
        self,
        directory: Path,
        fmt: Format,
        size: int = 0,
        entries: int = 0,
        checksums: SavedChecksums | None = None,
    ) -> None:
        """Continue the files in `directory` at these sizes; anything behind is dropped."""
        self._is_webm = is_webm(fmt)
        self._scales = scales_of(fmt)
        self._pending: list[Sample] = []
        self.size = size
        self.entries = entries
        self._uncached = 0
        with ExitStack() as opened:
            self._body = opened.enter_context(opened_at(directory / BODY_NAME, size))
            self._log = opened.enter_context(opened_at(directory / LOG_NAME, entries * ENTRY.itemsize))
            self.checksums = GrowingChecksums(directory / CHECKSUMS_NAME, checksums)
            opened.pop_all()

    def begins_group(self, sample: Sample) -> bool:
        """Whether a sample is the first of the next group."""
        if not self._pending:
            return False
        first = self._pending[0]
        since_ms = (
            1000
            * (sample.pts * self._scales[first.kind] - first.pts * self._scales[sample.kind])
            // (self._scales[first.kind] * self._scales[sample.kind])
        )
        if not self._is_webm:
            return since_ms >= mp4.CHUNK_MS
        is_key = sample.kind is Kind.VIDEO and sample.is_key
        return since_ms >= webm.MAX_CLUSTER_MS or (is_key and since_ms > 0)

    def add(self, sample: Sample) -> None:
        """Append a sample to the group."""
        self._pending.append(sample)

    def flush(self) -> None:
        """Write the group. Raises OSError."""
        if not self._pending:
            return
        pack = webm.pack if self._is_webm else mp4.pack
        data, entries = pack(self._pending, self.size)
        self._pending.clear()
        self._body.write(data)
        append_entries(self._log, entries)
        self.checksums.update(data)
        self.size += len(data)
        self.entries += len(entries)
        self._uncache()

    def _uncache(self) -> None:
        """Let the kernel drop old pages now: moving a body behind its head would drop all of them, 0.1 s a
        GB."""
        if self.size >= self._uncached + 2 * _CACHED_BYTES:
            self._uncached = self.size - _CACHED_BYTES
            os.posix_fadvise(self._body.fileno(), 0, self._uncached, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        """Wait until all that is written is on the disk. Raises OSError."""
        os.fsync(self._body.fileno())
        os.fsync(self._log.fileno())

    def close(self) -> None:
        """Close the files. A group that is not flushed is dropped."""
        self._body.close()
        self._log.close()
        self.checksums.close()
