"""Whose recording the next free slot takes."""

from uuid import UUID, uuid4

from rq import Queue
from rq.job import Job

from recording_farm.farm.queues.fair_queue import take_next
from recording_farm.farm.queues.recordings import (
    RECORD_JOB,
    Place,
    count_waiting,
    enqueue_recording,
    has_live_job,
    put_back,
    queue_place,
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


def test_thousand_queued_recordings_should_delay_another_organization_by_one_at_most(farm: Farm) -> None:
    queued(farm, "umbra", 1)
    assert takes(farm, 1) == "u"
    (first,) = queued(farm, "umbra")
    crowd(farm, "umbra", 998)
    (last,) = queued(farm, "umbra")
    (own,) = queued(farm, "acme")
    assert queue_place(farm.redis, own, 0) == Place(1)
    assert queue_place(farm.redis, first, 0) == Place(2)
    assert queue_place(farm.redis, last, 0) == Place(1001)
    assert take(farm) == own
    # Its next one waits for one of umbra's.
    (own,) = queued(farm, "acme")
    assert queue_place(farm.redis, own, 0) == Place(2)
    assert [take(farm), take(farm)] == [first, own]


def test_organization_that_had_its_turn_first_should_have_the_next_one_first(farm: Farm) -> None:
    queued(farm, "acme")
    queued(farm, "umbra", 300)
    assert takes(farm, 2) == "au"
    # Each has one of two slots. The one that is free next is acme's, whoever uses how much.
    (own,) = queued(farm, "acme")
    assert queue_place(farm.redis, own, 0) == Place(1)
    assert takes(farm, 3) == "auu"


def test_organizations_should_take_turns(farm: Farm) -> None:
    queued(farm, "umbra", 3)
    queued(farm, "acme", 3)
    queued(farm, "initech", 1)
    assert takes(farm, 7) == "uaiuaua"


def test_running_recordings_should_not_change_whose_turn_it_is(farm: Farm) -> None:
    running(farm, "acme", 5)
    running(farm, "umbra", 1)
    queued(farm, "acme", 2)
    queued(farm, "umbra", 2)
    assert takes(farm, 4) == "auau"


def test_organization_that_comes_should_be_next_after_those_who_wait_already(farm: Farm) -> None:
    for organization in ("umbra", "initech", "globex"):
        queued(farm, organization, 4)
    assert takes(farm, 4) == "uigu"
    queued(farm, "acme")
    assert takes(farm, 5) == "igaui"


def test_organization_that_comes_back_at_once_should_let_the_others_have_their_turn(farm: Farm) -> None:
    queued(farm, "umbra", 3)
    taken = ""
    for _ in range(3):
        queued(farm, "acme")
        taken += takes(farm, 2)
    assert taken == "uauaua"


def test_paused_recordings_should_count_for_the_limit_and_ended_ones_should_not(farm: Farm) -> None:
    paused, ended = running(farm, "acme", 2)
    farm.records.change_state(paused.id, Status.PAUSED)
    farm.records.change_state(ended.id, Status.UPLOADING)
    (waiting,) = queued(farm, "acme")
    assert queue_place(farm.redis, waiting, 1) == Place(1, is_held_back=True)
    assert queue_place(farm.redis, waiting, 2) == Place(1)


def test_weight_should_give_an_organization_more_turns(farm: Farm) -> None:
    Quotas(farm.redis, farm.settings).set("acme", OwnQuota(weight=2))
    queued(farm, "umbra", 20)
    queued(farm, "acme", 20)
    assert takes(farm, 9) == "uaauaauaa"


def test_organization_that_had_nothing_to_record_should_not_save_up_turns(farm: Farm) -> None:
    queued(farm, "acme")
    queued(farm, "umbra", 20)
    assert takes(farm, 10) == "auuuuuuuuu"
    queued(farm, "acme", 5)
    assert takes(farm, 5) == "auaua"


def test_organization_that_recorded_alone_should_owe_no_turns(farm: Farm) -> None:
    for _ in range(9):
        queued(farm, "acme")
        assert takes(farm, 1) == "a"
    queued(farm, "acme", 3)
    queued(farm, "umbra", 3)
    assert takes(farm, 6) == "uauaua"


def test_turns_of_one_priority_should_not_count_in_another(farm: Farm) -> None:
    queued(farm, "acme", 9, priority=Priority.HIGH)
    assert takes(farm, 9) == "a" * 9
    queued(farm, "umbra", 3)
    queued(farm, "acme", 3)
    assert takes(farm, 6) == "uauaua"


def test_organization_that_its_limit_held_back_should_be_next_and_have_one_turn(farm: Farm) -> None:
    Quotas(farm.redis, farm.settings).set("acme", OwnQuota(running=2))
    on = running(farm, "acme", 2)
    queued(farm, "acme", 5)
    queued(farm, "umbra", 20)
    assert takes(farm, 9) == "u" * 9
    queued(farm, "initech", 3)
    for recording in on:
        farm.records.change_state(recording.id, Status.ERRORED)
    assert takes(farm, 5) == "aiuai"


def test_recording_that_a_slot_puts_back_should_be_the_next_again(farm: Farm) -> None:
    (first,) = queued(farm, "acme")
    queued(farm, "umbra", 2)
    job = Job.fetch(str(first.id), connection=farm.redis)
    for _ in range(3):
        assert take(farm) == first
        put_back(farm.redis, recordings_queue(farm.redis, "acme"), job)
    queued(farm, "acme", 2)
    assert queue_place(farm.redis, first, 0) == Place(1)
    assert takes(farm, 5) == "auaua"


def test_higher_priority_should_be_first_whatever_an_organization_uses(farm: Farm) -> None:
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


def test_jobs_of_the_version_before_should_be_taken_in_turns_too(farm: Farm) -> None:
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


def test_redis_that_has_lost_the_turns_should_let_organizations_take_turns_again(farm: Farm) -> None:
    queued(farm, "umbra", 9)
    assert takes(farm, 5) == "u" * 5
    queued(farm, "acme", 3)
    farm.redis.delete("farm:queue:turns")
    queued(farm, "initech", 3)
    assert takes(farm, 7) == "auiauia"


def test_recording_that_no_worker_claimed_should_count_as_running(farm: Farm) -> None:
    # Its worker may just be about to claim it.
    queued(farm, "umbra", 2)
    queued(farm, "acme", 2)
    assert takes(farm, 3, limit=1) == "ua-"
    assert recordings_queue(farm.redis, "umbra").count == 1
