"""A program that uses storages for tests, each time in a process of its own.

It imports the backends once and forks for each request, so that a test can look at the memory of a process
without waiting for its imports. A request is a line of JSON, and so is its result.
"""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from recording_farm.farm.storage.backend import Checkpoint, StorageError
from recording_farm.farm.storage.backends import answers
from recording_farm.farm.storage.backends.azure import AzureBackend, AzureContainer
from recording_farm.farm.storage.backends.gcs import GcsBackend, GcsBucket
from recording_farm.farm.storage.backends.s3 import S3Backend
from recording_farm.farm.storage.backends.s3_client import S3Bucket
from recording_farm.farm.storage.backends.sftp import SftpBackend, SftpServer
from testkit.storage.azure_account import connection_string

MOST_SECONDS = 100


def _backend(kind: str, port: int) -> Any:  # no protocol has all that is used
    address = f"http://127.0.0.1:{port}"
    match kind:
        case "s3":
            return S3Backend(S3Bucket("bucket", "key", "secret", endpoint=address), tries=1)
        case "azure":
            return AzureBackend(AzureContainer("container", connection_string(port)), tries=1)
        case "gcs":
            return GcsBackend(GcsBucket("bucket", None, endpoint=address))
        case _:
            return SftpBackend(SftpServer("127.0.0.1", "user", port, password="x"))


def _act(kind: str, port: int, what: str, directory: str, answer_seconds: float | None) -> dict[str, Any]:
    """Use a storage; the bytes of memory and the seconds that it takes, and why it fails."""
    backend = _backend(kind, port)
    if answer_seconds is not None:
        setattr(answers, "ANSWER_SECONDS", answer_seconds)  # noqa: B010 - it is Final
    source = Path(directory, "file")
    source.write_bytes(bytes(20 << 20))
    before, began = _most_memory(), time.monotonic()
    reason = "none"
    try:
        match what:
            case "check":
                backend.check_writing("recordings")
            case "upload":
                backend.upload(source, "file", Checkpoint(Path(directory, "checkpoint")), "video/mp4")
            case "fetch":
                backend.fetch("file", Path(directory, "fetched"))
    except StorageError as error:
        reason = f"{error.reason}: {error.message}"
    return {"memory": _most_memory() - before, "seconds": time.monotonic() - began, "reason": reason}


def _most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Fork for each line of standard input."""
    for line in sys.stdin:
        if os.fork() == 0:
            signal.alarm(MOST_SECONDS)
            print(json.dumps(_act(*json.loads(line))), flush=True)
            os._exit(0)
        _, status = os.wait()
        if status:
            print(json.dumps({"failed": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
