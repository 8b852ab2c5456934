"""How often a recording's recorder died: stored in its spool, because the process that counts may die too."""

import json
import time
from contextlib import suppress
from typing import Final

from recording_farm.encoder.atomic_file import write_file
from recording_farm.farm.spool.spool import Spool

MAX_BREAKS: Final = 3
BREAK_SECONDS: Final = 300
"""So many breaks within so many seconds have a cause that another restart does not fix."""


def breaks_too_often(spool: Spool) -> bool:
    """Record a break; returns whether it is the third one in five minutes.

    Breaks with a time in the future, from before the clock was set back, do not count.
    """
    file = spool.directory / "breaks.json"
    try:
        breaks = [float(moment) for moment in json.loads(file.read_text())]
    except (OSError, ValueError, TypeError):
        breaks = []
    present = time.time()
    breaks = [*(moment for moment in breaks if moment <= present), present][-MAX_BREAKS:]
    with suppress(OSError):  # a full disk must not end the recording here
        write_file(file, json.dumps(breaks))
    return len(breaks) == MAX_BREAKS and breaks[-1] - breaks[0] < BREAK_SECONDS
