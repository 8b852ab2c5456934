import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis
from pydantic import ValidationError

from recording_farm.farm.clock import now
from recording_farm.farm.errors import (
    AlreadyRecordingError,
    InvalidRequestError,
    NotFoundError,
    RecordUnreadableError,
    WrongStateError,
)
from recording_farm.farm.recording.changes import CHANGES_KEY, events_key, recording_of
from recording_farm.farm.recording.listing import Wanted, microseconds
from recording_farm.farm.recording.model import (
    Caller,
    Failure,
    Reason,
    ReasonKind,
    Recording,
    Status,
    TimelineEntry,
)
from recording_farm.farm.recording.records import Idempotency, Records, SealedTarget, record_key
from testkit.recordings import new_recording

RACERS = 50
HOUR = timedelta(hours=1)


def race(act: Callable[[int], Any]) -> list[Any]:
    """What each of 50 threads that act at the same moment returns, or the error it gets."""
    barrier = threading.Barrier(RACERS)

    def run(number: int) -> Any:
        barrier.wait()
        try:
            return act(number)
        except (WrongStateError, AlreadyRecordingError) as error:
            return error

    with ThreadPoolExecutor(RACERS) as threads:
        return list(threads.map(run, range(RACERS)))


def test_recording_should_come_back_as_it_was_kept(records: Records) -> None:
    recording = new_recording(
        meeting_id='a:b "c" \n会議',
        file_name_prefix="p",
        start_reason=Reason(reason=ReasonKind.API_CALL, caller=Caller(type="ORGANIZATION", user_id="acme")),
    )
    kept = records.add(recording)
    assert records.get("acme", recording.id) == kept
    assert records.get(None, str(recording.id).upper()) == kept
    assert kept.model_copy(update={"timeline": ()}) == recording
    assert [(change.status, change.time) for change in kept.timeline] == [
        (Status.INVOKED, recording.invoked_time)
    ]


def test_unknown_and_foreign_recordings_should_look_the_same(records: Records) -> None:
    foreign = records.add(new_recording())
    for organization, recording_id in [
        ("other", str(foreign.id)),
        ("acme", str(uuid4())),
        ("acme", "x"),
        ("acme", ""),
    ]:
        with pytest.raises(NotFoundError) as caught:
            records.get(organization, recording_id)
        assert str(caught.value) == f"there is no recording {recording_id}"


def test_second_recording_of_a_meeting_should_need_permission(records: Records) -> None:
    first = records.add(new_recording())
    with pytest.raises(AlreadyRecordingError, match=str(first.id)):
        records.add(new_recording())
    records.add(new_recording(organization_id="other"))
    records.add(new_recording(meeting_id="elsewhere"))
    later = records.add(new_recording(invoked_time=now() + timedelta(seconds=1)), allow_multiple=True)
    assert records.active("acme", "demo") == later
    records.change_state(later.id, Status.ERRORED)
    assert records.active("acme", "demo") == first
    records.change_state(first.id, Status.ERRORED)
    with pytest.raises(NotFoundError):
        records.active("acme", "demo")
    assert records.add(new_recording()).status is Status.INVOKED


def test_adding_again_after_a_lost_answer_should_succeed(records: Records) -> None:
    recording = new_recording()
    assert records.add(recording) == records.add(recording)


def test_state_should_change_together_with_fields_timeline_and_index(
    records: Records, redis_client: redis.Redis
) -> None:
    recording = records.add(new_recording())
    moment = now()
    started = records.change_state(recording.id, Status.RECORDING, started_time=moment, node="node-1")
    assert (started.status, started.started_time, started.node) == (Status.RECORDING, moment, "node-1")
    records.change_state(recording.id, Status.PAUSED)
    records.change_state(recording.id, Status.RECORDING)
    assert records.active("acme", "demo").status is Status.RECORDING
    records.change_state(recording.id, Status.UPLOADING, stopped_time=now())
    with pytest.raises(NotFoundError):
        records.active("acme", "demo")
    assert [one.id for one in records.unfinished()] == [recording.id]
    done = records.change_state(
        recording.id, Status.UPLOADED, file_size=5, quality={"frames": 1, "lost": [0.5]}
    )
    assert done == records.get("acme", recording.id)
    assert done.quality == {"frames": 1, "lost": [0.5]}
    assert [entry.status for entry in done.timeline] == [
        "INVOKED",
        "RECORDING",
        "PAUSED",
        "RECORDING",
        "UPLOADING",
        "UPLOADED",
    ]
    assert [entry.time for entry in done.timeline] == sorted(entry.time for entry in done.timeline)
    assert records.unfinished() == []
    assert redis_client.keys("farm:active:*") == []


@pytest.mark.parametrize("final", [Status.UPLOADED, Status.ERRORED])
def test_final_state_should_never_change(records: Records, final: Status) -> None:
    recording = records.add(new_recording())
    path = [Status.RECORDING, Status.UPLOADING, Status.UPLOADED] if final is Status.UPLOADED else [final]
    for status in path:
        records.change_state(recording.id, status)
    before = records.get(None, recording.id)
    for status in Status:
        with pytest.raises(WrongStateError, match=f"{recording.id} is {final}"):
            records.change_state(recording.id, status, file_size=1)
    assert records.get(None, recording.id) == before


def test_keys_of_storage_should_be_forgotten_when_there_are_no_files_for_it(records: Records) -> None:
    failed, ended = (
        records.add(new_recording(meeting_id=meeting), target=SealedTarget("s3", "sealed"))
        for meeting in ("failed", "ended")
    )
    records.change_state(failed.id, Status.ERRORED)
    for status in (Status.RECORDING, Status.UPLOADING, Status.UPLOADED):
        records.change_state(ended.id, status)
    assert records.sealed_target(failed.id, "s3") is None
    assert records.sealed_target(ended.id, "s3") == "sealed"


def test_only_from_should_narrow_the_states_a_change_starts_from(records: Records) -> None:
    recording = records.add(new_recording())
    records.change_state(recording.id, Status.RECORDING)
    with pytest.raises(WrongStateError):
        records.change_state(recording.id, Status.ERRORED, only_from={Status.INVOKED})
    # A narrowing never allows what the table of transitions does not.
    with pytest.raises(WrongStateError):
        records.change_state(recording.id, Status.UPLOADED, only_from={Status.RECORDING})


def test_exactly_one_of_many_state_changes_should_win(records: Records) -> None:
    recording = records.add(new_recording())
    results = race(lambda number: records.change_state(recording.id, Status.RECORDING, node=f"n{number}"))
    winners = [result for result in results if isinstance(result, Recording)]
    assert len(winners) == 1
    assert sum(isinstance(result, WrongStateError) for result in results) == RACERS - 1
    after = records.get(None, recording.id)
    assert after == winners[0]
    assert len(after.timeline) == 2


def test_exactly_one_of_many_recordings_of_a_meeting_should_be_added(records: Records) -> None:
    results = race(lambda _number: records.add(new_recording()))
    assert sum(isinstance(result, Recording) for result in results) == 1
    assert len(records.unfinished()) == 1


def test_change_should_be_announced(records: Records, redis_client: redis.Redis) -> None:
    recording = records.add(new_recording())
    with redis_client.pubsub() as changes:  # type: ignore[no-untyped-call]
        changes.subscribe(record_key(recording.id))
        assert changes.get_message(timeout=2) is not None
        records.change_state(recording.id, Status.RECORDING)
        message = changes.get_message(timeout=2)
    assert message is not None
    assert message["data"] == b"RECORDING"


def test_update_should_set_fields_and_nothing_else(records: Records) -> None:
    recording = records.add(new_recording())
    failure = Failure(code="page_failed", message='it said "no"')
    updated = records.update(recording.id, node="node-2", error=failure)
    assert updated == recording.model_copy(update={"node": "node-2", "error": failure})
    assert records.update(recording.id) == updated
    assert records.update(recording.id, error=None).error is None


@pytest.mark.parametrize("field", ["id", "organization_id", "meeting_id", "status", "timeline", "color"])
def test_fields_that_keep_the_index_right_should_not_be_settable(records: Records, field: str) -> None:
    recording = records.add(new_recording())
    with pytest.raises(ValueError, match=field):
        records.update(recording.id, **{field: "x"})
    with pytest.raises(ValueError, match=field):
        records.change_state(recording.id, Status.RECORDING, only_from=None, **{field: "x"})
    assert records.get(None, recording.id) == recording


def test_value_of_the_wrong_type_should_change_nothing(records: Records) -> None:
    recording = records.add(new_recording())
    with pytest.raises(ValidationError):
        records.change_state(recording.id, Status.RECORDING, started_time="yesterday")
    assert records.get(None, recording.id) == recording


def test_writes_to_an_unknown_recording_should_leave_no_trace(
    records: Records, redis_client: redis.Redis
) -> None:
    with pytest.raises(NotFoundError):
        records.update(uuid4(), node="n")
    with pytest.raises(NotFoundError):
        records.change_state(uuid4(), Status.RECORDING)
    assert redis_client.keys() == []


@pytest.fixture
def listed(records: Records) -> list[Recording]:
    """Nine, the newest first, in three meetings and three states; another organization has one more."""
    start = now() - timedelta(hours=1)
    added = []
    for number in range(9):
        recording = records.add(
            new_recording(meeting_id=f"Room {number % 3}", invoked_time=start + timedelta(seconds=number)),
            allow_multiple=True,
        )
        if number >= 3:
            recording = records.change_state(recording.id, Status.RECORDING)
        if number >= 6:
            recording = records.change_state(recording.id, Status.UPLOADING)
        added.append(recording)
    records.add(new_recording(organization_id="other", meeting_id="Room 0"))
    return added[::-1]


def test_list_should_have_the_newest_first_in_pages(records: Records, listed: list[Recording]) -> None:
    first = records.find("acme", Wanted(count=4))
    assert (first.recordings, first.total) == (listed[:4], 9)
    last = records.find("acme", Wanted(count=4, offset=8))
    assert (last.recordings, last.total) == (listed[8:], 9)
    assert records.find("acme", Wanted(oldest_first=True)).recordings == listed[::-1]
    assert records.find("acme", Wanted(count=0)).total == 9
    assert records.find("nobody", Wanted()).total == 0


def test_list_should_be_narrowed_by_state_meeting_time_and_text(
    records: Records, listed: list[Recording]
) -> None:
    def found(**wanted: Any) -> list[Recording]:
        page = records.find("acme", Wanted(**wanted))
        assert page.total == len(page.recordings)
        return page.recordings

    states = frozenset({Status.INVOKED, Status.UPLOADING})
    assert found(statuses=states) == listed[:3] + listed[6:]
    assert found(meeting_id="Room 1") == [listed[1], listed[4], listed[7]]
    assert found(meeting_id="Room 1", statuses=frozenset({Status.RECORDING})) == [listed[4]]
    assert found(meeting_id="Room") == []
    assert found(search="oOM 2") == [listed[0], listed[3], listed[6]]
    assert found(search="no such") == []
    earliest, latest = (microseconds(listed[i].invoked_time) for i in (6, 2))
    assert found(earliest=earliest, latest=latest) == listed[2:7]
    assert found(earliest=earliest, latest=latest, search="Room 0", oldest_first=True) == [
        listed[5],
        listed[2],
    ]


def test_one_unreadable_record_should_keep_nobody_from_the_others(
    records: Records, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = (records.add(new_recording(meeting_id=name)) for name in ("bad", "good"))
    redis_client.hset(record_key(bad.id), "status", b'"OF_A_LATER_VERSION"')
    assert [recording.id for recording in records.unfinished()] == [good.id]
    assert [recording.id for recording in records.find("acme", Wanted()).recordings] == [good.id]
    assert f"the record of recording {bad.id} cannot be read (status)" in caplog.text
    with pytest.raises(RecordUnreadableError, match="another version"):
        records.get("acme", bad.id)
    redis_client.hset(record_key(bad.id), "status", b"\xff")
    assert [recording.id for recording in records.unfinished()] == [good.id]


def test_deleted_recording_should_leave_nothing_behind_but_that_it_was_deleted(
    records: Records, redis_client: redis.Redis
) -> None:
    recording = records.add(new_recording())
    with pytest.raises(WrongStateError, match="stop it"):
        records.delete(recording)
    ended = records.change_state(recording.id, Status.ERRORED)
    records.delete(ended)
    records.delete(ended)
    with pytest.raises(NotFoundError):
        records.get("acme", recording.id)
    assert records.find("acme", Wanted()).total == 0
    assert set(redis_client.keys()) == {CHANGES_KEY.encode(), events_key("acme").encode(), b"farm:deleted"}
    assert records.was_deleted(recording.id)
    assert not records.was_deleted(uuid4())


def test_same_idempotency_key_should_give_the_same_recording(records: Records) -> None:
    first = records.add(new_recording(), idempotency=Idempotency("k", "hash"))
    assert records.add(new_recording(), idempotency=Idempotency("k", "hash")) == first
    other = new_recording(organization_id="other")
    assert records.add(other, idempotency=Idempotency("k", "hash")).id == other.id
    with pytest.raises(InvalidRequestError, match="different request"):
        records.add(new_recording(meeting_id="b"), idempotency=Idempotency("k", "other"))
    assert records.find("acme", Wanted()).total == 1
    records.delete(records.change_state(first.id, Status.ERRORED))
    with pytest.raises(InvalidRequestError, match="was deleted"):
        records.add(new_recording(), idempotency=Idempotency("k", "hash"))


def test_same_idempotency_key_should_start_once_in_a_race(records: Records) -> None:
    recordings = [new_recording() for _ in range(RACERS)]
    kept = race(lambda number: records.add(recordings[number], idempotency=Idempotency("k", "hash")))
    assert len({recording.id for recording in kept}) == 1


def test_every_change_should_be_reported_with_a_copy(records: Records, redis_client: redis.Redis) -> None:
    added = records.add(new_recording(meeting_id='"会議"'))
    changed = records.change_state(added.id, Status.RECORDING, started_time=now())
    records.update(added.id, node="node-1")
    for key in (CHANGES_KEY, events_key("acme")):
        entries: Any = redis_client.xrange(key)
        assert [recording_of(fields) for _, fields in entries] == [added, changed]


def test_note_should_be_added_to_the_timeline_once(records: Records, redis_client: redis.Redis) -> None:
    recording = records.add(new_recording())
    entry = TimelineEntry(event="take_began", take=0, time=now())
    for _ in range(2):
        records.note(recording.id, entry)
    assert records.get(None, recording.id).timeline[1:] == (entry,)
    records.note(uuid4(), entry)
    assert len(redis_client.keys("farm:recording:*")) == 1


def test_slot_should_be_reported_until_the_recording_has_ended(
    records: Records, redis_client: redis.Redis
) -> None:
    recording = records.add(new_recording())
    assert recording.slot is None
    claimed = records.claim(recording, "node-1", slot=2)
    assert (claimed.node, claimed.slot) == ("node-1", 2)
    records.claim(recording, "node-1", slot=2)  # the answer was lost
    entries: Any = redis_client.xrange(events_key("acme"))
    assert [recording_of(fields) for _, fields in entries] == [recording, claimed]
    assert records.change_state(recording.id, Status.RECORDING).slot == 2
    assert records.change_state(recording.id, Status.PAUSED).slot == 2
    ended = records.change_state(recording.id, Status.UPLOADING)
    assert (ended.node, ended.slot) == ("node-1", None)
    with pytest.raises(WrongStateError):
        records.claim(ended, "node-1", slot=2)


def test_slot_should_never_have_two_recordings(records: Records) -> None:
    died, other, elsewhere = (records.add(new_recording(meeting_id=meeting)) for meeting in "abc")

    def slots() -> list[int | None]:
        return [records.get(None, recording.id).slot for recording in (died, other, elsewhere)]

    records.claim(died, "node-1", slot=1)
    records.claim(elsewhere, "node-2", slot=1)
    # Its work horse was killed, and the slot has another one before any has gone on with it.
    records.claim(other, "node-1", slot=1)
    assert slots() == [None, 1, 1]
    records.claim(died, "node-1", slot=2)
    records.claim(other, "node-1", slot=3)
    records.claim(died, "node-1", slot=1)
    assert slots() == [1, 3, 1]


def test_recording_that_redis_had_lost_should_be_in_no_slot_until_it_is_claimed(
    records: Records, redis_client: redis.Redis
) -> None:
    lost = records.claim(records.add(new_recording(meeting_id="a")), "node-1", slot=1)
    redis_client.flushall()
    records.claim(records.add(new_recording(meeting_id="b")), "node-1", slot=1)
    assert records.restore(lost, {})
    assert records.get(None, lost.id).slot is None
    assert records.claim(lost, "node-1", slot=2).slot == 2


def test_record_of_a_farm_that_knew_no_slots_should_be_read_and_gone_on_with(
    records: Records, redis_client: redis.Redis
) -> None:
    recording = records.add(new_recording(node="node-1"))
    redis_client.hdel(record_key(recording.id), "slot")
    assert records.get(None, recording.id).slot is None
    assert records.claim(recording, "node-1").slot is None
    assert records.claim(recording, "node-1", slot=1).slot == 1


def test_what_only_a_newer_farm_knows_should_be_left_as_it_is(
    records: Records, redis_client: redis.Redis
) -> None:
    recording = records.add(new_recording())
    key = record_key(recording.id)
    entry = b'{"time":"2026-01-31T09:00:00Z","event":"finding_began","finding":"of_tomorrow","more":1}'
    redis_client.hset(key, mapping={"color": '"blue"', "timeline": entry})
    changed = records.change_state(recording.id, Status.RECORDING)
    assert [each.finding for each in changed.timeline] == ["of_tomorrow", None]
    kept: Any = redis_client.hgetall(key)
    assert kept[b"color"] == b'"blue"'
    assert kept[b"timeline"].startswith(entry)
