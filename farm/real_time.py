"""Threads that must be on time run in real time, where the machine allows it.

A frame goes through a chain of short works: Chromium composes what the page draws, X copies, ffmpeg grabs;
sound goes through one of its own. Each begins when the one before wakes it. The scheduler lets whoever runs
go on for some milliseconds first, an encoder above all, and so now and then a chain does not end within its
frame. Figures, and how they were taken, are in `benchmarks/README.md`.

A page could misuse it: what runs in real time runs before all else on its processor. So a recording may use
less of a processor this way than the kernel would leave it; when it is more, what used most loses it for a
while.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from browser_bot.stage import Stage
from browser_bot.usage import group_of

logger = logging.getLogger(__name__)

# The lowest priority: all of these threads share it, and what a machine has of its own comes before.
PRIORITY: Final = os.sched_param(1)
# What they start is as any other, Chromium's helpers and the workers that draw a page above all.
REAL_TIME: Final = os.SCHED_RR | os.SCHED_RESET_ON_FORK
USUAL: Final = os.SCHED_OTHER | os.SCHED_RESET_ON_FORK

MOST: Final = 0.8
"""How much of a processor all threads of a recording may use this way, in a second. 720p30 takes 0.2."""

COUNT_NS: Final = 900_000_000
"""What is used is counted over so much time at least; a page may be busy for a moment."""

REST_NS: Final = 60_000_000_000
"""For so long a thread that used too much runs as usual."""

SCAN_NS: Final = 5_000_000_000
"""Between two looks for new threads: a page that is led on has a new process."""

CHROMIUM: Final = {
    "gpu-process": {"Chrome_ChildIOT", "VizCompositorTh"},
    "renderer": {"Chrome_ChildIOT", "Compositor", "AudioOutputDevi"},
    "audio.mojom.AudioService": {"Chrome_ChildIOT", "threaded-ml"},
}
"""What is in the chains, by the kind of process and the name of the thread (15 letters of it).

Never a first thread of Chromium's processes; a renderer's runs the page's scripts. In real time those were
seen to use both processors up for 0.9 s, half a minute after the start, and everything else stood still.
"""

INPUTS: Final = 2
"""ffmpeg reads each of its inputs in a thread; those at the gates have ended when a take runs."""


def is_allowed() -> bool:
    """Whether threads may run in real time here; the calling thread is as usual afterwards."""
    try:
        os.sched_setscheduler(0, REAL_TIME, PRIORITY)
    except PermissionError:
        return False
    os.sched_setscheduler(0, USUAL, os.sched_param(0))
    return True


class RealTime:
    """Keeps the threads of one stage, and of the encoder that records it, on time."""

    def __init__(self, stage: Stage) -> None:
        """Nothing is looked at yet."""
        self._stage = stage
        self._encoder: int | None = None
        self._used_ns: dict[int, int] = {}
        self._rests_until: dict[int, int] = {}
        self._counted_ns = self._scanned_ns = 0
        self._is_allowed = True
        self._looking = threading.Lock()

    def look(self, encoder: int | None) -> None:
        """Look at what is used, and now and then for new threads; `encoder` is ffmpeg's pid while it records.

        Takes 1 ms, and 6 ms when it looks for new ones. Call it once a second.
        """
        # A machine that is too busy for one look in a second needs no two at once.
        if not self._is_allowed or not self._looking.acquire(blocking=False):
            return
        try:
            self._look(encoder, time.monotonic_ns())
        finally:
            self._looking.release()

    def _look(self, encoder: int | None, now: int) -> None:
        self._hold_to(now)
        if encoder != self._encoder or now - self._scanned_ns >= SCAN_NS:
            self._encoder, self._scanned_ns = encoder, now
            for thread in _urgent(self._stage, encoder):
                if thread not in self._used_ns and self._rests_until.get(thread, 0) <= now:
                    self._promote(thread)

    def _promote(self, thread: int) -> None:
        try:
            os.sched_setscheduler(thread, REAL_TIME, PRIORITY)
            self._used_ns[thread] = _used_ns(thread)
        except PermissionError:
            self._is_allowed = False
            logger.info(
                "threads may not run in real time here, so a busy machine loses frames sooner; "
                "`farm doctor` tells what to do"
            )
        except (ProcessLookupError, FileNotFoundError):
            return

    def _hold_to(self, now: int) -> None:
        """Take the most used thread out if all together have used too much since it was last counted."""
        if now - self._counted_ns < COUNT_NS:
            return
        elapsed, self._counted_ns = now - self._counted_ns, now
        used = {}
        for thread, before in list(self._used_ns.items()):
            try:
                self._used_ns[thread] = _used_ns(thread)
            except (ProcessLookupError, FileNotFoundError):
                del self._used_ns[thread]
                continue
            used[thread] = self._used_ns[thread] - before
        most = most_used(used, elapsed)
        if most is not None:
            logger.info("thread %d used too much of a processor to go on in real time now", most)
            del self._used_ns[most]
            self._rests_until[most] = now + REST_NS
            with suppress(ProcessLookupError):
                os.sched_setscheduler(most, USUAL, os.sched_param(0))


def most_used(used: dict[int, int], elapsed: int) -> int | None:
    """The thread that is to lose it, if all together have used more than they may; all times in ns."""
    if sum(used.values()) <= MOST * elapsed:
        return None
    return max(used, key=used.__getitem__)


def _urgent(stage: Stage, encoder: int | None) -> Iterator[int]:
    yield from _threads(stage.display.server.pid)
    yield from _threads(stage.sound.daemon.pid)
    for pid in group_of(stage.browser.pid):
        urgent = CHROMIUM.get(_kind(pid), set())
        for thread in _threads(pid) if urgent else ():
            if _name(thread) in urgent:
                yield thread
    if encoder is not None:
        yield from inputs_of(encoder)


def inputs_of(encoder: int) -> Iterator[int]:
    """The threads of an ffmpeg that read sound and display.

    They come first after its main thread (ffmpeg 5.1 starts what filters and encodes when the first frame is
    there), but for one of PulseAudio's, which has its name. In ffmpeg 7 they have names of their own.
    """
    threads = [thread for thread in _threads(encoder) if thread != encoder]
    names = {thread: _name(thread) for thread in threads}
    yield from (thread for thread in threads if names[thread] == "threaded-ml")
    named = [thread for thread in threads if names[thread].startswith("dmx")]
    program = _name(encoder)
    yield from named or [thread for thread in threads if names[thread] == program][:INPUTS]


def _threads(pid: int) -> list[int]:
    """The threads of a process, in the order of their start; none of one that has ended."""
    try:
        return sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    except (FileNotFoundError, ProcessLookupError):
        return []


def _name(thread: int) -> str:
    return _read(Path(f"/proc/{thread}/comm")).strip()


def _kind(pid: int) -> str:
    """What kind of process of Chromium's it is, by its command line."""
    return kind_of(_read(Path(f"/proc/{pid}/cmdline")))


def kind_of(command: str) -> str:
    """The value of `--utility-sub-type`, or else of `--type`; nothing for Chromium's first process.

    Chromium's processes write their own command lines, with spaces between the words.
    """
    words = command.replace("\0", " ").split(" ")
    switches = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
    return switches.get("--utility-sub-type") or switches.get("--type", "")


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _used_ns(thread: int) -> int:
    """The processor time that a thread has used so far (proc(5), schedstat)."""
    return int(Path(f"/proc/{thread}/schedstat").read_text().split()[0])
