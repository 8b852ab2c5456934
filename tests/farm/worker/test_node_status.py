"""What a node tells of itself, and what it does when it is drained."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from recording_farm.farm.host.resources import Processors
from recording_farm.farm.nodes.availability import living
from recording_farm.farm.nodes.registry import Nodes
from recording_farm.farm.worker.draining import clear_draining, mark_draining
from recording_farm.farm.worker.heartbeat import Watcher
from recording_farm.farm.worker.node_status import read_condition
from testkit.settings import settings_with


def test_beat_should_tell_how_the_node_is(
    redis_client: redis.Redis, redis_address: str, tmp_path: Path
) -> None:
    settings = settings_with(tmp_path, redis_address, slots=3)
    directory = settings.spool_dir / "00000000-0000-0000-0000-000000000001"
    directory.mkdir(parents=True)
    Watcher(settings, redis_client).step()
    (node,) = Nodes(redis_client).all()
    condition = node.beat.condition
    assert condition is not None
    assert (node.name, node.beat.slots, node.gone, node.drained) == (settings.node, 3, None, False)
    assert condition.recordings == 1  # a spool that was made just now is about to be recorded into
    assert 0 <= condition.load <= 1
    assert 0 < condition.disk_free <= condition.disk_size
    assert condition.memory_free > 0


def test_beat_should_tell_that_the_node_has_no_room_and_why(
    redis_client: redis.Redis, redis_address: str, tmp_path: Path
) -> None:
    settings = settings_with(tmp_path, redis_address, disk_reserve="900000G")
    Watcher(settings, redis_client).step()
    (node,) = living(Nodes(redis_client).all())
    assert (node.state, node.refusal) == ("no_room", "disk")
    assert node.no_room is not None
    assert re.fullmatch(
        r"\d+ MiB of disk free, 921600000 MiB required \(FARM_DISK_RESERVE\)", node.no_room.message
    )


def test_stages_of_other_farms_should_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The farms of other tests may have warm stages; of a worker that has just begun none is.
    worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    monkeypatch.setattr(os, "getppid", lambda: worker.pid)
    condition = read_condition(settings_with(tmp_path, None), Processors())
    assert condition is not None
    assert condition.warm_stages == 0
    worker.communicate(b"\n", timeout=20)


def test_spool_that_cannot_be_should_leave_the_condition_unknown(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert read_condition(settings_with(tmp_path / "data", None), Processors()) is None


def test_drained_node_should_stay_drained_through_its_beats(redis_client: redis.Redis) -> None:
    nodes = Nodes(redis_client)
    nodes.beat("a", 2)
    nodes.drain("a")
    nodes.beat("a", 2)
    assert [(node.name, node.drained) for node in nodes.all()] == [("a", True)]
    nodes.undrain("a")
    nodes.undrain("a")
    assert not nodes.is_drained("a")


def test_beat_should_tell_that_the_worker_was_told_to_end(
    redis_client: redis.Redis, redis_address: str, tmp_path: Path
) -> None:
    settings = settings_with(tmp_path, redis_address)
    watcher = Watcher(settings, redis_client)
    told = []
    for step in (clear_draining, mark_draining, clear_draining):
        step(settings)
        watcher.step()
        told += [node.beat.draining for node in Nodes(redis_client).all()]
    assert told == [False, True, False]


def test_beat_of_a_node_that_tells_less_should_be_read(redis_client: redis.Redis) -> None:
    redis_client.hset("farm:nodes", "old", '{"time": "2026-01-15T10:00:00Z", "slots": 2}')
    (node,) = Nodes(redis_client).all()
    assert (node.beat.slots, node.beat.condition, node.beat.draining) == (2, None, False)
