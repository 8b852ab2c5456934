"""A short run of what `make chaos` does, as a user runs it."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.long


@pytest.mark.timeout(400)
def test_all_recordings_should_be_uploaded_whatever_breaks() -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "chaos", "--recordings", "3", "--seconds", "30", "--seed", "9"],
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
    assert "3 started, 3 uploaded" in said
