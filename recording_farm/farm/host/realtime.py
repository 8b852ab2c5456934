"""Real-time scheduling of latency-critical threads, where the machine allows it.

A frame passes a chain of short tasks: Chromium composites the page, X copies it, ffmpeg grabs it; audio has a
chain of its own. Each task is woken by the one before. The normal scheduler lets a running thread, above all
an encoder, continue for some milliseconds first, so that a chain sometimes misses its frame. Measurements are
in `benchmarks/README.md`.

A page could misuse this, because real-time threads preempt all others on their processor. So the real-time
processor use of a recording is limited, below the kernel's own limit. Above it, the thread kinds that used
most lose their priority for a while, including new threads of the same kind.

The code that enforces this runs with normal priority, so a page could starve it. By default the kernel
reserves a twentieth of each processor for normal threads (sched(7), "Limiting the CPU usage"); without that
reserve, nothing runs in real time.
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
"""The lowest real-time priority: the machine's own real-time threads take precedence."""

REAL_TIME: Final = os.SCHED_RR | os.SCHED_RESET_ON_FORK
"""Not inherited: threads that these start, such as Chromium's raster workers, have normal priority."""

NORMAL: Final = os.SCHED_OTHER | os.SCHED_RESET_ON_FORK

SECOND_NS: Final = 1_000_000_000
TICK_NS: Final = SECOND_NS // os.sysconf("SC_CLK_TCK")

MAX_NS: Final = 800_000_000
"""Limit of real-time processor use per second, of all threads of a recording. 720p30 uses 0.2 s."""

COUNT_NS: Final = 900_000_000
"""Minimum measuring interval, so that a short burst is tolerated."""

REST_NS: Final = 60_000_000_000
MAX_REST_NS: Final = 3600_000_000_000
"""Limits of the exponential backoff of a thread kind that used too much."""

SCAN_NS: Final = 5_000_000_000
"""Interval of the scan for new threads: a page that navigates may get a new process."""

CHROMIUM: Final = {
    "gpu-process": {"Chrome_ChildIOT", "VizCompositorTh"},
    "renderer": {"Chrome_ChildIOT", "Compositor", "AudioOutputDevi"},
    "audio.mojom.AudioService": {"Chrome_ChildIOT", "threaded-ml"},
}
"""The latency-critical threads by kind of process and name of thread (15 characters of it).

Never the main thread of a process; a renderer's runs the page's scripts. In real time, these were seen to
block both processors for 0.9 s, half a minute after the start.
"""

INPUTS: Final = 2
"""ffmpeg reads each input in its own thread; the gates' threads have exited once a take runs."""

KERNEL: Final = Path("/proc/sys/kernel")


def is_limited() -> bool:
    """Whether the kernel reserves processor time for normal threads."""
    files = KERNEL / "sched_rt_runtime_us", KERNEL / "sched_rt_period_us"
    try:
        runtime, period = (int(file.read_text()) for file in files)
    except (OSError, ValueError):
        return False
    return 0 < runtime < period  # -1 means no limit


def is_allowed() -> bool:
    """Whether real-time scheduling is permitted; the calling thread ends up with normal priority."""
    if not is_limited():
        return False
    try:
        os.sched_setscheduler(0, REAL_TIME, PRIORITY)
    except OSError:  # EPERM from the kernel; a sandbox may return EINVAL or ENOSYS
        return False
    os.sched_setscheduler(0, NORMAL, os.sched_param(0))
    return True


class Thread(NamedTuple):
    """A latency-critical thread and its kind, which shares one budget."""

    kind: str
    id: int


class RealTime:
    """Schedules the threads of one stage and of its encoder in real time."""

    def __init__(self, stage: "Stage") -> None:
        """Nothing is scheduled yet."""
        self._stage = stage
        self._encoder: int | None = None
        self._used_ns: dict[Thread, int] = {}
        self._rest_ns: dict[str, int] = {}
        self._rests_until: dict[str, int] = {}
        self._counted_ns = self._scanned_ns = 0
        self._is_allowed = True
        self._looking = threading.Lock()
        if not is_limited():
            self._disable()

    def look(self, encoder: int | None) -> None:
        """Enforce the limit and periodically scan for threads; `encoder` is ffmpeg's pid while it records.

        Takes 1 ms, or 6 ms with a scan. Call it once a second.
        """
        # On an overloaded machine, do not run two of these at once.
        if not self._looking.acquire(blocking=False):
            return
        try:
            self._look(encoder, time.monotonic_ns())
        finally:
            self._looking.release()

    def _look(self, encoder: int | None, now: int) -> None:
        self._enforce_limit(now)
        if self._is_allowed and (encoder != self._encoder or now - self._scanned_ns >= SCAN_NS):
            self._encoder, self._scanned_ns = encoder, now
            self._promote_new(now)

    def _promote_new(self, now: int) -> None:
        for thread in _urgent(self._stage, self._encoder):
            if thread in self._used_ns:
                continue
            if self._rests_until.get(thread.kind, 0) > now:
                # As root, Chromium itself starts its audio threads in real time.
                _demote(thread)
                continue
            try:
                # First: a thread that cannot be measured could not be limited.
                used = used_ns(thread.id)
                os.sched_setscheduler(thread.id, REAL_TIME, PRIORITY)
            except (ProcessLookupError, FileNotFoundError):
                continue
            except OSError:
                self._disable()
                return
            self._used_ns[thread] = used

    def _disable(self) -> None:
        self._is_allowed = False
        logger.info(
            "real-time scheduling is not permitted, so a busy machine loses frames sooner; see `farm doctor`"
        )

    def _enforce_limit(self, now: int) -> None:
        """Demote the kinds that used most if all together used too much since the last measurement."""
        if now - self._counted_ns < COUNT_NS:
            return
        elapsed, self._counted_ns = now - self._counted_ns, now
        used = Counter[str]()
        for thread, before in list(self._used_ns.items()):
            try:
                self._used_ns[thread] = used_ns(thread.id)
                used[thread.kind] += self._used_ns[thread] - before
            except OSError:
                self._remove(thread)  # it has probably exited
        for kind in too_busy(used, elapsed):
            self._rest(kind, now)

    def _rest(self, kind: str, now: int) -> None:
        """Demote all threads of a kind, including new ones, until its backoff is over."""
        rest = self._rest_ns[kind] = next_rest(self._rest_ns.get(kind, 0))
        self._rests_until[kind] = now + rest
        logger.info(
            "%s used too much processor time: no real-time scheduling for %d s", kind, rest // SECOND_NS
        )
        for thread in [thread for thread in self._used_ns if thread.kind == kind]:
            self._remove(thread)

    def _remove(self, thread: Thread) -> None:
        del self._used_ns[thread]
        _demote(thread)


def _demote(thread: Thread) -> None:
    with suppress(OSError):
        os.sched_setscheduler(thread.id, NORMAL, os.sched_param(0))


def too_busy(used: Mapping[str, int], elapsed: int) -> list[str]:
    """The kinds to demote, heaviest first, until the others are within the limit; all in ns."""
    busy, left = [], sum(used.values())
    for kind in sorted(used, key=used.__getitem__, reverse=True):
        if left * SECOND_NS <= MAX_NS * elapsed:
            break
        busy.append(kind)
        left -= used[kind]
    return busy


def next_rest(before: int) -> int:
    """The next backoff of a kind after the backoff `before` (0 if there was none), in ns."""
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
    """The threads of an ffmpeg that read audio and display.

    In ffmpeg 5.1 they are the first after the main thread (filters and encoders start with the first frame),
    except for PulseAudio's, which is found by name. In ffmpeg 7 they have names of their own.
    """
    threads = [thread for thread in _threads(encoder) if thread != encoder]
    names = {thread: _name(thread) for thread in threads}
    yield from (thread for thread in threads if names[thread] == "threaded-ml")
    named = [thread for thread in threads if names[thread].startswith("dmx")]
    program = _name(encoder)
    yield from named or [thread for thread in threads if names[thread] == program][:INPUTS]


def _threads(pid: int) -> list[int]:
    """The threads of a process in the order of their start; none if it has exited."""
    try:
        return sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    except (FileNotFoundError, ProcessLookupError):
        return []


def _name(thread: int) -> str:
    return _read(Path(f"/proc/{thread}/comm")).strip()


def _kind(pid: int) -> str:
    """The kind of a Chromium process, from its command line."""
    return kind_of(_read(Path(f"/proc/{pid}/cmdline")))


def kind_of(command: str) -> str:
    """The value of `--utility-sub-type`, or else of `--type`; empty for Chromium's browser process.

    Chromium's processes rewrite their command lines with spaces between the arguments.
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
    """The processor time of a thread so far in ns (proc(5)), with the resolution of a tick without schedstat.

    Raises OSError when it is not readable.
    """
    with suppress(FileNotFoundError):
        used, _, turns = map(int, Path(f"/proc/{thread}/schedstat").read_text().split())
        if turns:
            return used
    # Not /proc/THREAD/stat, which is about the whole process. The name, in brackets, may contain brackets.
    _, _, tail = Path(f"/proc/{thread}/task/{thread}/stat").read_text(errors="replace").rpartition(")")
    fields = tail.split()
    return (int(fields[11]) + int(fields[12])) * TICK_NS
