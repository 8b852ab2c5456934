"""Media files that appear only when they are complete."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from recording_farm.encoder.atomic_file import atomic_file
from recording_farm.encoder.errors import CutError


@contextmanager
def atomic_media(target: Path) -> Iterator[Path]:
    """The same as `atomic_file`, but raise CutError for errors of libav and of the disk."""
    try:
        with atomic_file(target) as draft:
            yield draft
    except (av.FFmpegError, OSError) as error:
        raise CutError(f"{target} could not be made: {error}") from error
