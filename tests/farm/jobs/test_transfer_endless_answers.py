"""The whole transfer job, as a worker runs it, to a storage of a customer whose answers never end."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from recording_farm.farm.clock import now
from recording_farm.farm.jobs.settle import settle
from recording_farm.farm.jobs.transfer_attempt import run_transfer
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.transfers import GIVE_UP_AFTER, STORE, Transfer, TransferState, transfer_to
from recording_farm.farm.storage.store import open_store
from testkit.farm import Farm
from testkit.network.endless_server import endless_server
from testkit.recordings import new_recording

MIB = 1 << 20
MOST_MEMORY = 100 * MIB
"""More than a job has before it opens the storage's library."""

# Not getrusage's maximum: that has the parent's before the exec.
JOB = """
import sys
from pathlib import Path
from recording_farm.farm.jobs import entry
def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
before = most()
entry.transfer(*sys.argv[1:])
print(most() - before)
"""


def run_job(farm: Farm, recording: Recording, target: str) -> int:
    """Run the job in a process of its own; returns how many bytes of memory it has needed at most."""
    environment = {
        "FARM_DATA_DIR": str(farm.settings.data_dir),
        "FARM_REDIS_URL": farm.settings.redis_address,
        "FARM_NODE": farm.settings.node,
        "FARM_ALLOW_PRIVATE_ADDRESSES": "all",
    }
    done = subprocess.run(
        [sys.executable, "-c", JOB, str(recording.id), target],
        env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout) * 1024


def storage_at(kind: str, address: str) -> dict[str, Any]:
    """A customer's storage there."""
    if kind == "s3":
        return {
            "type": "s3",
            "endpoint": f"http://{address}",
            "bucket": "b",
            "access_key": "a",
            "secret": "s",
        }
    host, _, port = address.partition(":")
    login = {"username": "u", "auth_method": "PASSWORD", "password": "p"}
    return {"type": "sftp", "host": host, "port": int(port), **login}


ERROR = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\n\r\n<?xml version='1.0'?><Error><Code>"
BANNER = b"SSH-2.0-"


@pytest.mark.parametrize(
    ("kind", "head", "codes"),
    # How fast the machine reads decides which limit of a banner comes first: its bytes or its time.
    [("s3", ERROR, {"bad_answer"}), ("sftp", BANNER, {"bad_answer", "timed_out"})],
    ids=["body", "banner"],
)
def test_storage_that_answers_without_end_should_harm_neither_worker_nor_recording(
    farm: Farm, film: Path, kind: str, head: bytes, codes: set[str]
) -> None:
    with endless_server(head) as address:
        recording = farm.ended(new_recording(), film, storage_at(kind, address))
        farm.records.set_transfer(
            recording.id, Transfer(target=kind, attempts=20, first_tried=now() - GIVE_UP_AFTER)
        )
        memory = run_job(farm, recording, kind)
    run_transfer(recording.id, STORE, farm.settings, farm.redis)
    settle(recording.id, farm.settings, farm.redis)
    after = farm.records.get(None, recording.id)
    transfer = transfer_to(after.transfers, kind)
    assert transfer is not None
    assert transfer.error is not None
    assert transfer.state is TransferState.GIVEN_UP
    assert transfer.error.code in codes, transfer.error.message
    assert 0 < memory < MOST_MEMORY, memory
    assert after.status is Status.UPLOADED
    with closing(open_store(farm.settings).open(recording.id, recording.output_file_name)) as stored:
        assert stored.size == film.stat().st_size
