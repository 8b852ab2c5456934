"""What tests and benchmarks give a recorder of its own: who listens to it, and orders."""

import asyncio
from collections.abc import AsyncIterator

from browser_bot.page.rejoining import PageEvent
from encoder.journal import Journal
from farm.recorder.listener import Outcome
from farm.recording.commands import Order
from farm.recording.findings import Finding


class KeepingListener:
    """Keeps how the takes began and what broke, and tells when the first take has begun."""

    def __init__(self) -> None:
        """Nothing has been told yet."""
        self.takes: list[Journal] = []
        self.faults: list[str] = []
        self.began = asyncio.Event()

    async def recording(self, take: Journal) -> None:
        self.takes.append(take)
        self.began.set()

    async def take_ended(self, take: Journal) -> None:
        pass

    async def paused(self) -> None:
        pass

    async def broken(self, fault: str) -> None:
        self.faults.append(fault)

    async def finding_began(self, finding: Finding) -> None:
        pass

    async def finding_ended(self, finding: Finding, seconds: float) -> None:
        pass

    async def page_event(self, event: PageEvent) -> None:
        pass

    async def company_came(self) -> None:
        pass

    async def ended(self, outcome: Outcome) -> None:
        pass


async def no_orders() -> AsyncIterator[Order]:
    """Orders of which none comes."""
    none: tuple[Order, ...] = ()
    for order in none:
        yield order
