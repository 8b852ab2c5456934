"""Films that the tests look at: recordings' files."""

from pathlib import Path

import av


def decoded_seconds(film: Path) -> float:
    """The length of a film, each frame of which is decoded to see that it can be."""
    with av.open(str(film)) as file:
        for _ in file.decode(video=0):
            pass
        assert file.duration is not None
        return file.duration / 1e6
