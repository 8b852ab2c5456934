"""A file that appears only when it is complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from encoder.errors import CutError


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Give a path to write to; what is there takes `target`'s place when the block ends well, else it goes.

    Raises CutError for what libav and the disk refuse.
    """
    partial = target.with_name(f".{target.name}.partial")
    try:
        yield partial
        _sync(partial)
        partial.rename(target)
    except (av.FFmpegError, OSError) as error:
        raise CutError(f"{target} could not be made: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
