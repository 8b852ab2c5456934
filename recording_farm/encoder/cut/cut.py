"""The cut: concatenates the takes of a recording into one finished file, without re-encoding."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import av

from recording_farm.encoder.cut.growing_cut import CutFile, GrowingCut
from recording_farm.encoder.cut.joiner import TakeMedia
from recording_farm.encoder.errors import CutError
from recording_farm.encoder.formats import Format
from recording_farm.encoder.media.partial_file import open_take

logger = logging.getLogger(__name__)


def cut(takes: Sequence[TakeMedia], target: Path, fmt: Format, title: str | None = None) -> CutFile:
    """Join `takes`, in order, into `target`, which appears only when it is complete.

    The file contains the start time of the first take and the `title`. Takes without a whole frame are left
    out. Raises NothingRecordedError when nothing is left, CutError when the disk fails.
    """
    directory = target.with_name(f".{target.name}.cut")
    shutil.rmtree(directory, ignore_errors=True)
    try:
        growing = GrowingCut(directory, fmt)
        try:
            for take in takes:
                _add(take, growing)
            return growing.finish(target, title)
        finally:
            growing.close()
    except (av.FFmpegError, OSError) as error:
        raise CutError(f"{target} could not be made: {error}") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _add(take: TakeMedia, growing: GrowingCut) -> None:
    try:
        with open_take(take.path) as source:
            growing.add(take, source)
    except av.FFmpegError as error:
        logger.warning("take %s is broken and is left out: %s", take.path.name, error.strerror)
