"""A short run of what `make chaos` does, as a user runs it."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.long


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("seed", "seconds", "fault"),
    [
        (9, 30, ""),
        # A store in S3, and customers' storages at sshd.
        (2947, 40, "node lost with its disk"),
    ],
)
def test_all_recordings_should_be_uploaded_whatever_breaks(seed: int, seconds: int, fault: str) -> None:
    run = subprocess.Popen(
        [
            *(sys.executable, "-m", "chaos", "--recordings", "2"),
            *("--seconds", str(seconds), "--seed", str(seed)),
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        said, _ = run.communicate(timeout=380)
    finally:
        if run.poll() is None:
            run.send_signal(signal.SIGINT)
            run.wait(60)
    print(said)
    assert run.returncode == 0, said
    assert "2 started, 2 uploaded" in said
    assert f"; {fault} at" in said or not fault
    assert "nothing unfinished is in the storages" in said
