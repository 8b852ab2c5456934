"""What was tried, and what came of it."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from tests.people import RGB

# Per channel: encoders and cameras change a color a little.
_TOLERANCE = 30


@dataclass(frozen=True)
class Tried:
    """One thing that others wrote: its version, whether it works with the farm, and how that was seen."""

    name: str
    version: str
    works: bool
    seen: str

    def row(self) -> str:
        """As a row of a table in Markdown."""
        return f"| {self.name} | {self.version} | {'works' if self.works else 'FAILS'} | {self.seen} |"


def debian_version(package: str) -> str:
    """The version of an installed package of Debian's. Raises CalledProcessError when it is not installed."""
    query = ["dpkg-query", "-W", "-f", "${Version}", package]
    return subprocess.run(query, check=True, capture_output=True, text=True, timeout=30).stdout


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Wait until something is so. Raises TimeoutError, naming it."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


def share_of(file: Path, color: RGB) -> float:
    """The share of a color in the last frame of a recording."""
    with av.open(str(file)) as source:
        *_, last = source.decode(source.streams.video[0])
    pixels = last.to_ndarray(format="rgb24").astype(int)
    return float((np.abs(pixels - np.array(color)).max(axis=2) <= _TOLERANCE).mean())
