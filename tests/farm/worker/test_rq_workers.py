"""Workers run the farm's own jobs, and refuse everything else that lies in a queue."""

import json
import multiprocessing
import os
import pickle
import time
import zlib
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from rq import Worker
from rq.job import Job, JobStatus

from recording_farm.farm.host.processes import die_with_parent
from recording_farm.farm.jobs.entry import NamedJob
from recording_farm.farm.queues.recordings import RECORD_JOB, enqueue_continuation, enqueue_recording
from recording_farm.farm.queues.transfers import enqueue_finish, enqueue_transfer
from recording_farm.farm.queues.webhooks import SEND_JOB, enqueue_sending, webhooks_queue
from recording_farm.farm.worker.rq_workers import ResilientPool, ResilientSimpleWorker
from testkit.farm import Farm
from testkit.recordings import new_recording
from testkit.waiting import wait_until

ID = "742f15b1-662c-4f65-8bd4-90322f713c47"


def put(client: redis.Redis, data: bytes, **fields: str) -> Job:
    """A job in the queue of webhooks, as somebody with the password of Redis writes it."""
    job = webhooks_queue(client).enqueue(SEND_JOB)
    mapping: dict[Any, Any] = {"data": zlib.compress(data), **fields}
    client.hset(job.key, mapping=mapping)
    return job


def work(client: redis.Redis) -> None:
    ResilientSimpleWorker([webhooks_queue(client)], connection=client).work(burst=True)


def call(name: object, *args: object, instance: object = None, **kwargs: object) -> bytes:
    return json.dumps([name, instance, args, kwargs]).encode()


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        pytest.param(pickle.dumps(("os.system", None, ("true",), {})), {}, id="pickle"),
        pytest.param(call("os.system", "true"), {}, id="function"),
        pytest.param(call("recording_farm.farm.jobs.entry.NamedJob.fetch", ID), {}, id="method"),
        pytest.param(call("recording_farm.farm.jobs.finish.finish", ID), {}, id="function of the farm"),
        pytest.param(call("format", "x", instance="{0}"), {}, id="instance"),
        pytest.param(call(["farm.jobs.entry.record"], ID), {}, id="list as name"),
        pytest.param(call(RECORD_JOB, "../../etc"), {}, id="path"),
        pytest.param(call(RECORD_JOB, ID + "\n"), {}, id="line break"),
        pytest.param(call(RECORD_JOB, recording_id=ID), {}, id="keyword"),
        pytest.param(call("farm.jobs.entry.transfer", ID, "../x"), {}, id="target"),
        pytest.param(call(SEND_JOB, ID), {}, id="argument"),
        pytest.param(call(SEND_JOB), {"success_callback_name": "os.abort"}, id="on_success"),
        pytest.param(call(SEND_JOB), {"failure_callback_name": "os.abort"}, id="on_failure"),
        pytest.param(call(SEND_JOB), {"stopped_callback_name": "os.abort"}, id="on_stopped"),
        pytest.param(call(SEND_JOB), {"dependency_ids": '["x"]'}, id="dependency"),
        pytest.param(call(SEND_JOB), {"repeats_left": "9"}, id="repeat"),
        pytest.param(
            call(SEND_JOB),
            {"webhooks": '[{"url": "http://127.0.0.1:9/", "job_status": "failed"}]'},
            id="webhook",
        ),
    ],
)
def test_job_that_the_farm_did_not_enqueue_should_be_refused(
    redis_client: redis.Redis, caplog: pytest.LogCaptureFixture, data: bytes, fields: dict[str, str]
) -> None:
    job = put(redis_client, data, retries_left="5", **fields)
    work(redis_client)
    assert f"job {job.id} of the queue webhooks is refused" in caplog.text
    assert job.get_status() is JobStatus.FAILED
    assert job.id in webhooks_queue(redis_client).failed_job_registry.get_job_ids()


@pytest.mark.parametrize(
    "fields",
    [
        {"timeout": "x"},
        {"status": "x"},
        {"created_at": "x"},
        {"dependency_ids": "x"},
        {"retry_intervals": "{"},
    ],
)
def test_record_that_is_no_job_should_be_dropped(
    redis_client: redis.Redis, caplog: pytest.LogCaptureFixture, fields: dict[str, str]
) -> None:
    job = put(redis_client, call(SEND_JOB), **fields)
    work(redis_client)
    assert f"the job '{job.id}' in Redis cannot be read and is dropped" in caplog.text


def test_metadata_that_is_no_metadata_should_not_matter(redis_client: redis.Redis) -> None:
    job = put(redis_client, call(SEND_JOB), meta='["x"]')
    assert NamedJob.fetch(job.id, connection=redis_client).meta == {}


def test_each_job_of_the_farm_should_be_accepted(redis_client: redis.Redis) -> None:
    recording = new_recording()
    enqueue_recording(redis_client, recording)
    enqueue_continuation(redis_client, recording, "node-1")
    enqueue_finish(redis_client, recording, "node-1")
    enqueue_transfer(redis_client, recording, "store", "node-1")
    enqueue_transfer(redis_client, recording, "aws-2", None)
    enqueue_sending(redis_client)
    ids = [key.decode().rpartition(":")[2] for key in cast("list[bytes]", redis_client.keys("rq:job:*"))]
    assert len(ids) == 6
    jobs = [NamedJob.fetch(job_id, connection=redis_client) for job_id in ids]
    assert [job.refusal() for job in jobs if isinstance(job, NamedJob)] == [None] * 6


def test_worker_should_listen_to_no_command(redis_client: redis.Redis) -> None:
    worker = ResilientSimpleWorker([webhooks_queue(redis_client)], connection=redis_client)
    worker.subscribe()
    assert redis_client.pubsub_numsub(worker.pubsub_channel_name) == [
        (worker.pubsub_channel_name.encode(), 0)
    ]


def test_pool_should_end_with_its_workers_and_not_sleep(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    # RQ's own pool sleeps between two looks.
    slow = SimpleNamespace(sleep=lambda seconds: time.sleep(600 * seconds))
    monkeypatch.setattr("rq.worker_pool.time", slow)
    queue = webhooks_queue(farm.redis)

    def run() -> None:
        os.register_at_fork(after_in_child=die_with_parent)
        ResilientPool(farm.settings.redis_address, [queue.name], 2, ResilientSimpleWorker).start(
            logging_level="WARNING"
        )

    pool = multiprocessing.get_context("fork").Process(target=run)
    pool.start()
    try:
        wait_until(lambda: Worker.count(queue=queue) == 2)
        pool.terminate()
        pool.join(60)
        assert pool.exitcode == 0
    finally:
        pool.kill()
        pool.join()
    assert Worker.count(queue=queue) == 0
