"""Parses the progress of a running ffmpeg (-progress): blocks of `key=value` lines."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One block: frames encoded so far, and µs of the file behind what the first block had that had any."""

    frames: int = 0
    out_us: int = 0


def parse_progress(lines: Iterable[str]) -> Progress:
    """The values of one block's lines; unknown ones (`N/A`) count as 0."""
    values = dict(line.strip().split("=", 1) for line in lines if "=" in line)
    return Progress(
        frames=_whole(values.get("frame")),
        out_us=_whole(values.get("out_time_us")),
    )


def _whole(text: str | None) -> int:
    return int(text) if text is not None and text.strip().isdigit() else 0


async def read_progress(stream: asyncio.StreamReader) -> AsyncIterator[Progress]:
    """The blocks of a stream as they come, until it ends."""
    block: list[str] = []
    async for raw in stream:
        line = raw.decode(errors="replace")
        block.append(line)
        if line.startswith("progress="):
            yield parse_progress(block)
            block = []
