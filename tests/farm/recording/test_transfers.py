from datetime import UTC, datetime, timedelta

import pytest

from recording_farm.farm.recording.transfers import (
    GIVE_UP_AFTER,
    LASTING_INTERVAL,
    STORE,
    Transfer,
    TransferEvent,
    TransferState,
    again,
    arrived,
    failed,
    lost,
    may_give_up,
    needs_the_store,
    settled,
    tried,
    unused_name,
)
from recording_farm.farm.storage.backend import StorageError, StoredObject, expired_credentials

START = datetime(2026, 1, 1, tzinfo=UTC)
FAULT = StorageError("failed", "no")


def with_state(*states: TransferState, target: str = "aws") -> list[Transfer]:
    return [Transfer(target=target, state=state) for state in states]


def test_transfer_should_be_tried_at_growing_intervals_for_a_day() -> None:
    transfer, moment, waits = Transfer(target="aws"), START, []
    while True:
        transfer = failed(tried(transfer, moment), FAULT, moment, may_give_up=True)
        if transfer.next_try is None:
            break
        assert transfer.state is TransferState.WAITING
        waits.append(transfer.next_try - moment)
        moment = transfer.next_try
    assert waits == sorted(waits)
    assert transfer.state is TransferState.GIVEN_UP
    assert transfer.attempts == len(waits) + 1
    assert timedelta(hours=20) < moment - START <= GIVE_UP_AFTER


def test_the_only_copy_should_never_be_given_up() -> None:
    transfer = tried(Transfer(target=STORE), START)
    late = START + timedelta(days=30)
    assert failed(transfer, FAULT, late, may_give_up=False).state is TransferState.WAITING


def test_fault_that_the_customer_must_mend_should_be_tried_rarely() -> None:
    fault = StorageError("wrong_key", "no", lasting=True)
    transfer = failed(tried(Transfer(target="aws"), START), fault, START, may_give_up=True)
    assert transfer.next_try == START + LASTING_INTERVAL
    assert transfer.error is not None
    assert (transfer.error.code, transfer.error.message) == ("wrong_key", "no")


def test_fault_that_no_try_can_mend_should_end_the_transfer_unless_it_is_the_only_copy() -> None:
    fault = expired_credentials()
    transfer = tried(Transfer(target="aws"), START)
    over = failed(transfer, fault, START, may_give_up=True)
    assert (over.state, over.next_try) == (TransferState.GIVEN_UP, None)
    assert failed(transfer, fault, START, may_give_up=False).state is TransferState.WAITING


def test_transfer_should_count_as_failing_when_faults_last() -> None:
    transfer, events = Transfer(target="aws"), []
    for _ in range(4):
        transfer = failed(tried(transfer, START), FAULT, START, may_give_up=True)
        events.append(transfer.event)
    assert events == [None, None, TransferEvent.FAILING, TransferEvent.FAILING]
    assert tried(transfer, START).event is TransferEvent.FAILING
    assert again(transfer).event is None
    at_once = failed(
        tried(Transfer(target="aws"), START),
        StorageError("no_key", "", lasting=True),
        START,
        may_give_up=True,
    )
    assert at_once.event is TransferEvent.FAILING


def test_transfer_should_have_an_event_when_it_ends() -> None:
    failing = Transfer(target="aws", event=TransferEvent.FAILING, attempts=3)
    assert arrived(failing, StoredObject("s3://here", 1)).event is TransferEvent.DONE
    assert failed(failing, expired_credentials(), START, may_give_up=True).event is TransferEvent.GIVEN_UP
    assert lost(failing).event is TransferEvent.GIVEN_UP


def test_success_should_forget_the_error() -> None:
    transfer = failed(tried(Transfer(target="aws"), START), FAULT, START, may_give_up=True)
    done = arrived(tried(transfer, START), StoredObject("s3://films/a", 3))
    assert (done.state, done.error, done.location) == (TransferState.DONE, None, "s3://films/a")
    assert (done.attempts, done.next_try) == (2, None)


def test_asking_again_should_give_another_day() -> None:
    first = failed(tried(Transfer(target="aws"), START), FAULT, START + timedelta(days=2), may_give_up=True)
    assert first.state is TransferState.GIVEN_UP
    later = START + timedelta(days=2)
    second = failed(tried(again(first), later), FAULT, later, may_give_up=True)
    assert (second.state, second.attempts) == (TransferState.WAITING, 2)


@pytest.mark.parametrize(
    ("transfers", "target", "expected"),
    [
        (with_state(TransferState.RUNNING), "aws", True),
        (with_state(TransferState.RUNNING, target=STORE), STORE, False),
        (
            [*with_state(TransferState.RUNNING, target=STORE), *with_state(TransferState.GIVEN_UP)],
            STORE,
            False,
        ),
        ([*with_state(TransferState.RUNNING, target=STORE), *with_state(TransferState.DONE)], STORE, True),
    ],
)
def test_the_store_should_be_given_up_only_when_the_file_is_elsewhere(
    transfers: list[Transfer], target: str, *, expected: bool
) -> None:
    assert may_give_up(transfers, target) is expected


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["DONE"], True),
        (["DONE", "DONE"], True),
        (["DONE", "GIVEN_UP"], True),
        (["DONE", "WAITING"], False),
        (["DONE", "RUNNING"], False),
        (["GIVEN_UP"], False),
        ([], False),
    ],
)
def test_recording_should_be_settled_when_it_is_somewhere_and_nothing_is_left(
    states: list[TransferState], *, expected: bool
) -> None:
    assert settled(with_state(*map(TransferState, states))) is expected


def test_the_store_should_take_what_nobody_else_has() -> None:
    assert needs_the_store(with_state(TransferState.GIVEN_UP))
    assert not needs_the_store(with_state(TransferState.GIVEN_UP, TransferState.DONE))
    assert not needs_the_store(with_state(TransferState.WAITING))
    assert not needs_the_store(with_state(TransferState.GIVEN_UP, target=STORE))


def test_further_storage_of_a_kind_should_get_a_name_of_its_own() -> None:
    taken = [Transfer(target=name) for name in (STORE, "aws", "aws-2")]
    assert unused_name(taken, "gcs") == "gcs"
    assert unused_name(taken, "aws") == "aws-3"
