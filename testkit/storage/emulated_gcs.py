"""Runs a Python program whose buckets of Google Cloud Storage are an emulator's.

    python -m testkit.storage.emulated_gcs ENDPOINT PYTHON -m MODULE ARGUMENT…

A customer cannot name an endpoint for Google's storage, so no setting of the farm can either.
"""

import runpy
import sys
from functools import partial

from recording_farm.farm.storage.backends import gcs


def words_of(endpoint: str) -> tuple[str, ...]:
    """The words before those of a Python program."""
    return sys.executable, "-m", "testkit.storage.emulated_gcs", endpoint


if __name__ == "__main__":
    _, endpoint, _, _, module, *arguments = sys.argv
    gcs.GcsBucket = partial(gcs.GcsBucket, endpoint=endpoint)  # type: ignore[misc,assignment]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
