"""Threads that must be on time run in real time, where the machine allows it.

A frame goes through a chain of short works: Chromium composes what the page draws, X copies, ffmpeg grabs;
sound goes through one of its own. Each begins when the one before wakes it. The scheduler lets whoever runs
go on for some milliseconds first, an encoder above all, and so now and then a chain does not end within its
frame. Figures, and how they were taken, are in `benchmarks/README.md`.

A page could misuse it: what runs in real time runs before all else on its processor. So a recording may use
less of a processor this way than the kernel would leave it; when it is more, what used most loses it for a
while: all threads of its kind, also those that the page makes meanwhile.

Who looks at that runs as usual, so a page could keep it from looking. The kernel leaves a twentieth of each
processor for such, if it is not told otherwise (sched(7), "Limiting the CPU usage"); where it is, nothing
runs in real time.
"""

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from recording_farm.browser_bot.stage.process_usage import processes_in_group

if TYPE_CHECKING:
    from recording_farm.browser_bot.stage.stage import Stage

logger = logging.getLogger(__name__)

PRIORITY: Final = os.sched_param(1)
"""The lowest priority: all of these threads share it, and what a machine has of its own comes before."""

REAL_TIME: Final = os.SCHED_RR | os.SCHED_RESET_ON_FORK
"""What they start is as any other, Chromium's helpers and the workers that draw a page above all."""

USUAL: Final = os.SCHED_OTHER | os.SCHED_RESET_ON_FORK

SECOND_NS: Final = 1_000_000_000
TICK_NS: Final = SECOND_NS // os.sysconf("SC_CLK_TCK")

MAX_NS: Final = 800_000_000
"""How much of a processor all threads of a recording may use this way, in a second. 720p30 takes 0.2 s."""

COUNT_NS: Final = 900_000_000
"""What is used is counted over so much time at least; a page may be busy for a moment."""

REST_NS: Final = 60_000_000_000
MAX_REST_NS: Final = 3600_000_000_000
"""For so long a kind that used too much runs as usual: each time twice as long as the time before."""

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

KERNEL: Final = Path("/proc/sys/kernel")


def is_limited() -> bool:
    """Whether the kernel leaves something of each processor to what does not run in real time."""
    files = KERNEL / "sched_rt_runtime_us", KERNEL / "sched_rt_period_us"
    try:
        runtime, period = (int(file.read_text()) for file in files)
    except (OSError, ValueError):
        return False
    return 0 < runtime < period  # -1 is without limit


def is_allowed() -> bool:
    """Whether threads may run in real time here; the calling thread is as usual afterwards."""
    if not is_limited():
        return False
    try:
        os.sched_setscheduler(0, REAL_TIME, PRIORITY)
    except OSError:  # EPERM of the kernel; a sandbox may answer EINVAL or ENOSYS
        return False
    os.sched_setscheduler(0, USUAL, os.sched_param(0))
    return True


class Thread(NamedTuple):
    """A thread that is in one of the chains, and its kind: what it loses together with others."""

    kind: str
    id: int


class RealTime:
    """Keeps the threads of one stage, and of the encoder that records it, on time."""

    def __init__(self, stage: "Stage") -> None:
        """Nothing is looked at yet."""
        self._stage = stage
        self._encoder: int | None = None
        self._used_ns: dict[Thread, int] = {}
        self._rest_ns: dict[str, int] = {}
        self._rests_until: dict[str, int] = {}
        self._counted_ns = self._scanned_ns = 0
        self._is_allowed = True
        self._looking = threading.Lock()
        if not is_limited():
            self._do_without()

    def look(self, encoder: int | None) -> None:
        """Look at what is used, and now and then for new threads; `encoder` is ffmpeg's pid while it records.

        Takes 1 ms, and 6 ms when it looks for new ones. Call it once a second.
        """
        # A machine that is too busy for one look in a second needs no two at once.
        if not self._looking.acquire(blocking=False):
            return
        try:
            self._look(encoder, time.monotonic_ns())
        finally:
            self._looking.release()

    def _look(self, encoder: int | None, now: int) -> None:
        self._hold_to(now)
        if self._is_allowed and (encoder != self._encoder or now - self._scanned_ns >= SCAN_NS):
            self._encoder, self._scanned_ns = encoder, now
            self._promote_new(now)

    def _promote_new(self, now: int) -> None:
        for thread in _urgent(self._stage, self._encoder):
            if thread in self._used_ns:
                continue
            if self._rests_until.get(thread.kind, 0) > now:
                # As root, Chromium puts its threads for sound into real time itself when they start.
                _run_as_usual(thread)
                continue
            try:
                # First: what cannot be counted could not be held to anything.
                used = used_ns(thread.id)
                os.sched_setscheduler(thread.id, REAL_TIME, PRIORITY)
            except (ProcessLookupError, FileNotFoundError):
                continue
            except OSError:
                self._do_without()
                return
            self._used_ns[thread] = used

    def _do_without(self) -> None:
        self._is_allowed = False
        logger.info(
            "threads may not run in real time here, so a busy machine loses frames sooner; "
            "`farm doctor` tells what to do"
        )

    def _hold_to(self, now: int) -> None:
        """Take the kinds that used most out if all together have used too much since it was last counted."""
        if now - self._counted_ns < COUNT_NS:
            return
        elapsed, self._counted_ns = now - self._counted_ns, now
        used = Counter[str]()
        for thread, before in list(self._used_ns.items()):
            try:
                self._used_ns[thread] = used_ns(thread.id)
                used[thread.kind] += self._used_ns[thread] - before
            except OSError:
                self._take_out(thread)  # most likely it has ended
        for kind in too_busy(used, elapsed):
            self._rest(kind, now)

    def _rest(self, kind: str, now: int) -> None:
        """Have a kind run as usual, also what there will be of it until its rest is over."""
        rest = self._rest_ns[kind] = next_rest(self._rest_ns.get(kind, 0))
        self._rests_until[kind] = now + rest
        logger.info("%s used too much of a processor: not in real time for %d s", kind, rest // SECOND_NS)
        for thread in [thread for thread in self._used_ns if thread.kind == kind]:
            self._take_out(thread)

    def _take_out(self, thread: Thread) -> None:
        del self._used_ns[thread]
        _run_as_usual(thread)


def _run_as_usual(thread: Thread) -> None:
    with suppress(OSError):
        os.sched_setscheduler(thread.id, USUAL, os.sched_param(0))


def too_busy(used: Mapping[str, int], elapsed: int) -> list[str]:
    """The kinds that are to lose it, those that used most, until the others are within bounds; all in ns."""
    busy, left = [], sum(used.values())
    for kind in sorted(used, key=used.__getitem__, reverse=True):
        if left * SECOND_NS <= MAX_NS * elapsed:
            break
        busy.append(kind)
        left -= used[kind]
    return busy


def next_rest(before: int) -> int:
    """How long a kind rests whose rest `before` was so long, in ns; 0 if there was none."""
    return min(max(REST_NS, 2 * before), MAX_REST_NS)


def _urgent(stage: "Stage", encoder: int | None) -> Iterator[Thread]:
    yield from (Thread("Xorg", thread) for thread in _threads(stage.display.server.pid))
    yield from (Thread("PulseAudio", thread) for thread in _threads(stage.audio.daemon.pid))
    for pid in processes_in_group(stage.browser.pid):
        kind = _kind(pid)
        urgent = CHROMIUM.get(kind, set())
        for thread in _threads(pid) if urgent else ():
            if _name(thread) in urgent:
                yield Thread(f"Chromium's {kind}", thread)
    if encoder is not None:
        yield from (Thread("ffmpeg", thread) for thread in inputs_of(encoder))


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


def used_ns(thread: int) -> int:
    """The processor time that a thread has used so far (proc(5)); in ticks, if there is no schedstat.

    Raises OSError when that cannot be told.
    """
    with suppress(FileNotFoundError):
        used, _, turns = map(int, Path(f"/proc/{thread}/schedstat").read_text().split())
        if turns:
            return used
    # Not /proc/THREAD/stat, which is about the whole process. The name, in brackets, may hold brackets.
    _, _, tail = Path(f"/proc/{thread}/task/{thread}/stat").read_text(errors="replace").rpartition(")")
    fields = tail.split()
    return (int(fields[11]) + int(fields[12])) * TICK_NS
