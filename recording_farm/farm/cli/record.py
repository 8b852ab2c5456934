"""One recording by the operator's own hand: no service, no Redis, the file beside where it was asked for."""

import asyncio
import logging
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from recording_farm.encoder.cut.cut import CutFile
from recording_farm.encoder.errors import CutError
from recording_farm.encoder.journal import Journal
from recording_farm.encoder.media.probe import Media, probe
from recording_farm.farm.errors import RecordingFailedError
from recording_farm.farm.recorder.listener import Listener, Outcome
from recording_farm.farm.recorder.plan import Plan
from recording_farm.farm.recorder.recorder import Recorder
from recording_farm.farm.recording.commands import Order
from recording_farm.farm.recording.findings import Tally, read_tally
from recording_farm.farm.spool.spool import Spool

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 0.5


@dataclass(frozen=True)
class Report:
    """What came of a recording; `start_latency_ns` is from the call to the first frame, or sound."""

    file: CutFile
    media: Media
    outcome: Outcome
    start_latency_ns: int
    tally: Tally

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints; durations in seconds."""
        return {
            "path": str(self.file.path),
            "duration": self.media.duration_us / 1e6,
            "streams": [
                {key: value for key, value in asdict(stream).items() if value is not None}
                for stream in self.media.streams
            ],
            "frames_captured": self.file.frames,
            "frames_lost": self.file.lost,
            "bytes": self.media.bytes,
            "takes": self.file.takes,
            "start_latency": self.start_latency_ns / 1e9,
            "reason": self.outcome.reason.value,
            "fault": self.outcome.fault,
            **self.tally.as_json(),
        }

    def in_words(self) -> str:
        """The same for people."""
        streams = ", ".join(stream.in_words() for stream in self.media.streams)
        fault = f"\nended by a fault: {self.outcome.fault}" if self.outcome.fault else ""
        frames = f", {self.file.frames} frames, {self.file.lost} lost" if self.file.frames else ""
        return (
            f"{self.file.path}: {self.media.duration_us / 1e6:.1f} s, {streams}, "
            f"{self.media.bytes / 1e6:.1f} MB{frames}{fault}"
        )


class _StartClock(Listener):
    """Listens for the moment of the first frame, or sound."""

    def __init__(self) -> None:
        self._called_ns = time.monotonic_ns()
        self.latency_ns = 0

    async def recording(self, take: Journal) -> None:
        if not self.latency_ns:
            self.latency_ns = take.monotonic_us * 1000 - self._called_ns


async def record_once(plan: Plan, target: Path, *, show_progress: bool = True) -> Report:
    """Record one page into `target`. SIGINT and SIGTERM end it properly and keep the file.

    Raises RecordingFailedError when no playable file came of it. The takes then stay beside `target` if there
    are any, and what there is to look at in `target`.evidence.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the finished file only needs to be renamed.
    spool = Spool(Path(tempfile.mkdtemp(prefix=f".{target.name}.takes-", dir=target.parent)), plan.format)
    evidence = target.with_name(f"{target.name}.evidence")
    clock = _StartClock()
    recorder = Recorder(plan, spool, evidence, _no_orders(), clock)
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sign, recorder.stop)
    showing = asyncio.create_task(_show_progress(recorder)) if show_progress else None
    try:
        outcome = await recorder.run()
    finally:
        if showing is not None:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
    if not spool.takes():
        spool.remove()
        seen = f"; what the page showed is in {evidence}" if evidence.exists() else ""
        raise RecordingFailedError(f"{outcome.fault or 'stopped before the recording had begun'}{seen}")
    try:
        file = await asyncio.to_thread(spool.cut, spool.directory / target.name)
        file = await asyncio.to_thread(_put, file, target)
        media = await asyncio.to_thread(probe, target)
    except CutError as error:
        raise RecordingFailedError(
            f"{outcome.fault or error}; the takes are kept in {spool.directory}"
        ) from error
    tally = read_tally(spool.directory)
    spool.remove()
    return Report(file, media, outcome, clock.latency_ns, tally)


def _put(file: CutFile, target: Path) -> CutFile:
    file.path.replace(target)
    return CutFile(**{**asdict(file), "path": target})


async def _no_orders() -> AsyncIterator[Order]:
    return
    yield


async def _show_progress(recorder: Recorder) -> None:
    """A line on the terminal that is kept up to date; without a terminal, nothing."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return
    with Live(console=console, transient=True, auto_refresh=False) as live:
        while True:
            live.update(Text(progress_line(recorder)), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)


def progress_line(recorder: Recorder) -> str:
    """Time, frames if there is a picture, speed and size so far."""
    takes = recorder.takes
    if takes is None or not recorder.recorded_ns:
        return "opening the page …"
    minutes, seconds = divmod(recorder.recorded_ns // 1_000_000_000, 60)
    frames = f"{takes.frames} frames  " if takes.frames else ""
    return (
        f"recording {minutes:02d}:{seconds:02d}  {frames}"
        f"speed {takes.speed:.2f}  {takes.bytes / 1e6:.1f} MB  Ctrl-C ends it"
    )
