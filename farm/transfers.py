"""Transfers: what becomes of each copy of a finished file, in the store and in the customer's storage.

Pure values and decisions; `farm.jobs` acts on them.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict

from farm.storage.place import Placed, StorageError

INTERVALS: Final = tuple(
    timedelta(seconds=seconds) for seconds in (2, 10, 30, 60, 300, 900, 1800, 3600, 7200)
)
"""Waits between tries; the last one again and again."""

LASTING_INTERVAL: Final = timedelta(minutes=5)
"""The shortest wait after a fault that the customer has to mend, a wrong key for instance."""

GIVE_UP_AFTER: Final = timedelta(hours=24)

STORE: Final = "store"
"""The name of the farm's own store among the targets."""


class TransferState(StrEnum):
    """How far a transfer is."""

    WAITING = "WAITING"
    """For its first or next try."""
    RUNNING = "RUNNING"
    DONE = "DONE"
    """Arrived, and verified at the other side."""
    GIVEN_UP = "GIVEN_UP"


OVER: Final = frozenset({TransferState.DONE, TransferState.GIVEN_UP})


class TransferError(BaseModel):
    """Why a try failed: a stable code for programs, a sentence for people."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str


class Transfer(BaseModel):
    """One copy: where to, how far, how often tried, and why it failed last or where it is."""

    model_config = ConfigDict(frozen=True)

    target: str
    state: TransferState = TransferState.WAITING
    attempts: int = 0
    first_tried: AwareDatetime | None = None
    error: TransferError | None = None
    location: str | None = None


def tried(transfer: Transfer, moment: datetime) -> Transfer:
    """The transfer as a try begins."""
    return transfer.model_copy(
        update={
            "state": TransferState.RUNNING,
            "attempts": transfer.attempts + 1,
            "first_tried": transfer.first_tried or moment,
        }
    )


def arrived(transfer: Transfer, placed: Placed) -> Transfer:
    """The transfer after a try that succeeded."""
    return transfer.model_copy(
        update={"state": TransferState.DONE, "error": None, "location": placed.location}
    )


def failed(transfer: Transfer, error: StorageError, moment: datetime) -> tuple[Transfer, timedelta | None]:
    """The transfer after a try that failed, and how long to wait for the next; None if it is given up."""
    wait = INTERVALS[min(transfer.attempts, len(INTERVALS)) - 1]
    if error.lasting:
        wait = max(wait, LASTING_INTERVAL)
    begun = transfer.first_tried or moment
    given_up = moment + wait > begun + GIVE_UP_AFTER
    after = transfer.model_copy(
        update={
            "state": TransferState.GIVEN_UP if given_up else TransferState.WAITING,
            "error": TransferError(code=error.reason, message=error.message),
        }
    )
    return after, None if given_up else wait


def needs_the_store(transfers: Sequence[Transfer]) -> bool:
    """Whether the store must take the file after all: nobody else has it, and nobody will."""
    return all(
        transfer.state is TransferState.GIVEN_UP and transfer.target != STORE for transfer in transfers
    )


def settled(transfers: Sequence[Transfer]) -> bool:
    """Whether nothing is left to be done: the file is somewhere, and each copy has come to its end."""
    states = {transfer.state for transfer in transfers}
    return TransferState.DONE in states and states <= OVER
