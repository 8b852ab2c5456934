"""What tests give a recorder of its own: who listens to it, and orders."""

import asyncio
from collections.abc import AsyncIterator

from browser_bot.page.rejoining import PageEvent
from encoder.journal import Journal
from farm.recorder.listener import Outcome
from farm.recording.commands import Order
from farm.recording.findings import Finding


class Listener:
    """Keeps how the takes began, and tells when one has."""

    def __init__(self) -> None:
        self.takes: list[Journal] = []
        self.began = asyncio.Event()

    async def recording(self, take: Journal) -> None:
        self.takes.append(take)
        self.began.set()

    async def take_ended(self, take: Journal) -> None:
        pass

    async def paused(self) -> None:
        pass

    async def broken(self, fault: str) -> None:
        pass

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


class FaultListener(Listener):
    """Keeps what broke, too."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    async def broken(self, fault: str) -> None:
        self.faults.append(fault)


async def no_orders() -> AsyncIterator[Order]:
    """Orders of which none comes."""
    none: tuple[Order, ...] = ()
    for order in none:
        yield order
