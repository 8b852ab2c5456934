"""Recordings of the fidelity page as the benchmarks make them: by the recorder, with no service."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from recording_farm.browser_bot.stage.environment import Environment
from recording_farm.encoder.formats import Format
from recording_farm.encoder.journal import Journal
from recording_farm.farm.recorder.plan import Plan
from recording_farm.farm.recorder.recorder import Recorder
from recording_farm.farm.recording.commands import Command
from recording_farm.farm.spool.spool import Spool
from testkit.pages import FIDELITY_PAGE
from testkit.recorders import KeepingListener

PAGE = f"file://{FIDELITY_PAGE}"


class Starts(KeepingListener):
    """Keeps how the takes began, and what their journals said at the end."""

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__()
        self.journals: list[Journal] = []
        """The takes as they had ended, with their lags."""

    @property
    def phases_us(self) -> list[int]:
        """The phases of the takes."""
        return [take.phase_us for take in self.takes]


async def timed_orders(schedule: Sequence[tuple[float, Command]]) -> AsyncIterator[Command]:
    """Orders, each so many seconds after the one before."""
    for seconds, order in schedule:
        await asyncio.sleep(seconds)
        yield order


async def record(
    directory: Path,
    fmt: Format,
    seconds: float,
    schedule: Sequence[tuple[float, Command]] = (),
    page: str = PAGE,
) -> tuple[Path, Starts]:
    """Record the page for `seconds` and cut it; returns the file and how its takes began."""
    spool = Spool(directory / "spool", fmt)
    starts = Starts()
    plan = Plan(url=page, format=spool.format, max_seconds=seconds, environment=Environment(devices=True))
    recorder = Recorder(plan, spool, directory / "evidence", timed_orders(schedule), starts)
    await recorder.run()
    file = directory / f"recording{fmt.codec.suffix}"
    spool.cut(file)
    starts.journals = spool.journals()
    spool.remove()
    return file, starts
