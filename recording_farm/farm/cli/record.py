"""`farm record`: one recording without a service and without Redis, into a file that the user names."""

import asyncio
import shutil
import signal
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.stage.environment import Environment
from recording_farm.encoder.cut.growing_cut import CutFile
from recording_farm.encoder.errors import CutError
from recording_farm.encoder.journal import Journal
from recording_farm.encoder.media.probe import Media, probe
from recording_farm.farm.cli.record_options import access_of, format_of
from recording_farm.farm.config.settings import load_settings
from recording_farm.farm.errors import RecordingFailedError
from recording_farm.farm.host.ca_file import nss_database
from recording_farm.farm.host.programs import require_programs
from recording_farm.farm.recorder.listener import EndReason, Listener, Outcome
from recording_farm.farm.recorder.monitor import Limits
from recording_farm.farm.recorder.plan import Plan
from recording_farm.farm.recorder.recorder import Recorder
from recording_farm.farm.recording.commands import Command
from recording_farm.farm.recording.findings import Tally, read_tally
from recording_farm.farm.spool.spool import Spool

REFRESH_SECONDS = 0.5

_LEAST_DISK: Final = 64 << 20
"""Free bytes, besides those that the file needs, below which a recording does not start, and ends."""

_END_REASONS: Final = {
    EndReason.DISK_FULL: "ended early: the disk is nearly full",
    EndReason.ALL_PEERS_LEFT: "ended: all participants have left",
    EndReason.PAGE_ENDED: "ended: the page said that it is over",
}
"""Ends that neither the user nor `--seconds` asked for, in words."""


@dataclass(frozen=True)
class Report:
    """The result of a recording; `start_latency_ns` is from the call to the first frame, or audio."""

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
        """The same as text."""
        streams = ", ".join(stream.in_words() for stream in self.media.streams)
        end = _END_REASONS.get(self.outcome.reason)
        if self.outcome.fault:
            end = f"ended by a fault: {self.outcome.fault}"
        frames = f", {self.file.frames} frames, {self.file.lost} lost" if self.file.frames else ""
        return (
            f"{self.file.path}: {self.media.duration_us / 1e6:.1f} s, {streams}, "
            f"{self.media.bytes / 1e6:.1f} MB{frames}" + (f"\n{end}" if end else "")
        )


class _StartClock(Listener):
    """Notes the time of the first frame, or audio."""

    def __init__(self) -> None:
        self._called_ns = time.monotonic_ns()
        self.latency_ns = 0

    async def recording(self, take: Journal) -> None:
        if not self.latency_ns:
            self.latency_ns = take.monotonic_us * 1000 - self._called_ns


def record_file(
    url: str,
    out: Path,
    *,
    force: bool,
    seconds: float | None,
    codec: str | None,
    size: tuple[int, int],
    fps: int,
    contract: str,
    locale: str | None,
    timezone: str | None,
    http_credentials: str | None,
    headers: Sequence[str],
    cookies: Sequence[str],
    show_progress: bool,
) -> Report:
    """Record as the options of `farm record` say.

    Raises click.BadParameter, ProgramMissingError, SettingsError, and RecordingFailedError as `record_once`.
    """
    settings = load_settings()
    access = access_of(http_credentials, headers, cookies)
    file_format = format_of(out, codec, size, fps)
    out = out.absolute()
    if out.exists() and not force:
        raise click.BadParameter(f"{out} exists already; overwrite it with --force", param_hint="--out")
    require_programs()
    plan = Plan(
        url=url,
        access=access,
        secrets=tuple(access.secrets),
        format=file_format,
        contract=PageContract(contract),
        max_seconds=seconds,
        chromium=settings.chromium,
        environment=Environment(
            settings.fake_devices, locale or settings.locale, timezone or settings.timezone
        ),
        authorities=nss_database(settings.ca_file, settings.data_dir),
        limits=Limits(_LEAST_DISK, settings.empty_seconds),
        stage_limits=settings.stage_limits,
        join_seconds=settings.join_seconds,
        join_tries=settings.join_tries,
    )
    return asyncio.run(record_once(plan, out, show_progress=show_progress))


async def record_once(plan: Plan, target: Path, *, show_progress: bool = True) -> Report:
    """Record one page into `target`. SIGINT and SIGTERM end it properly and keep the file.

    Raises RecordingFailedError when there is no playable file. The takes then stay beside `target` if there
    are any, and the evidence of the fault is in `target`.evidence.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _require_disk(target.parent)
        # Beside the target, so that the finished file only needs to be renamed. Named by a UUID like a spool,
        # so that the monitor counts the disk space that the cut needs.
        directory = target.with_name(f".{target.name}.takes-{uuid4()}")
        directory.mkdir(mode=0o700)
    except OSError as error:
        raise RecordingFailedError(f"cannot write to {target.parent}: {error.strerror}") from None
    spool = Spool(directory, plan.format)
    evidence = target.with_name(f"{target.name}.evidence")
    clock = _StartClock()
    recorder = Recorder(plan, spool, evidence, _no_commands(), clock)
    progress = _Progress(recorder)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        progress.is_ending = True
        recorder.stop()

    for sign in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sign, stop)
    showing = asyncio.create_task(progress.show()) if show_progress else None
    try:
        outcome = await recorder.run()
        progress.is_ending = True
        return await _finish(spool, target, evidence, outcome, clock)
    except OSError as error:
        raise RecordingFailedError(
            f"cannot write to {target.parent}: {error.strerror}; the takes are kept in {directory}"
        ) from None
    finally:
        if showing is not None:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)


async def _finish(spool: Spool, target: Path, evidence: Path, outcome: Outcome, clock: _StartClock) -> Report:
    if not spool.takes():
        spool.remove()
        reason = outcome.fault or "stopped before the recording had started"
        seen = f"; screenshot and logs are in {evidence}" if outcome.fault and _exists(evidence) else ""
        raise RecordingFailedError(f"{reason}{seen}")
    try:
        file = await asyncio.to_thread(spool.cut, spool.directory / target.name)
        file = await asyncio.to_thread(_move, file, target)
        media = await asyncio.to_thread(probe, target)
    except CutError as error:
        reason = outcome.fault or str(error)
        raise RecordingFailedError(f"{reason}; the takes are kept in {spool.directory}") from error
    tally = read_tally(spool.directory)
    spool.remove()
    return Report(file, media, outcome, clock.latency_ns, tally)


def _exists(path: Path) -> bool:
    return path.exists()


def _require_disk(directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    if free < _LEAST_DISK:
        raise RecordingFailedError(
            f"not enough disk space in {directory}: {free >> 20} MiB free, {_LEAST_DISK >> 20} MiB needed"
        )


def _move(file: CutFile, target: Path) -> CutFile:
    file.path.replace(target)
    return CutFile(**{**asdict(file), "path": target})


async def _no_commands() -> AsyncIterator[Command]:
    return
    yield


class _Progress:
    """A line on the terminal that is kept up to date; nothing without a terminal."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.is_ending = False

    async def show(self) -> None:
        """Show it until cancelled."""
        console = Console(stderr=True)
        if not console.is_terminal:
            return
        with Live(console=console, transient=True, auto_refresh=False) as live:
            while True:
                live.update(Text(progress_line(self._recorder, is_ending=self.is_ending)), refresh=True)
                await asyncio.sleep(REFRESH_SECONDS)


def progress_line(recorder: Recorder, *, is_ending: bool = False) -> str:
    """Time, frames if there is video, speed and size so far."""
    takes = recorder.takes
    if is_ending:
        return "finishing the file …" if recorder.recorded_ns else "ending …"
    if takes is None or not recorder.recorded_ns:
        return "opening the page …"
    minutes, seconds = divmod(recorder.recorded_ns // 1_000_000_000, 60)
    frames = f"{takes.frames} frames  " if takes.frames else ""
    return (
        f"recording {minutes:02d}:{seconds:02d}  {frames}"
        f"speed {takes.speed:.2f}  {takes.bytes / 1e6:.1f} MB  Ctrl-C ends it"
    )
