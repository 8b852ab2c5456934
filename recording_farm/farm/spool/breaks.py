"""How often a recording broke: noted in its spool, because whoever noted the last break may be dead."""

import json
import time
from contextlib import suppress
from typing import Final

from recording_farm.encoder.atomic_file import write_file
from recording_farm.farm.spool.spool import Spool

MAX_BREAKS: Final = 3
BREAK_SECONDS: Final = 300
"""A recording that breaks so often within so many seconds has a reason that a new start does not cure."""


def breaks_too_often(spool: Spool) -> bool:
    """Note that the recording broke now; whether that is the third time in five minutes.

    What was noted before the clock was set back does not count: nobody knows how long ago it was.
    """
    file = spool.directory / "breaks.json"
    try:
        breaks = [float(moment) for moment in json.loads(file.read_text())]
    except (OSError, ValueError, TypeError):
        breaks = []
    present = time.time()
    breaks = [*(moment for moment in breaks if moment <= present), present][-MAX_BREAKS:]
    with suppress(OSError):  # a full disk must not end the recording here, nor what it knows be lost
        write_file(file, json.dumps(breaks))
    return len(breaks) == MAX_BREAKS and breaks[-1] - breaks[0] < BREAK_SECONDS
