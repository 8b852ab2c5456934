"""Turns at something of which the API can do little at a time, shared among organizations.

An organization may use at most half as many turns as are free, so there is always one for the next
organization. The further requests of an organization wait, a few of them; then the organization that uses the
fewest is next. Each API process counts for itself.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from recording_farm.farm.errors import FarmError


class Turns:
    """A limit in total and per organization. For one event loop."""

    def __init__(self, most: int, most_waiting: int, refusal: Callable[[], FarmError]) -> None:
        """Allow `most` at a time; `most_waiting` of an organization wait, others get the `refusal`.

        A single organization gets a third of `most`, rounded up.
        """
        self._most = most
        self._most_waiting = most_waiting
        self._refusal = refusal
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def taken(self, organization_id: str) -> AsyncIterator[None]:
        """Wait for a turn, and keep it while the block runs. Raises the refusal."""
        await self._take(organization_id)
        try:
            yield
        finally:
            self._give_back(organization_id)

    async def _take(self, organization_id: str) -> None:
        waiting = self._waiting.get(organization_id, ())
        if not waiting and self._may_run(organization_id):
            self._running[organization_id] += 1
            return
        if len(waiting) >= self._most_waiting:
            raise self._refusal()
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(organization_id, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(organization_id)  # it came at the same moment
            else:
                self._forget(organization_id, turn)
            raise

    def _may_run(self, organization_id: str) -> bool:
        return 2 * self._running[organization_id] < self._most - self._running.total()

    def _give_back(self, organization_id: str) -> None:
        self._running -= Counter([organization_id])
        while able := [each for each in self._waiting if self._may_run(each)]:
            # Of those that use the same, the one that has waited longest for its organization's next turn.
            chosen = min(able, key=lambda each: self._running[each])
            turn = self._waiting[chosen][0]
            self._forget(chosen, turn)
            self._running[chosen] += 1
            turn.set_result(None)

    def _forget(self, organization_id: str, turn: asyncio.Future[None]) -> None:
        """Take one that waits out of the queue, and its organization to the end of the others."""
        waiting = self._waiting.pop(organization_id)
        waiting.remove(turn)
        if waiting:
            self._waiting[organization_id] = waiting
