"""A failed job that is requeued in RQ's dashboard does what is still to be done, and nothing twice."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from rq import Queue, SimpleWorker
from rq.job import Job, JobStatus

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.jobs.entry import NamedJob
from recording_farm.farm.queues.recordings import enqueue_recording, recordings_queue
from recording_farm.farm.queues.transfers import enqueue_finish, enqueue_transfer, transfers_queue
from recording_farm.farm.queues.webhooks import enqueue_sending, webhooks_queue
from recording_farm.farm.recording.model import Status
from recording_farm.farm.recording.transfers import STORE
from recording_farm.farm.spool.spool import spool_of
from testkit.api.portal import logged_in
from testkit.api.serving import served_in_thread
from testkit.farm import Farm
from testkit.recordings import new_recording
from testkit.settings import set_environment


@pytest.fixture
def acme(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """An administrator; the jobs that are done here have the farm's settings."""
    set_environment(monkeypatch, settings)
    monkeypatch.setenv("FARM_WEBHOOK_KEY", str(settings.webhook_key))
    with served_in_thread(settings) as address, logged_in(address, "acme", "acme-key") as client:
        yield client


def failed(queue: Queue) -> list[Job]:
    """Have all jobs of a queue fail, as when their worker dies."""
    jobs = queue.jobs
    for job in jobs:
        queue.remove(job.id)
        job.set_status(JobStatus.FAILED)
        queue.failed_job_registry.add(job, ttl=3600)
    return jobs


def requeue(client: httpx.Client, *jobs: Job) -> None:
    for job in jobs:
        path = f"/rq/job/{job.id}/requeue"
        response = client.post(path, headers={"Sec-Fetch-Site": "same-origin"})
        assert (response.status_code, response.json()) == (200, {"status": "OK"})
        again = client.post(path, headers={"Sec-Fetch-Site": "same-origin"})
        assert again.status_code == 409


def work(*queues: Queue) -> None:
    """Do what is in the queues."""
    SimpleWorker(queues, connection=queues[0].connection, job_class=NamedJob).work(
        burst=True, logging_level="ERROR"
    )
    assert [len(queue.failed_job_registry) for queue in queues] == [0] * len(queues)


def test_jobs_of_a_recording_should_be_harmless_to_repeat(
    acme: httpx.Client, farm: Farm, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"film")
    recording = farm.ended(new_recording(), film)
    queues = (
        recordings_queue(farm.redis, "acme"),
        transfers_queue(farm.redis, farm.settings.node),
        webhooks_queue(farm.redis),
    )
    enqueue_finish(farm.redis, recording, farm.settings.node)
    jobs = failed(queues[1])
    requeue(acme, *jobs)
    work(*queues)
    after = farm.records.get("acme", recording.id)
    assert after.status is Status.UPLOADED
    stored = farm.settings.data_dir / "store" / str(recording.id) / recording.output_file_name
    about = stored.stat()

    enqueue_recording(farm.redis, recording)
    enqueue_finish(farm.redis, recording, farm.settings.node)
    enqueue_transfer(farm.redis, recording, STORE, farm.settings.node)
    enqueue_sending(farm.redis)
    jobs = [job for queue in queues for job in failed(queue)]
    assert len(jobs) == 4
    requeue(acme, *jobs)
    work(*queues)
    assert farm.records.get("acme", recording.id) == after
    assert stored.stat() == about


def test_recording_under_way_should_not_be_disturbed_by_a_second_job(acme: httpx.Client, farm: Farm) -> None:
    recording = farm.add()
    farm.records.change_state(recording.id, Status.RECORDING, node=farm.settings.node)
    before = farm.records.get("acme", recording.id)
    spool = spool_of(before, farm.settings)
    spool.make()
    enqueue_recording(farm.redis, recording)
    queue = recordings_queue(farm.redis, "acme")
    with spool.held():
        requeue(acme, *failed(queue))
        work(queue)
    assert farm.records.get("acme", recording.id) == before


def test_job_that_has_not_failed_should_not_be_requeued(acme: httpx.Client, farm: Farm) -> None:
    recording = farm.add()
    enqueue_recording(farm.redis, recording)
    response = acme.post(f"/rq/job/{recording.id}/requeue", headers={"Sec-Fetch-Site": "same-origin"})
    assert response.status_code == 409
    assert recordings_queue(farm.redis, "acme").count == 1
