from datetime import UTC, datetime

import redis
from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry

from recording_farm.farm.queues.jobs import note_node
from recording_farm.farm.queues.recordings import (
    Place,
    drop_job,
    enqueue_recording,
    has_live_job,
    queue_place,
    queue_places,
    recordings_queue,
)
from recording_farm.farm.queues.transfers import enqueue_transfer, transfers_queue, uploads_queue
from recording_farm.farm.recording.model import Priority
from recording_farm.farm.recording.transfers import STORE
from testkit.recordings import new_recording


def test_recording_should_be_queued_as_a_job_with_its_own_id(redis_client: redis.Redis) -> None:
    recording = new_recording(max_seconds=100)
    enqueue_recording(redis_client, recording)
    (job,) = recordings_queue(redis_client, "acme").jobs
    assert (job.id, job.func_name, job.args) == (
        str(recording.id),
        "farm.jobs.entry.record",
        (str(recording.id),),
    )
    assert job.timeout is not None
    assert job.timeout >= 100 + 3600


def test_job_whose_worker_has_died_should_not_count_as_live(redis_client: redis.Redis) -> None:
    recording = new_recording()
    enqueue_recording(redis_client, recording)
    queue = recordings_queue(redis_client, "acme")
    (job,) = queue.jobs
    queue.empty()  # type: ignore[no-untyped-call]
    job.save()
    job.set_status(JobStatus.STARTED)
    executions = StartedJobRegistry(queue.name, connection=redis_client).key
    for beat, live in ((60, True), (-1, False)):
        redis_client.zadd(executions, {f"{job.id}:execution": datetime.now(UTC).timestamp() + beat})
        assert has_live_job(redis_client, recording.id) == live


def test_each_node_should_have_a_queue_of_transfers(redis_client: redis.Redis) -> None:
    assert transfers_queue(redis_client, "node-1").name == "transfers.node-1"


def test_try_should_not_be_queued_before_its_time(redis_client: redis.Redis) -> None:
    moment = datetime(2126, 1, 31, 12, 0, 0, 900_000, tzinfo=UTC)
    enqueue_transfer(redis_client, new_recording(), "s3", "node-1", at=moment)
    queue = uploads_queue(redis_client, "node-1")
    (job_id,) = queue.scheduled_job_registry.get_job_ids()
    # A job that came earlier would find nothing to do, and there would be no other.
    assert queue.scheduled_job_registry.get_scheduled_time(job_id) >= moment


def test_store_should_be_tried_again_where_customers_storage_is_not_waited_for(
    redis_client: redis.Redis,
) -> None:
    recording = new_recording()
    for target in (STORE, "s3"):
        enqueue_transfer(redis_client, recording, target, "node-1")
    assert [job.args[1] for job in transfers_queue(redis_client, "node-1").jobs] == [STORE]
    assert [job.args[1] for job in uploads_queue(redis_client, "node-1").jobs] == ["s3"]


def test_high_priority_should_stand_before_normal_and_low_in_the_order_of_coming(
    redis_client: redis.Redis,
) -> None:
    order = [Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.NORMAL, Priority.HIGH]
    recordings = [new_recording(priority=priority) for priority in order]
    for recording in recordings:
        enqueue_recording(redis_client, recording)
    places = [queue_place(redis_client, recording, 0) for recording in recordings]
    assert [place.position for place in places if place] == [5, 3, 1, 4, 2]
    in_list = queue_places(redis_client, "acme", 0)
    assert places == [in_list[str(recording.id)] for recording in recordings]
    queues = [recordings_queue(redis_client, "acme", priority) for priority in Priority]
    assert [queue.count for queue in queues] == [2, 2, 1]
    drop_job(redis_client, recordings[2])
    assert queue_place(redis_client, recordings[2], 0) is None
    assert queue_place(redis_client, recordings[0], 0) == Place(4)


def test_job_should_tell_operators_what_it_is_about(redis_client: redis.Redis) -> None:
    recording = new_recording(meeting_id="weekly")
    enqueue_recording(redis_client, recording)
    enqueue_transfer(redis_client, recording, "aws", "node-2")
    (record_job,) = recordings_queue(redis_client, "acme").jobs
    (transfer_job,) = uploads_queue(redis_client, "node-2").jobs
    about = {"recording": str(recording.id), "meeting": "weekly"}
    assert record_job.meta == {**about, "node": None}
    assert transfer_job.meta == {**about, "node": "node-2"}
    assert transfer_job.description == "transfer the recording of the meeting weekly to aws"
    note_node(record_job, "node-1")
    assert Job.fetch(record_job.id, connection=redis_client).get_meta()["node"] == "node-1"
