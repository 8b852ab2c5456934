"""What tests and benchmarks give a recorder of its own: who listens to it, and orders."""

import asyncio
from collections.abc import AsyncIterator

from recording_farm.encoder.journal import Journal
from recording_farm.farm.recorder.listener import Listener
from recording_farm.farm.recording.commands import Command


class KeepingListener(Listener):
    """Keeps how the takes began and what broke, and tells when the first take has begun."""

    def __init__(self) -> None:
        """Nothing has been told yet."""
        self.takes: list[Journal] = []
        self.faults: list[str] = []
        self.began = asyncio.Event()

    async def recording(self, take: Journal) -> None:
        self.takes.append(take)
        self.began.set()

    async def broken(self, fault: str) -> None:
        self.faults.append(fault)


async def no_orders() -> AsyncIterator[Command]:
    """Orders of which none comes."""
    none: tuple[Command, ...] = ()
    for order in none:
        yield order
