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
    """A recording of so many seconds, ended by an order or else by itself.

    After `pause_after` seconds, if there is to be a pause, it is paused for a while.
    """

    meeting: str
    seconds: int
    by_order: bool
    pause_after: float | None


@dataclass(frozen=True)
class PlannedFault:
    """What breaks, so many seconds after the start; `choice`, from 0 to 1, says which of several it hits."""

    at: float
    name: str
    choice: float


@dataclass(frozen=True)
class Plan:
    """All of a run."""

    seed: int
    seconds: float
    recordings: tuple[PlannedRecording, ...]
    faults: tuple[PlannedFault, ...]


def draw_plan(seed: int, recordings: int, seconds: float, slots: int, faults: Sequence[str]) -> Plan:
    """Draw so many recordings that fill the slots for about `seconds`, and what breaks meanwhile."""
    random = Random(seed)
    share = seconds * slots / recordings
    return Plan(
        seed,
        seconds,
        tuple(_draw_recording(random, number, share) for number in range(1, recordings + 1)),
        tuple(_draw_faults(random, seconds, faults)),
    )


def _draw_recording(random: Random, number: int, share: float) -> PlannedRecording:
    seconds = round(share * random.uniform(MIN_, MAX_LENGTH))
    pause_after = random.uniform(0.2, 0.6) * seconds if random.random() < PAUSED else None
    return PlannedRecording(f"chaos-{number:02d}", seconds, random.random() < 0.5, pause_after)


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
