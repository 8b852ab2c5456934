"""Time limits of jobs, in the workers that have them."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from rq import Queue
from rq.job import Job, JobStatus

from recording_farm.farm.worker.slot import SpoolWorker


@pytest.fixture
def queue(
    redis_address: str, redis_client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Queue:
    monkeypatch.setenv("FARM_REDIS_URL", redis_address)
    monkeypatch.setenv("FARM_DATA_DIR", str(tmp_path / "data"))
    return Queue("limited", connection=redis_client)


def stubborn() -> None:
    """Take every fault for one of the network, as boto3 does, and try again."""
    for _ in range(10):
        try:
            time.sleep(3)
        except Exception:  # noqa: BLE001 - that is what it is about
            continue


class AnyJob(Job):
    """RQ's job with the functions of these tests; RQ would import them, which the farm never does."""

    @property
    def func(self) -> Callable[..., None]:
        """The function of this module, or `time.sleep`."""
        functions: dict[str, Callable[..., None]] = {
            f"{__name__}.stubborn": stubborn,
            "time.sleep": time.sleep,
        }
        return functions[self.func_name or ""]


def work_on(queue: Queue) -> float:
    """Have a worker do the one job that waits, and look after its horse each second; the seconds it took."""
    began = time.monotonic()
    worker = SpoolWorker([queue], connection=queue.connection, job_class=AnyJob, job_monitoring_interval=1)
    worker.work(burst=True, logging_level="CRITICAL")
    return time.monotonic() - began


def test_job_should_end_with_its_time_whatever_it_makes_of_faults(queue: Queue) -> None:
    job = queue.enqueue(stubborn, job_timeout=1)
    assert work_on(queue) < 10
    assert job.get_status() == JobStatus.FAILED
    result = job.latest_result()
    assert result is not None
    assert "the job took longer than 1 s" in str(result.exc_string)


def test_job_that_takes_longer_than_its_worker_looks_away_should_go_on(queue: Queue) -> None:
    job = queue.enqueue(time.sleep, 3.5, job_timeout=60)
    assert work_on(queue) > 3.5
    assert job.get_status() == JobStatus.FINISHED
