"""The progress of a growing cut, as another process or thread sees it."""

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from recording_farm.encoder.cut.growing_cut import read_saved_cut
from recording_farm.encoder.formats import SAMPLE_RATE, Format
from recording_farm.encoder.mux.body import LOG_NAME, scales_of
from recording_farm.encoder.mux.samples import ENTRY, Kind


@dataclass(frozen=True)
class CutProgress:
    """The body `identity` has `body_bytes`, up to the time `end_us` of the finished file.

    Its last take is `take`, which begins at `take_start_us`.
    """

    identity: str
    body_bytes: int
    end_us: int
    take: int
    take_start_us: int


def read_cut_progress(directory: Path, fmt: Format) -> CutProgress | None:
    """The progress of the growing cut in `directory`; None before the first state is saved."""
    saved = read_saved_cut(directory)
    if saved.join is None or not saved.join.joints:
        return None
    joint = saved.join.joints[-1]
    if fmt.audio_only is None:
        end = Fraction(saved.join.picture_end, fmt.timescale)
    else:
        end = saved.join.sound_end / SAMPLE_RATE
    return CutProgress(
        identity=saved.identity,
        body_bytes=saved.body_size,
        end_us=int(end * 1_000_000),
        take=joint.take or 0,
        take_start_us=joint.start_ns // 1000,
    )


def time_in_body(directory: Path, fmt: Format, offset: int) -> int:
    """The time in the finished file (µs) up to which the first `offset` bytes of the body are complete.

    Reads a few entries of the log, however long it is. Raises OSError.
    """
    scales = scales_of(fmt)
    with (directory / LOG_NAME).open("rb") as log:

        def entry(index: int) -> np.void:
            data = os.pread(log.fileno(), ENTRY.itemsize, index * ENTRY.itemsize)
            if len(data) < ENTRY.itemsize:
                raise OSError("the log of the cut has become shorter")
            return np.frombuffer(data, ENTRY)[0]  # type: ignore[no-any-return]

        low, high = 0, os.fstat(log.fileno()).st_size // ENTRY.itemsize
        while low < high:
            middle = (low + high) // 2
            if entry(middle)["offset"] < offset:
                low = middle + 1
            else:
                high = middle
        for index in range(low - 1, -1, -1):
            found = entry(index)
            kind = Kind(found["kind"])
            if kind is not Kind.CLUSTER:
                return max(0, int(found["pts"]) * 1_000_000 // scales[kind])
    return 0
