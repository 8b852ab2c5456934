from contextlib import closing
from pathlib import Path

import pytest
import redis
from rq import Queue, SimpleWorker
from rq.job import JobStatus

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.jobs import entry
from recording_farm.farm.queues.recordings import RECORD_JOB
from recording_farm.farm.queues.transfers import FINISH_JOB, TRANSFER_JOB, is_to_be_finished, transfers_queue
from recording_farm.farm.queues.webhooks import SEND_JOB
from recording_farm.farm.recording.model import Status
from recording_farm.farm.recording.transfers import STORE
from recording_farm.farm.storage.store import open_store
from testkit.farm import Farm
from testkit.recordings import new_recording
from testkit.settings import set_environment

ID = "742f15b1-662c-4f65-8bd4-90322f713c47"

OLD_NAMES = {
    "farm.record_job.record": entry.record,
    "farm.finish_job.finish": entry.finish,
    "farm.transfer_job.transfer": entry.transfer,
    "farm.webhook_sender.send_due": entry.send_webhooks,
    "farm.retention.sweep": entry.delete_expired,
}


@pytest.mark.parametrize("name", [RECORD_JOB, FINISH_JOB, TRANSFER_JOB, SEND_JOB])
def test_names_of_jobs_should_be_functions_of_the_entry(name: str, redis_client: redis.Redis) -> None:
    assert function_of(name, redis_client) is getattr(entry, name.rpartition(".")[2])


@pytest.mark.parametrize("name", OLD_NAMES)
def test_old_names_should_be_the_same_functions(name: str, redis_client: redis.Redis) -> None:
    assert function_of(name, redis_client) is OLD_NAMES[name]


@pytest.mark.parametrize("name", ["os.system", "recording_farm.farm.jobs.finish.finish", "farm.jobs.entry.x"])
def test_no_other_name_should_be_imported(name: str, redis_client: redis.Redis) -> None:
    with pytest.raises(ValueError, match="knows no job"):
        function_of(name, redis_client)


def function_of(name: str, client: redis.Redis) -> object:
    function = name.rpartition(".")[2]
    arguments = {"record": [ID], "finish": [ID], "transfer": [ID, STORE]}.get(function, [])
    job = Queue("jobs", connection=client).enqueue(name, *arguments)
    return entry.NamedJob.fetch(job.id, connection=client).func


def run(queue: Queue) -> None:
    SimpleWorker([queue], connection=queue.connection, job_class=entry.NamedJob).work(burst=True)


@pytest.fixture
def _settings_from_environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, settings)


@pytest.mark.usefixtures("_settings_from_environment")
def test_job_that_the_last_version_has_queued_should_be_done(farm: Farm, film: Path) -> None:
    recording = farm.ended(new_recording(), film)
    queue = transfers_queue(farm.redis, farm.settings.node)
    job = queue.enqueue("farm.transfer_job.transfer", str(recording.id), STORE)
    run(queue)
    assert job.get_status() is JobStatus.FINISHED
    after = farm.records.get(None, recording.id)
    assert after.status is Status.UPLOADED
    store = open_store(farm.settings)
    with closing(store.open(after.id, recording.output_file_name)) as stored:
        assert stored.size == film.stat().st_size


@pytest.mark.usefixtures("_settings_from_environment")
def test_cron_job_that_the_last_version_has_queued_should_be_done(redis_client: redis.Redis) -> None:
    queue = Queue("transfers.node-1", connection=redis_client)
    jobs = [queue.enqueue(name) for name in ("farm.recovery.look_for_lost", "farm.retention.sweep")]
    run(queue)
    assert [job.get_status() for job in jobs] == [JobStatus.FINISHED] * 2


def test_finish_that_the_last_version_has_queued_should_count_as_queued(farm: Farm) -> None:
    recording = new_recording()
    transfers_queue(farm.redis, farm.settings.node).enqueue("farm.finish_job.finish", str(recording.id))
    assert is_to_be_finished(farm.redis, recording.id, farm.settings.node)
