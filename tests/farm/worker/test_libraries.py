import subprocess
import sys

import pytest
import redis
from rq import Queue

from recording_farm.farm.config.store_url import StoreKind
from recording_farm.farm.jobs.entry import NamedJob
from recording_farm.farm.queues.transfers import FINISH_JOB, TRANSFER_JOB
from recording_farm.farm.worker.libraries import storage_kind


@pytest.fixture
def queue(redis_client: redis.Redis) -> Queue:
    return Queue("uploads.n1", connection=redis_client, job_class=NamedJob)


@pytest.mark.parametrize(
    ("function", "arguments", "store", "kind"),
    [
        (TRANSFER_JOB, ("id", "azure"), StoreKind.S3, "azure"),
        (TRANSFER_JOB, ("id", "aws-2"), StoreKind.DIRECTORY, "aws"),
        (TRANSFER_JOB, ("id", "store"), StoreKind.AZURE, "azure"),
        (FINISH_JOB, ("id",), StoreKind.S3, "s3"),
        (FINISH_JOB, ("id",), StoreKind.DIRECTORY, None),
        (TRANSFER_JOB, ("id",), StoreKind.S3, None),
        ("farm.jobs.entry.record", ("id",), StoreKind.S3, None),
    ],
)
def test_library_should_be_that_of_the_storage_to_which_a_job_uploads(
    queue: Queue, function: str, arguments: tuple[str, ...], store: StoreKind, kind: str | None
) -> None:
    assert storage_kind(queue.enqueue(function, *arguments), store) == kind


@pytest.mark.parametrize(
    ("target", "library"), [("cloudflare", "boto3"), ("azure", "azure.storage.blob"), ("sftp-3", "paramiko")]
)
def test_worker_should_have_the_library_before_it_forks(target: str, library: str) -> None:
    program = f"""
import sys
from types import SimpleNamespace
from recording_farm.farm.config.store_url import StoreKind
from recording_farm.farm.worker.libraries import load_library_for
assert {library!r} not in sys.modules
load_library_for(SimpleNamespace(func_name={TRANSFER_JOB!r}, args=("id", {target!r})), StoreKind.DIRECTORY)
assert {library!r} in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
