"""Loads the library of a job's storage in the worker, before it forks the work horse of the job.

Each work horse is a new process, and a library takes half a second to load, S3's with its description of the
service nearly a second. So only the first job of a worker waits for it.
"""

from contextlib import suppress
from importlib import import_module
from typing import Final

from rq.exceptions import DeserializationError
from rq.job import Job

from recording_farm.farm.config.store_url import StoreKind
from recording_farm.farm.queues.transfers import FINISH_JOB, TRANSFER_JOB
from recording_farm.farm.recording.transfers import STORE

_BACKENDS: Final = "recording_farm.farm.storage.backends"
_MODULES: Final = {
    **dict.fromkeys(("aws", "cloudflare", "digitalocean", "s3"), "s3"),
    "azure": "azure",
    "gcs": "gcs",
    "sftp": "sftp",
}
"""By the kind of a storage."""

_KINDS_OF_STORES: Final = {StoreKind.S3: "s3", StoreKind.AZURE: "azure"}


def load_library_for(job: Job, store: StoreKind) -> None:
    """Load what a job needs for its uploads; `store` is the kind of the farm's store."""
    module = _MODULES.get(storage_kind(job, store) or "")
    if module is None:
        return
    import_module(f"{_BACKENDS}.{module}")
    if module == "s3":
        from recording_farm.farm.storage.backends.s3_client import load_service

        load_service()


def storage_kind(job: Job, store: StoreKind) -> str | None:
    """The kind of storage to which a job uploads; None if it needs no library, or nobody can tell."""
    target = None
    with suppress(DeserializationError, IndexError):
        # The work horse reports a job that cannot be read.
        if job.func_name == FINISH_JOB:
            target = STORE
        elif job.func_name == TRANSFER_JOB:
            target = str(job.args[1])
    if target == STORE:
        return _KINDS_OF_STORES.get(store)
    # See `unused_name`.
    return None if target is None else target.partition("-")[0]
