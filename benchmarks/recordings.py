"""Recordings of the fidelity page as the benchmarks make them: by the recorder, with no service."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from browser_bot.page.rejoining import PageEvent
from browser_bot.stage.environment import Environment
from encoder.formats import Format
from encoder.journal import Journal
from farm.recorder.listener import Outcome
from farm.recorder.plan import Plan
from farm.recorder.recorder import Recorder
from farm.recording.commands import Order
from farm.recording.findings import Finding
from farm.spool.spool import Spool
from testkit.pages import FIDELITY_PAGE

PAGE = f"file://{FIDELITY_PAGE}"


class Starts:
    """A listener that keeps how the takes began."""

    def __init__(self) -> None:
        """Begin with none."""
        self.takes: list[Journal] = []
        self.journals: list[Journal] = []
        """The takes as they had ended, with their lags."""

    @property
    def phases_us(self) -> list[int]:
        """The phases of the takes."""
        return [take.phase_us for take in self.takes]

    async def recording(self, take: Journal) -> None:
        """A take has begun."""
        self.takes.append(take)

    async def take_ended(self, take: Journal) -> None:
        """A take has ended."""

    async def paused(self) -> None:
        """A take has ended."""

    async def broken(self, fault: str) -> None:
        pass

    async def finding_began(self, finding: Finding) -> None:
        """The watch has found something."""

    async def finding_ended(self, finding: Finding, seconds: float) -> None:
        """What it had found is over."""

    async def page_event(self, event: PageEvent) -> None:
        """The page did something that explains what is seen."""

    async def company_came(self) -> None:
        """Somebody is in the meeting."""

    async def ended(self, outcome: Outcome) -> None:
        """The recording is over."""


async def timed_orders(schedule: Sequence[tuple[float, Order]]) -> AsyncIterator[Order]:
    """Orders, each so many seconds after the one before."""
    for seconds, order in schedule:
        await asyncio.sleep(seconds)
        yield order


async def record(
    directory: Path,
    fmt: Format,
    seconds: float,
    schedule: Sequence[tuple[float, Order]] = (),
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
