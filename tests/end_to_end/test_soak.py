"""Ten minutes of one recording, in which nothing may creep; run by `pytest -m soak`, on a quiet machine."""

from pathlib import Path
from random import Random

import pytest

from benchmarks.soak import SHARED, drift_of, soak_for

SECONDS = 600
MAX_DRIFT_MS = 10.0
"""In an hour, which is what is promised."""

MAX_MISSING = 0.005
MAX_GROWTH = 50e6
"""Bytes by which all programs together may grow meanwhile; Chromium's own memory goes up and down."""

MAX_SHARED = 160e6
"""Bytes of pictures between programs: at most 59 MB wait for the encoder, the rest are Chromium's and X's."""


@pytest.mark.parametrize("drift", [0.0, 20.0, -300.0])
def test_drift_should_be_found_beside_moments_in_which_a_machine_stood_still(drift: float) -> None:
    noise = Random(7)
    offsets = [
        drift / 1e3 * second / 3600
        + noise.gauss(0.001, 0.002)
        + (second % 50 == 0) * noise.uniform(-0.1, 0.1)
        for second in range(SECONDS)
    ]
    found = drift_of(offsets)
    assert found.ms_an_hour == pytest.approx(drift, abs=3 * found.error)
    assert found.error < 6


@pytest.mark.soak
@pytest.mark.timeout(2 * SECONDS)
def test_memory_and_sound_should_stay_where_they_are(tmp_path: Path) -> None:
    soak = soak_for(tmp_path, SECONDS)
    print(soak.fidelity.summary())
    assert soak.fidelity.duration == pytest.approx(SECONDS, abs=1)
    assert abs(soak.drift.ms_an_hour) < MAX_DRIFT_MS
    assert soak.fidelity.missing < MAX_MISSING * len(soak.fidelity.numbers)
    assert soak.growth() * SECONDS / 3600 < MAX_GROWTH
    assert max(sample.memory[SHARED] for sample in soak.samples) < MAX_SHARED
