"""The numbers of slots."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.nodes import slot_number
from recording_farm.farm.nodes.slot_number import acquire_slot_number
from testkit.settings import settings_with

# A slot and its work horse, each until it is told or killed.
SLOT = """
import os, sys
from recording_farm.farm.config.settings import load_settings
from recording_farm.farm.nodes.slot_number import slot_number, acquire_slot_number

acquire_slot_number(load_settings())
if not os.fork():
    print(slot_number(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _no_slot(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(slot_number, "_held", None)
    yield
    if slot_number._held is not None:
        slot_number._held.lock.close()


@contextmanager
def running_slot(settings: Settings) -> Iterator[tuple[Callable[[], None], Callable[[], None], int]]:
    """How to kill a slot that runs, how to end its work horse, and the number that this knows."""
    environment = {"FARM_DATA_DIR": str(settings.data_dir), "FARM_NODE": settings.node}
    with subprocess.Popen(
        [sys.executable, "-c", SLOT],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def kill() -> None:
            process.kill()
            process.wait()

        def end() -> None:
            stdin.close()
            assert stdout.read() == ""  # at the end of whoever could still write

        yield kill, end, int(stdout.readline())


def test_number_should_be_free_when_slot_and_work_horse_are_dead(settings: Settings) -> None:
    with running_slot(settings) as (kill_slot, end_horse, number):
        assert number == 1
        assert acquire_slot_number(settings) == 2
        kill_slot()
        # Its recording may still run.
        assert acquire_slot_number(settings) == 2
        end_horse()
        assert acquire_slot_number(settings) == 1


def test_nodes_that_share_a_data_directory_should_number_their_slots_apart(settings: Settings) -> None:
    other = settings_with(settings.data_dir, None, node="node-2")
    with running_slot(settings) as (_, end_horse, number):
        assert (number, acquire_slot_number(other), acquire_slot_number(settings)) == (1, 1, 2)
        end_horse()


def test_slot_should_go_without_a_number_when_the_disk_fails(settings: Settings) -> None:
    settings.data_dir.mkdir()
    settings.slots_dir.write_text("in the way")
    assert acquire_slot_number(settings) is None
    assert slot_number.slot_number() is None
