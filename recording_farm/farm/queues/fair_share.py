"""Which organization's recording starts next: the fair shares of the slots, as a pure decision.

Within a priority the next slot goes to the organization that uses least of its share: running recordings
divided by its weight. Those that use the same take turns (start-time fair queueing): each has a virtual time,
which advances by `TURN` / weight with each recording that a slot takes. An organization that had nothing to
record starts at the present virtual time, so it saves up no turns. The scripts in `farm.queues.fair_queue`
decide the same way; this module predicts their decisions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

TURN: Final = 720_720
"""What a recording costs of an organization's virtual time at weight 1; divisible by all weights up to 16."""


@dataclass(frozen=True)
class Backlog:
    """The recordings of an organization that wait in one priority, and what the organization uses."""

    organization_id: str
    waiting: int
    running: int = 0
    weight: int = 1
    limit: int = 0
    """How many of its recordings may run; 0 without a limit."""
    virtual_time: int = 0

    def share(self, index: int) -> Fraction:
        """The share that it uses before its recording at `index` of this backlog starts."""
        return Fraction(self.running + index, self.weight)

    def is_held_back(self, index: int) -> bool:
        """Whether its limit keeps the recording at `index` from starting before another one ends."""
        return 0 < self.limit <= self.running + index

    @property
    def startable(self) -> int:
        """How many of those that wait may start before a running one ends."""
        return min(max(self.limit - self.running, 0), self.waiting) if self.limit else self.waiting


def position_of(
    own: Backlog,
    index: int,
    others: Sequence[Backlog],
    higher: Sequence[Backlog] = (),
    lower: Sequence[Backlog] = (),
) -> int:
    """The position of a recording, 1 being the next, if no other one is queued.

    It is at `index` of its organization's `own` backlog; `others` are the backlogs of other organizations in
    the same priority, `higher` all those of higher priorities, `lower` those of other organizations in lower
    ones.
    """
    is_held_back = own.is_held_back(index)
    first = sum(each.waiting if is_held_back else each.startable for each in higher)
    if is_held_back:
        first += sum(each.startable for each in lower)
    return first + index + 1 + sum(_started_before(other, own, index) for other in others)


def _started_before(other: Backlog, own: Backlog, index: int) -> int:
    """How many recordings of `other` start before the one at `index` of `own`."""
    share = own.share(index)
    # Those with a smaller share: (running + n) / weight < share.
    before = max(math.ceil(share * other.weight) - other.running, 0)
    if other.share(before) == share and _turn(other, before) < _turn(own, index):
        before += 1
    before = min(before, other.waiting)
    return max(before, other.startable) if own.is_held_back(index) else min(before, other.startable)


def _turn(backlog: Backlog, index: int) -> tuple[int, str]:
    return backlog.virtual_time + index * (TURN // backlog.weight), backlog.organization_id
