"""What is recorded and what breaks when: drawn from a seed, all of it before anything starts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random

# Of the time that a slot has for each recording; the rest is for its start, its end, and what breaks.
MIN_, MAX_LENGTH = 0.65, 1.15
PAUSED = 0.25
PAUSE_SECONDS = 5.0
FIRST_FAULT_SECONDS = 8.0
FAULT_INTERVAL_SECONDS = (10.0, 30.0)


@dataclass(frozen=True)
class PlannedRecording:
    """A recording of so many seconds, ended by a command or else by itself.

    After `pause_after` seconds, if that is not None, it is paused for a while. `customer` is the storage that
    it goes to besides the store.
    """

    meeting: str
    seconds: int
    by_order: bool
    pause_after: float | None
    customer: str | None = None


@dataclass(frozen=True)
class PlannedFault:
    """What breaks, so many seconds after the start; `choice`, from 0 to 1, says which of several it hits."""

    at: float
    name: str
    choice: float


@dataclass(frozen=True)
class Plan:
    """All of a run; `store` is the kind of the farm's store."""

    seed: int
    store: str
    seconds: float
    recordings: tuple[PlannedRecording, ...]
    faults: tuple[PlannedFault, ...]


@dataclass(frozen=True)
class Choices:
    """What a plan is drawn from: the faults, the kinds of the store, and the customers' storages."""

    faults: Sequence[str]
    stores: Sequence[str]
    customers: Sequence[str]


def draw_plan(seed: int, recordings: int, seconds: float, slots: int, choices: Choices) -> Plan:
    """Draw so many recordings that fill the slots for about `seconds`, and what breaks meanwhile.

    A seed gives the same plan as long as the choices are the same.
    """
    random = Random(seed)
    share = seconds * slots / recordings
    customers = (None, *choices.customers)
    return Plan(
        seed,
        random.choice(choices.stores),
        seconds,
        tuple(_draw_recording(random, number, share, customers) for number in range(1, recordings + 1)),
        tuple(_draw_faults(random, seconds, choices.faults)),
    )


def _draw_recording(
    random: Random, number: int, share: float, customers: Sequence[str | None]
) -> PlannedRecording:
    seconds = round(share * random.uniform(MIN_, MAX_LENGTH))
    pause_after = random.uniform(0.2, 0.6) * seconds if random.random() < PAUSED else None
    by_order = random.random() < 0.5
    customer = random.choice(customers)
    return PlannedRecording(f"chaos-{number:02d}", seconds, by_order, pause_after, customer)


def _draw_faults(random: Random, seconds: float, names: Sequence[str]) -> Iterator[PlannedFault]:
    at = FIRST_FAULT_SECONDS
    for name in _shuffled(random, names):
        if at >= seconds:
            return
        yield PlannedFault(at, name, random.random())
        at += random.uniform(*FAULT_INTERVAL_SECONDS)


def _shuffled(random: Random, names: Sequence[str]) -> Iterator[str]:
    """All in some order, again and again in another: none comes twice before each has come once."""
    for _ in count():
        yield from random.sample(names, len(names))
