"""A program that records a stage opened by another process, and begins a new take after each fault.

Its arguments are the fields of a Source, the directory, the codec and the number of the first take. It prints
a line of JSON for each take that has begun, with the fault before it, and ends when its input does.
"""

import asyncio
import json
import sys
from pathlib import Path

from recording_farm.encoder.formats import Codec, Format
from recording_farm.encoder.takes.command import Source
from recording_farm.encoder.takes.sequence import TakeSequence

SIZE = (640, 360)


async def record(source: Source, directory: Path, codec: Codec, first: int) -> None:
    takes = TakeSequence(source, directory, Format(codec, *SIZE), first)
    over = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    fault = None
    while not over.done():
        journal = await takes.begin()
        print(json.dumps({"number": journal.number, "fault": fault}), flush=True)
        death = asyncio.ensure_future(takes.died())
        await asyncio.wait((death, over), return_when=asyncio.FIRST_COMPLETED)
        if death.done():
            fault = type(death.result()).__name__
        death.cancel()
        await takes.end()
    await takes.close()


if __name__ == "__main__":
    display, authority, server, pulse, directory, codec, first = sys.argv[1:]
    source = Source(display, Path(authority), server, pulse)
    asyncio.run(record(source, Path(directory), Codec(codec), int(first)))
