"""Which organization's recording starts next: a weighted round robin, as a pure decision.

Organizations take turns by start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", 1996). A
queue has the recordings of one organization in one priority, and a virtual time. A slot takes from the queue
with the smallest one, which then advances by `TURN` / weight. The present time of a priority is the largest
virtual time that a slot has taken from. A queue that was empty starts there, or later if it has just had a
turn; so an organization saves up no turns. Queues with the same virtual time are served in the order in which
they reached it. So however many recordings an organization has queued, it delays another one of the same
weight by one.

An organization at its limit of running recordings is passed over. It keeps its virtual time, so it is next as
soon as the limit permits; then it advances from the present time, so it saves up no turns either.

The scripts in `farm.queues.fair_queue` decide the same way; this module predicts their decisions.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

TURN: Final = 720_720
"""What a recording costs of virtual time at weight 1; divisible by all weights up to 16."""


@dataclass(frozen=True)
class Backlog:
    """The recordings of an organization that wait in one priority, and what the organization uses.

    `rank` is the priority, 0 the highest. `running` counts also recordings that wait in higher priorities,
    which start first. `limit` is how many recordings may run; 0 without a limit. `reached` orders backlogs
    with the same virtual time.
    """

    organization_id: str
    waiting: int
    running: int = 0
    weight: int = 1
    limit: int = 0
    virtual_time: int = 0
    reached: int = 0
    present: int = 0
    rank: int = 0

    def is_held_back(self, index: int) -> bool:
        """Whether its limit keeps the recording at `index` from starting before another one ends."""
        return 0 < self.limit <= self.running + index

    def order(self, index: int) -> tuple[int | str, ...]:
        """What the recording at `index` is sorted by: the smallest starts first, if nothing else is queued.

        A recording that is held back waits for those of all priorities that are not.
        """
        return self.is_held_back(index), self.rank, *self._turn(index)

    def _turn(self, index: int) -> tuple[int | str, ...]:
        first = self.virtual_time, self.reached, self.organization_id
        if index == 0:
            return self.virtual_time, 0, 0, 0, *first
        # Those that reach the same virtual time later: in the order of the starts before.
        step = TURN // self.weight
        return max(self.virtual_time, self.present) + index * step, 1, -step, index, *first


def position_of(own: Backlog, index: int, others: Iterable[Backlog]) -> int:
    """The position of the recording at `index` of the backlog `own`, 1 being the next.

    `others` are all other backlogs, also those of the same organization in other priorities.
    """
    order = own.order(index)
    return index + 1 + sum(bisect_left(range(other.waiting), order, key=other.order) for other in others)
