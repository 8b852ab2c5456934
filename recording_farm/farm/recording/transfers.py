"""Transfers: what becomes of each copy of the finished files, in the store and in the customer's storage.

Pure values and decisions; `farm.jobs.transfer_attempt` and `farm.jobs.settle` act on them.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import count
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict

from recording_farm.farm.storage.backend import StorageError, StoredObject

INTERVALS: Final = tuple(
    timedelta(seconds=seconds) for seconds in (2, 10, 30, 60, 300, 900, 1800, 3600, 7200)
)
"""Waits between tries; the last one again and again."""

LASTING_INTERVAL: Final = timedelta(minutes=5)
"""The shortest wait after a fault that the customer has to mend, a wrong key for instance."""

_FAILING_ATTEMPTS: Final = 3
"""So many attempts fail before an upload counts as failing: most faults are over by then."""

GIVE_UP_AFTER: Final = timedelta(hours=24)

MAX_TRANSFERS: Final = 100
"""Of one recording: each change of its record is told with a copy of all of them."""

STORE: Final = "store"
"""The name of the farm's own store among the targets."""


class TransferState(StrEnum):
    """How far a transfer is."""

    WAITING = "WAITING"
    """For its first or next try."""
    RUNNING = "RUNNING"
    DONE = "DONE"
    """Arrived: verified at the other side, or acknowledged by it with a checksum; see `Transfer.note`."""
    GIVEN_UP = "GIVEN_UP"


OVER: Final = frozenset({TransferState.DONE, TransferState.GIVEN_UP})


class TransferEvent(StrEnum):
    """What webhooks are told about a transfer: its attempts keep failing, and how it ended."""

    FAILING = "FAILING"
    DONE = "DONE"
    GIVEN_UP = "GIVEN_UP"


class TransferError(BaseModel):
    """Why a try failed: a stable code for programs, a sentence for people."""

    model_config = ConfigDict(frozen=True)

    code: str
    message: str


class Transfer(BaseModel):
    """One copy: where to, how far, how often tried, and why it failed last or where it is.

    `location` is that of the recording's main file.
    """

    model_config = ConfigDict(frozen=True)

    target: str
    state: TransferState = TransferState.WAITING
    attempts: int = 0
    first_tried: AwareDatetime | None = None
    next_try: AwareDatetime | None = None
    """When a WAITING one is tried again; None is at once."""
    error: TransferError | None = None
    event: TransferEvent | None = None
    """The last event about it; a new one is announced to webhooks."""
    location: str | None = None
    note: str | None = None
    """Of a DONE one: why its files were not looked at again after they were sent."""


def tried(transfer: Transfer, moment: datetime) -> Transfer:
    """The transfer as a try begins."""
    return transfer.model_copy(
        update={
            "state": TransferState.RUNNING,
            "attempts": transfer.attempts + 1,
            "first_tried": transfer.first_tried or moment,
            "next_try": None,
        }
    )


def arrived(transfer: Transfer, placed: StoredObject) -> Transfer:
    """The transfer after a try that succeeded."""
    return transfer.model_copy(
        update={
            "state": TransferState.DONE,
            "event": TransferEvent.DONE,
            "error": None,
            "location": placed.location,
            "note": placed.note,
        }
    )


def failed(transfer: Transfer, error: StorageError, moment: datetime, *, may_give_up: bool) -> Transfer:
    """The transfer after a try that failed: it waits for the next one, or is given up after a day.

    After a final fault it is given up at once.
    """
    wait = INTERVALS[min(max(transfer.attempts, 1), len(INTERVALS)) - 1]
    if error.lasting:
        wait = max(wait, LASTING_INTERVAL)
    begun = transfer.first_tried or moment
    given_up = may_give_up and (error.final or moment + wait > begun + GIVE_UP_AFTER)
    event = transfer.event
    if given_up:
        event = TransferEvent.GIVEN_UP
    elif error.lasting or transfer.attempts >= _FAILING_ATTEMPTS:
        event = TransferEvent.FAILING
    return transfer.model_copy(
        update={
            "state": TransferState.GIVEN_UP if given_up else TransferState.WAITING,
            "next_try": None if given_up else moment + wait,
            "event": event,
            "error": TransferError(code=error.reason, message=error.message),
        }
    )


def lost(transfer: Transfer) -> Transfer:
    """The transfer when the files for it are on a node that is gone."""
    error = TransferError(code="node_lost", message="the node with the files is gone")
    return transfer.model_copy(
        update={
            "state": TransferState.GIVEN_UP,
            "event": TransferEvent.GIVEN_UP,
            "next_try": None,
            "error": error,
        }
    )


OVERDUE: Final = timedelta(minutes=1)
"""How much later than its time a try may begin without its job counting as lost."""


def is_overdue(transfer: Transfer, moment: datetime) -> bool:
    """Whether a try should have begun long ago; its job may be lost, because a process, a node or Redis died.

    One that is RUNNING may be that of a dead process; if it is not, it runs only once all the same.
    """
    if transfer.state in OVER:
        return False
    return transfer.next_try is None or transfer.next_try < moment - OVERDUE


def again(transfer: Transfer) -> Transfer:
    """The transfer when somebody wants it tried now, and for another day."""
    return transfer.model_copy(
        update={"state": TransferState.WAITING, "event": None, "first_tried": None, "next_try": None}
    )


_STORE_FAILED: Final = "the farm's own store could not take the files; they are safe, and it is tried again"


def client_view(transfer: Transfer) -> Transfer:
    """The transfer as clients see it: paths and errors of the farm's own store are for its log alone."""
    if transfer.target != STORE:
        return transfer
    error = transfer.error and TransferError(code=transfer.error.code, message=_STORE_FAILED)
    return transfer.model_copy(update={"location": None, "error": error, "note": None})


def transfer_to(transfers: Sequence[Transfer], target: str) -> Transfer | None:
    """The transfer of that name."""
    return next((transfer for transfer in transfers if transfer.target == target), None)


def may_give_up(transfers: Sequence[Transfer], target: str) -> bool:
    """Whether a transfer may be given up: the store's only when the file is somewhere else."""
    return target != STORE or any(
        transfer.state is TransferState.DONE for transfer in transfers if transfer.target != STORE
    )


def needs_the_store(transfers: Sequence[Transfer]) -> bool:
    """Whether the store must take the file after all: nobody else has it, and nobody will."""
    return all(
        transfer.state is TransferState.GIVEN_UP and transfer.target != STORE for transfer in transfers
    )


def settled(transfers: Sequence[Transfer]) -> bool:
    """Whether nothing is left to be done: the file is somewhere, and each copy has come to its end."""
    states = {transfer.state for transfer in transfers}
    return TransferState.DONE in states and states <= OVER


def unused_name(transfers: Sequence[Transfer], kind: str) -> str:
    """What a further transfer to storage of a kind is called: `aws`, `aws-2` and so on."""
    taken = {transfer.target for transfer in transfers}
    names = (kind if number == 1 else f"{kind}-{number}" for number in count(1))
    return next(name for name in names if name not in taken)
