import typing
from datetime import timedelta

import redis
from pydantic import BaseModel

from recording_farm.farm.clock import now
from recording_farm.farm.db.clients import connect
from recording_farm.farm.recording.model import (
    STOPPED_BEFORE_START,
    Failure,
    Reason,
    ReasonKind,
    Status,
    TimelineEntry,
)
from recording_farm.farm.recording.transfers import STORE, Transfer, TransferError, TransferState
from recording_farm.farm.storage import targets
from recording_farm.farm.telemetry.counts import (
    ENDED,
    FINISH,
    FRAMES_LOST,
    INVOKED,
    PLACES,
    SPEED,
    START,
    TRANSFER_FAILURES,
    TRANSFERS,
    WEBHOOK_ATTEMPTS,
    Counts,
    change_increments,
    claim_increments,
    counted,
    cumulative_buckets,
    measured,
    transfer_increments,
)
from recording_farm.farm.webhooks.log import AttemptOutcome
from testkit.recordings import new_recording


def test_counts_should_add_up(redis_client: redis.Redis) -> None:
    counts = Counts(redis_client)
    for place in ("aws", "aws", STORE):
        counts.add(counted(TRANSFERS, place, "done"))
    counts.add(counted(FRAMES_LOST, by=7))
    assert counts.read() == {
        (TRANSFERS.name, "aws", "done"): 2,
        (TRANSFERS.name, STORE, "done"): 1,
        (FRAMES_LOST.name,): 7,
    }


def test_histogram_should_have_each_value_in_all_buckets_above_it(redis_client: redis.Redis) -> None:
    counts = Counts(redis_client)
    for seconds in (0.5, 1.5, 4000, -0.2):
        counts.add(measured(START, seconds))
    buckets, total = cumulative_buckets(START, counts.read())
    found = dict(buckets)
    assert (found["0.5"], found["1.0"], found["2.0"], found["3600.0"], found["+Inf"]) == (2, 2, 3, 3, 4)
    assert total == 4002


def test_redis_that_is_away_should_cost_a_count_and_nothing_else() -> None:
    with connect("unix:///nowhere/redis.sock", retries=0) as client:
        Counts(client).add(counted(INVOKED))


def test_start_should_be_measured_once_however_often_it_is_paused() -> None:
    invoked = now()
    begun = TimelineEntry(status=Status.RECORDING, time=invoked + timedelta(seconds=3))
    recording = new_recording(status=Status.RECORDING, invoked_time=invoked, timeline=(begun,))
    assert change_increments(recording) == measured(START, 3)
    again = recording.model_copy(update={"timeline": (begun, begun)})
    assert change_increments(again) == {}


def test_end_should_count_state_reason_error_and_quality() -> None:
    stopped = now()
    recording = new_recording(
        status=Status.UPLOADED,
        stopped_time=stopped,
        stop_reason=Reason(reason=ReasonKind.INTERNAL_ERROR),
        error=Failure(code="disk_full", message="the disk was full"),
        quality={
            "frames_captured": 300,
            "frames_lost": 2,
            "frames_doubled": 0,
            "speed": 0.99,
            "peak_memory": 0,
        },
        recording_duration=10,
        timeline=(TimelineEntry(status=Status.UPLOADED, time=stopped + timedelta(seconds=2)),),
    )
    found = dict(change_increments(recording))
    for expected in (
        counted(ENDED, "UPLOADED", "INTERNAL_ERROR", "disk_full"),
        counted(FRAMES_LOST, by=2),
        measured(FINISH, 2),
        measured(SPEED, 0.99),
    ):
        assert expected.items() <= found.items()


def test_recording_that_had_no_file_should_count_as_ended_alone() -> None:
    recording = new_recording(
        status=Status.ERRORED,
        stop_reason=Reason(reason=ReasonKind.INTERNAL_ERROR),
        error=Failure(code="no_free_slot", message="no slot"),
        timeline=(TimelineEntry(status=Status.ERRORED, time=now()),),
    )
    assert change_increments(recording) == counted(ENDED, "ERRORED", "INTERNAL_ERROR", "no_free_slot")


def test_shutdown_of_a_node_should_count_with_the_reason_that_clients_see() -> None:
    recording = new_recording(
        status=Status.ERRORED,
        stop_reason=Reason(reason=ReasonKind.INTERNAL_ERROR),
        error=Failure(code="node_shut_down", message="the node was shut down"),
        timeline=(TimelineEntry(status=Status.ERRORED, time=now()),),
    )
    assert change_increments(recording) == counted(ENDED, "ERRORED", "NODE_SHUT_DOWN", "node_shut_down")


def test_recording_that_was_stopped_before_its_first_frame_should_count_as_cancelled() -> None:
    recording = new_recording(
        status=Status.ERRORED,
        stop_reason=Reason(reason=ReasonKind.STOPPED_BEFORE_START),
        error=Failure(code=STOPPED_BEFORE_START, message="it was stopped"),
        timeline=(TimelineEntry(status=Status.ERRORED, time=now()),),
    )
    counts = change_increments(recording)
    assert counts == counted(ENDED, "CANCELLED", "STOPPED_BEFORE_START", "")
    assert set(counts) <= {field for labels in ENDED.expected for field in counted(ENDED, *labels)}


def test_claim_should_measure_the_wait() -> None:
    recording = new_recording()
    found = claim_increments(recording, recording.invoked_time + timedelta(seconds=45))
    assert 45 in found.values()


def test_transfers_results_should_be_apart_from_their_tries() -> None:
    error = TransferError(code="no_permission", message="refused")
    waiting = Transfer(target="aws-2", state=TransferState.WAITING, error=error)
    assert transfer_increments(waiting) == counted(TRANSFER_FAILURES, "aws", "no_permission")
    given_up = waiting.model_copy(update={"state": TransferState.GIVEN_UP})
    assert dict(transfer_increments(given_up)) == {
        **counted(TRANSFER_FAILURES, "aws", "no_permission"),
        **counted(TRANSFERS, "aws", "given_up"),
    }
    done = Transfer(target="sftp", state=TransferState.DONE)
    assert transfer_increments(done) == counted(TRANSFERS, "sftp", "done")


def test_all_outcomes_of_webhooks_should_be_counted() -> None:
    assert WEBHOOK_ATTEMPTS.expected == tuple((outcome.value,) for outcome in AttemptOutcome)


def test_all_kinds_of_places_should_be_known() -> None:
    kinds = {
        typing.get_args(value.model_fields["type"].annotation)[0]
        for value in vars(targets).values()
        if isinstance(value, type) and issubclass(value, BaseModel) and "type" in value.model_fields
    }
    assert kinds - set(PLACES) == {"preset", "SSE-S3", "SSE-KMS"}
    assert set(PLACES) - kinds == {STORE}
