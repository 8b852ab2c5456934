from datetime import UTC, datetime, timedelta

import pytest

from farm.storage.place import Placed, StorageError
from farm.transfers import (
    GIVE_UP_AFTER,
    LASTING_INTERVAL,
    STORE,
    Transfer,
    TransferState,
    arrived,
    failed,
    needs_the_store,
    settled,
    tried,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def with_state(*states: TransferState, target: str = "aws") -> list[Transfer]:
    return [Transfer(target=target, state=state) for state in states]


def test_transfer_should_be_tried_at_growing_intervals_for_a_day() -> None:
    transfer, moment, waits = Transfer(target="aws"), START, []
    while True:
        transfer, wait = failed(tried(transfer, moment), StorageError("failed", "no"), moment)
        if wait is None:
            break
        assert transfer.state is TransferState.WAITING
        waits.append(wait)
        moment += wait
    assert waits == sorted(waits)
    assert transfer.state is TransferState.GIVEN_UP
    assert transfer.attempts == len(waits) + 1
    assert timedelta(hours=20) < moment - START <= GIVE_UP_AFTER


def test_fault_that_the_customer_must_mend_should_be_tried_rarely() -> None:
    fault = StorageError("wrong_key", "no", lasting=True)
    transfer, wait = failed(tried(Transfer(target="aws"), START), fault, START)
    assert wait == LASTING_INTERVAL
    assert transfer.error is not None
    assert (transfer.error.code, transfer.error.message) == ("wrong_key", "no")


def test_success_should_forget_the_error() -> None:
    transfer, _ = failed(tried(Transfer(target="aws"), START), StorageError("failed", "no"), START)
    done = arrived(tried(transfer, START), Placed("s3://films/a", 3))
    assert (done.state, done.error, done.location) == (TransferState.DONE, None, "s3://films/a")
    assert done.attempts == 2


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["DONE"], True),
        (["DONE", "DONE"], True),
        (["DONE", "GIVEN_UP"], True),
        (["DONE", "WAITING"], False),
        (["DONE", "RUNNING"], False),
        (["GIVEN_UP"], False),
    ],
)
def test_recording_should_be_settled_when_every_copy_is(states: list[str], expected: bool) -> None:
    assert settled(with_state(*map(TransferState, states))) is expected


def test_store_should_take_what_nobody_else_has() -> None:
    given_up = with_state(TransferState.GIVEN_UP)
    assert needs_the_store(given_up)
    assert not needs_the_store(with_state(TransferState.GIVEN_UP, TransferState.DONE))
    assert not needs_the_store(with_state(TransferState.WAITING))
    assert not needs_the_store([*given_up, *with_state(TransferState.GIVEN_UP, target=STORE)])
