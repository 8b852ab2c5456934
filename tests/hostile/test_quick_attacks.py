"""The quick attacks of `make hostile`, many at once, beside one victim; that one has the figures."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hostile.attacks import ATTACKS
from hostile.scene import open_scene
from hostile.victim import recorded_victim
from hostile.watch import watched
from testkit.machine.processes import wait_until_none

TOGETHER = ("header", "storage", "webhook", "names")
AFTERWARDS = ("disk", "start-stop")
ANSWER_MS = 10_000
"""An answer to another organization, at the worst, on a busy machine."""

GIGABYTE = 10**9


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path, for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="farm-hostile-", dir="/tmp") as path:
        yield Path(path)


@pytest.mark.exact
def test_quick_attacks_should_neither_end_a_victim_nor_stop_the_api(directory: Path) -> None:
    with open_scene(directory, seconds=4, starts=6) as scene:
        with (
            watched(scene.farm) as felt,
            recorded_victim(scene.farm, scene.victim_pages, directory) as victim,
        ):
            with ThreadPoolExecutor(len(TOGETHER)) as pool:
                outcomes = dict(
                    zip(
                        TOGETHER, pool.map(lambda name: ATTACKS[name].carry_out(scene), TOGETHER), strict=True
                    )
                )
            scene.end_all()
            outcomes |= {name: ATTACKS[name].carry_out(scene) for name in AFTERWARDS}
        scene.end_all()
    assert {name: outcome.faults for name, outcome in outcomes.items() if outcome.faults} == {}
    assert victim.was_kept, victim.recording
    assert felt.answer_ms < ANSWER_MS
    assert felt.disk < 2 * GIGABYTE
    assert felt.memory < 2 * GIGABYTE
    assert wait_until_none() == []
