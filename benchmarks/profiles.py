"""Profiles: what each costs, in processors and bytes, on a page of the kind that it is for.

The pages are drawn by a script each (`benchmarks/pages/`): four talking heads with the grain of cameras, a
document that is written and scrolled, both beside each other, and a picture that moves all over.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.load import watch_usage
from benchmarks.recordings import record
from recording_farm.encoder.formats import Codec, Format, Profile
from testkit.machine.load import Stolen

SECONDS: Final = 40
PAGES: Final = Path(__file__).parent / "pages"


def run(directory: Path) -> Iterator[str]:
    """Record a page of its kind by each profile, in each format."""
    for codec in Codec:
        for profile in Profile:
            stolen = Stolen.from_now()
            fmt = Format(codec, profile=profile)
            page = f"file://{PAGES / profile.value}.html"
            recording = record(directory, fmt, SECONDS, page=page)
            (file, _), usage = asyncio.run(watch_usage(recording))
            bits = file.stat().st_size * 8 / SECONDS
            yield (
                f"{codec.value} {profile.value}: {bits / 1e6:.2f} Mbit/s, {bits * 450 / 1e6:.0f} MB an hour; "
                f"{usage.summary()}; steal {stolen.share():.1%}"
            )
