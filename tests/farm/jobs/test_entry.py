from contextlib import closing
from pathlib import Path

import pytest
import redis
from rq import Queue, SimpleWorker
from rq.job import JobStatus
from rq.utils import import_attribute

from farm.config.settings import Settings
from farm.jobs import entry
from farm.queues.recordings import RECORD_JOB
from farm.queues.transfers import FINISH_JOB, TRANSFER_JOB, is_to_be_finished, transfers_queue
from farm.queues.webhooks import SEND_JOB
from farm.recording.model import Status
from farm.recording.transfers import STORE
from farm.storage.store import open_store
from testkit.farm import Farm
from testkit.recordings import new_recording
from testkit.settings import set_environment

OLD_NAMES = {
    "farm.record_job.record": entry.record,
    "farm.finish_job.finish": entry.finish,
    "farm.transfer_job.transfer": entry.transfer,
    "farm.webhook_sender.send_due": entry.send_webhooks,
    "farm.retention.sweep": entry.delete_expired,
}


@pytest.mark.parametrize("name", [RECORD_JOB, FINISH_JOB, TRANSFER_JOB, SEND_JOB])
def test_names_of_jobs_should_be_functions_of_the_entry(name: str) -> None:
    module, _, function = name.rpartition(".")
    assert module == entry.__name__
    assert import_attribute(name) is getattr(entry, function)


@pytest.mark.parametrize("name", OLD_NAMES)
def test_old_names_should_be_the_same_functions(name: str) -> None:
    assert import_attribute(name) is OLD_NAMES[name]


def run(queue: Queue) -> None:
    SimpleWorker([queue], connection=queue.connection).work(burst=True)


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
