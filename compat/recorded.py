"""What clients of the farm have recorded."""

from pathlib import Path
from typing import Any, Final

import av
import httpx
import numpy as np

from testkit.browser_bot.people import RGB

TOLERANCE: Final = 30
"""Per channel: cameras and encoders change a color a little."""


def download(recording: dict[str, Any], directory: Path) -> Path:
    """Its file, brought by its link."""
    file = directory / str(recording["output_file_name"])
    file.write_bytes(httpx.get(recording["download_url"], timeout=60).raise_for_status().content)
    return file


def share_of(file: Path, color: RGB) -> float:
    """The share of a color in the last frame of a recording."""
    with av.open(str(file)) as source:
        *_, last = source.decode(source.streams.video[0])
    pixels = last.to_ndarray(format="rgb24").astype(int)
    return float((np.abs(pixels - np.array(color)).max(axis=2) <= TOLERANCE).mean())
