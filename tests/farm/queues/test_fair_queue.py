"""Whose recording the next free slot takes."""

from collections.abc import Iterable
from itertools import chain
from uuid import UUID, uuid4

import pytest
from rq import Queue
from rq.job import Job

from recording_farm.farm.queues.fair_queue import look_at_backlogs, take_next
from recording_farm.farm.queues.recordings import (
    RECORD_JOB,
    Place,
    count_waiting,
    enqueue_recording,
    has_live_job,
    queue_place,
    queue_places,
    recordings_queue,
)
from recording_farm.farm.recording.model import Priority, Recording, Status
from recording_farm.farm.recording.quotas import OwnQuota, Quotas
from testkit.farm import Farm


def queued(farm: Farm, organization_id: str, count: int = 1, **fields: object) -> list[Recording]:
    """Start recordings of an organization; all of them wait."""
    recordings = []
    for _ in range(count):
        recording = farm.add(organization_id=organization_id, meeting_id=uuid4().hex, **fields)
        enqueue_recording(farm.redis, recording)
        recordings.append(recording)
    return recordings


def crowd(farm: Farm, organization_id: str, count: int) -> None:
    """Make as many recordings wait, but without their records, which would take seconds."""
    ids = [str(uuid4()) for _ in range(count)]
    farm.redis.zadd(f"farm:index:{organization_id}:INVOKED", dict.fromkeys(ids, 1))
    farm.redis.rpush(f"rq:queue:recordings@{organization_id}", *ids)


def running(farm: Farm, organization_id: str, count: int) -> list[Recording]:
    """Recordings of an organization that have a slot."""
    recordings = [farm.add(organization_id=organization_id, meeting_id=uuid4().hex) for _ in range(count)]
    for recording in recordings:
        farm.records.change_state(recording.id, Status.RECORDING)
    return recordings


def take(farm: Farm, limit: int = 0) -> Recording | None:
    """Take the next recording, as a free slot does."""
    taken = take_next(farm.redis, limit)
    return farm.records.get(None, UUID(taken[1])) if taken else None


def takes(farm: Farm, count: int, limit: int = 0) -> str:
    """The initials of the organizations whose recordings so many free slots take."""
    taken = [take(farm, limit) for _ in range(count)]
    return "".join(each.organization_id[0] if each else "-" for each in taken)


def takes_with_one_slot(farm: Farm, count: int) -> str:
    """The same of one slot, in which a recording has ended before the next one starts."""
    initials = ""
    for _ in range(count):
        recording = take(farm)
        assert recording is not None
        farm.records.change_state(recording.id, Status.ERRORED)
        initials += recording.organization_id[0]
    return initials


def test_thousand_queued_recordings_should_not_stand_before_another_organizations(farm: Farm) -> None:
    running(farm, "umbra", 2)
    (first,) = queued(farm, "umbra")
    crowd(farm, "umbra", 998)
    (last,) = queued(farm, "umbra")
    (own,) = queued(farm, "acme")
    assert queue_place(farm.redis, own, 0) == Place(1)
    assert queue_place(farm.redis, first, 0) == Place(2)
    assert queue_place(farm.redis, last, 0) == Place(1001)
    assert take(farm) == own
    assert take(farm) == first


def test_organizations_that_use_the_same_should_take_turns(farm: Farm) -> None:
    queued(farm, "umbra", 3)
    queued(farm, "acme", 3)
    queued(farm, "initech", 1)
    assert takes_with_one_slot(farm, 7) == "uaiuaua"


def test_organization_with_fewer_running_recordings_should_be_next(farm: Farm) -> None:
    umbras = running(farm, "umbra", 3)
    running(farm, "acme", 1)
    queued(farm, "umbra", 4)
    queued(farm, "acme", 4)
    assert takes(farm, 3) == "aau"
    # Both have four then, and one of umbra's ends.
    farm.records.change_state(umbras[0].id, Status.ERRORED)
    assert takes(farm, 2) == "ua"


def test_paused_and_ended_recordings_should_count_as_they_use_slots(farm: Farm) -> None:
    paused, ended = running(farm, "acme", 2)
    farm.records.change_state(paused.id, Status.PAUSED)
    farm.records.change_state(ended.id, Status.UPLOADING)
    running(farm, "umbra", 1)
    queued(farm, "umbra", 1)
    queued(farm, "acme", 1)
    (umbra, acme) = look_at_backlogs(farm.redis, 0).by_priority[Priority.NORMAL]
    assert {umbra.running, acme.running} == {1}


def test_weight_should_give_an_organization_more_slots_and_more_turns(farm: Farm) -> None:
    Quotas(farm.redis, farm.settings).set("acme", OwnQuota(weight=2))
    queued(farm, "acme", 20)
    queued(farm, "umbra", 20)
    assert sorted(takes(farm, 9)) == sorted("aaaaaauuu")
    farm.redis.flushall()
    Quotas(farm.redis, farm.settings).set("acme", OwnQuota(weight=2))
    queued(farm, "acme", 20)
    queued(farm, "umbra", 20)
    assert sorted(takes_with_one_slot(farm, 9)) == sorted("aaaaaauuu")


def test_organization_that_had_nothing_to_record_should_not_save_up_turns(farm: Farm) -> None:
    queued(farm, "acme")
    queued(farm, "umbra", 20)
    assert takes_with_one_slot(farm, 10) == "auuuuuuuuu"
    queued(farm, "acme", 5)
    assert takes_with_one_slot(farm, 5) in {"auaua", "aauau"}


def test_higher_priority_should_be_first_whatever_the_shares(farm: Farm) -> None:
    running(farm, "acme", 5)
    (low,) = queued(farm, "umbra", priority=Priority.LOW)
    (normal,) = queued(farm, "umbra")
    (high,) = queued(farm, "acme", priority=Priority.HIGH)
    assert [take(farm) for _ in range(4)] == [high, normal, low, None]


def test_recordings_beyond_the_quota_of_running_ones_should_wait_for_one_to_end(farm: Farm) -> None:
    (on,) = running(farm, "acme", 1)
    first, second = queued(farm, "acme", 2)
    (other,) = queued(farm, "umbra", priority=Priority.LOW)
    assert queue_place(farm.redis, first, 2) == Place(1)
    assert queue_place(farm.redis, second, 2) == Place(3, is_held_back=True)
    assert queue_place(farm.redis, other, 2) == Place(2)
    assert [take(farm, 2) for _ in range(3)] == [first, other, None]
    farm.records.change_state(on.id, Status.ERRORED)
    assert take(farm, 2) == second


def test_quota_of_one_organization_should_replace_that_of_all(farm: Farm) -> None:
    Quotas(farm.redis, farm.settings).set("acme", OwnQuota(running=3))
    Quotas(farm.redis, farm.settings).set("initech", OwnQuota(running=0))
    for organization in ("acme", "umbra", "initech"):
        queued(farm, organization, 4)
    assert sorted(takes(farm, 20, limit=1).rstrip("-")) == sorted("aaauiiii")


@pytest.mark.parametrize("weights", [(1, 1, 1), (3, 1, 2)])
def test_place_should_tell_when_a_recording_is_taken(farm: Farm, weights: Iterable[int]) -> None:
    names = ("acme", "initech", "umbra")
    for name, weight in zip(names, weights, strict=True):
        Quotas(farm.redis, farm.settings).set(name, OwnQuota(weight=weight))
    running(farm, "acme", 2)
    running(farm, "umbra", 1)
    for _ in range(3):
        for name in names:
            queued(farm, name, 2)
            queued(farm, name, 1, priority=Priority.LOW)
            queued(farm, name, 1, priority=Priority.HIGH)
    wanted = dict(chain.from_iterable(queue_places(farm.redis, name, 0).items() for name in names))
    order = []
    while (recording := take(farm)) is not None:
        order.append(str(recording.id))
    assert len(order) == 36
    assert [wanted[each].position for each in order] == list(range(1, 37))


def test_jobs_of_the_version_before_should_be_worked_off_by_the_same_shares(farm: Farm) -> None:
    before = [
        farm.add(organization_id=name, meeting_id=f"{n}") for n, name in enumerate(["umbra"] * 3 + ["acme"])
    ]
    deleted = farm.add(organization_id="umbra", meeting_id="deleted")
    queue = Queue("recordings", connection=farm.redis)
    for recording in (deleted, *before):
        queue.enqueue(RECORD_JOB, str(recording.id), job_id=str(recording.id))
    farm.stop_and_delete(deleted)
    assert count_waiting(farm.redis) == 5
    assert take(farm) == before[0]
    assert take(farm) == before[3]
    assert has_live_job(farm.redis, before[1].id)
    assert queue_place(farm.redis, before[2], 0) == Place(2)
    assert Job.fetch(str(before[2].id), connection=farm.redis).origin == "recordings@umbra"
    assert not Job.exists(str(deleted.id), connection=farm.redis)
    assert (queue.count, count_waiting(farm.redis)) == (0, 2)


def test_redis_that_has_lost_the_turns_should_still_give_out_all_recordings(farm: Farm) -> None:
    queued(farm, "umbra", 2)
    queued(farm, "acme", 2)
    take(farm)
    farm.redis.delete("farm:queue:turns")
    assert sorted(takes(farm, 4)) == sorted("-aau")


def test_recording_that_no_worker_claimed_should_count_as_running(farm: Farm) -> None:
    # Its worker may just be about to claim it.
    queued(farm, "umbra", 2)
    assert takes(farm, 1) == "u"
    queued(farm, "acme", 2)
    assert takes(farm, 3) == "aua"
    assert recordings_queue(farm.redis, "umbra").count == 0
