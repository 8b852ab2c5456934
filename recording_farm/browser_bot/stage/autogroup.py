"""The processor time of a session: the kernel's autogroups (sched(7), setsid(2)).

Where no control group divides the processors, the kernel divides them among sessions first, and then among
the threads of each: a page with a hundred busy threads gets as much as one encoder, if they are in different
sessions. A session has a nice value. Every user may raise it, and lower it again, down to 0:

    a recorder with its Xorg, PulseAudio, driver and ffmpeg   LOW until it records, then NORMAL
    Chromium                                                  LOW
    a worker's other parts and jobs                           LOW
    Redis and the API                                         as `farm up` was started

So an encoder, which must keep up, precedes all pages, and a stage that opens precedes none.
"""

import os
import time
from pathlib import Path
from typing import Final

NORMAL: Final = 0
LOW: Final = 4
"""Two fifths of NORMAL's share. Beside a page that allocates in four threads, an encoder lost 170 to 195
frames of 450 with 0, 14 with 3 and 7 with 5 (measured on 2 cores); but the higher, the later a busy machine
draws a page."""

_TRIES: Final = 20
_RETRY_SECONDS: Final = 0.1
"""The kernel accepts one change in this time, of all ordinary users together."""

_has_begun = False


def begin_session() -> None:
    """Make this process, which must lead no process group, the leader of a new session that is LOW.

    It leaves the terminal's process group too, as by setpgrp(2). Blocks 2 s at most.
    """
    global _has_begun
    os.setsid()
    _has_begun = True
    for _ in range(_TRIES):
        if not _file(os.getpid()).exists() or _set_nice(os.getpid(), LOW):
            return
        time.sleep(_RETRY_SECONDS)


def raise_session() -> None:
    """Make the session NORMAL that this process, or the one that forked it, has begun.

    The kernel may refuse it, see _RETRY_SECONDS, so call it again.
    """
    if _has_begun:
        _set_nice(os.getpid(), NORMAL)


def lower_session_of(pid: int) -> None:
    """Make the session of another process LOW, unless it is this process's own. Call it again too."""
    try:
        is_own = os.getsid(pid) == os.getsid(0)
    except ProcessLookupError:
        return
    if not is_own:
        _set_nice(pid, LOW)


def nice_of(pid: int) -> int | None:
    """Return the nice value of a process's session; None if it has ended, or without autogroups."""
    try:
        # "/autogroup-17 nice 0"; empty in the machine's first session
        return int(_file(pid).read_text().split()[-1])
    except (OSError, IndexError, ValueError):
        return None


def _set_nice(pid: int, nice: int) -> bool:
    """Return whether the session of a process has this nice value now."""
    if nice_of(pid) == nice:
        return True
    try:
        _file(pid).write_text(str(nice))
    except OSError:
        return False
    return True


def _file(pid: int) -> Path:
    return Path(f"/proc/{pid}/autogroup")
