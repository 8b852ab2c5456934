"""Turns of organizations, whatever they start, end and drop, in a real Redis."""

from collections import Counter
from dataclasses import dataclass, field
from math import ceil
from random import Random
from uuid import UUID, uuid4

import pytest

from recording_farm.farm.queues.fair_queue import take_next
from recording_farm.farm.queues.recordings import Place, drop_job, enqueue_recording, queue_places
from recording_farm.farm.recording.model import Priority, Recording, Status
from recording_farm.farm.recording.quotas import OwnQuota, Quotas
from testkit.farm import Farm

ORGANIZATIONS = ("acme", "initech", "umbra")
PRIORITIES = [*Priority, *[Priority.NORMAL] * 4]


@dataclass
class Play:
    """Slots and clients of a farm, one step after the other; asserts at each start that it is fair."""

    farm: Farm
    quotas: dict[str, OwnQuota]
    waiting: list[Recording] = field(default_factory=list)
    on: list[Recording] = field(default_factory=list)
    passed: Counter[tuple[str, str, Priority]] = field(default_factory=Counter)
    """How many recordings of the second organization have started while the first one could start one."""

    def __post_init__(self) -> None:
        """Set the quotas."""
        for name, quota in self.quotas.items():
            Quotas(self.farm.redis, self.farm.settings).set(name, quota)

    def queue(self, organization_id: str, priority: Priority) -> None:
        """Start a recording, which waits."""
        recording = self.farm.add(organization_id=organization_id, meeting_id=uuid4().hex, priority=priority)
        enqueue_recording(self.farm.redis, recording)
        self.waiting.append(recording)

    def drop(self, chance: Random) -> None:
        """Stop a recording that waits."""
        if self.waiting:
            recording = self.waiting.pop(chance.randrange(len(self.waiting)))
            drop_job(self.farm.redis, recording)
            self._end(recording)

    def end(self, chance: Random) -> None:
        """End a recording that has a slot."""
        if self.on:
            self._end(self.on.pop(chance.randrange(len(self.on))))

    def take(self) -> Recording | None:
        """Let a free slot take the next recording."""
        able = [each for each in self.waiting if self._may_start(each.organization_id)]
        found = take_next(self.farm.redis, 0)
        if found is None:
            assert able == []
            return None
        taken = self.farm.records.get(None, UUID(found[1]))
        assert taken.priority == min((each.priority for each in able), key=list(Priority).index)
        self._count(taken, {each.organization_id for each in able if each.priority == taken.priority})
        self.waiting.remove(taken)
        self.on.append(taken)
        return taken

    def _count(self, taken: Recording, able: set[str]) -> None:
        for name in ORGANIZATIONS:
            key = name, taken.organization_id, taken.priority
            if name == taken.organization_id or name not in able:
                for other in ORGANIZATIONS:
                    del self.passed[name, other, taken.priority]
            else:
                self.passed[key] += 1
                turns = ceil(self._weight(taken.organization_id) / self._weight(name))
                assert self.passed[key] <= turns, f"{name} waited for {taken.organization_id}"

    def _end(self, recording: Recording) -> None:
        self.farm.records.change_state(recording.id, Status.ERRORED)

    def _may_start(self, organization_id: str) -> bool:
        limit = self.quotas[organization_id].running
        return not limit or limit > sum(each.organization_id == organization_id for each in self.on)

    def _weight(self, organization_id: str) -> int:
        return self.quotas[organization_id].weight or 1


STEPS = ["queue"] * 5 + ["take"] * 4 + ["end"] * 2 + ["drop"]


@pytest.mark.parametrize("seed", range(12))
def test_starts_should_be_fair_and_in_the_order_that_places_tell(farm: Farm, seed: int) -> None:
    chance = Random(seed)
    play = Play(
        farm,
        {
            name: OwnQuota(weight=chance.randint(1, 4), running=chance.choice([0, 0, 1, 3]))
            for name in ORGANIZATIONS
        },
    )
    for _ in range(150):
        match chance.choice(STEPS):
            case "queue":
                play.queue(chance.choice(ORGANIZATIONS), chance.choice(PRIORITIES))
            case "take":
                play.take()
            case "end":
                play.end(chance)
            case "drop":
                play.drop(chance)
    places: dict[str, Place] = {}
    for name in ORGANIZATIONS:
        places |= queue_places(farm.redis, name, 0)
    assert sorted(place.position for place in places.values()) == list(range(1, len(play.waiting) + 1))
    taken = []
    while (recording := play.take()) is not None:
        taken.append(str(recording.id))
    assert [places.pop(each) for each in taken] == [Place(number) for number in range(1, len(taken) + 1)]
    assert all(place.is_held_back for place in places.values())
