"""When a node is taken for gone, and when not."""

from pathlib import Path

import redis

from recording_farm.farm.nodes.registry import GONE_AFTER, MAX_BREAK, Nodes, Watch
from recording_farm.farm.worker.heartbeat import Watcher
from testkit.settings import settings_with


def looked(watch: Watch, beats: dict[str, bytes], seconds: range) -> list[str]:
    gone: list[str] = []
    for second in seconds:
        gone = watch.look(beats, second)
    return gone


def test_node_should_be_gone_when_it_is_silent_in_every_look() -> None:
    watch = Watch()
    for second in range(0, 30, 2):
        assert watch.look({"a": b"%d" % second, "b": b"last"}, second) == (["b"] if second > 15 else [])
    assert watch.look({"a": b"28", "b": b"again"}, 30) == []


def test_look_that_failed_should_restart_the_count() -> None:
    watch = Watch()
    beats = {"a": b"last"}
    assert looked(watch, beats, range(0, int(GONE_AFTER), 2)) == []
    watch.reset()
    assert looked(watch, beats, range(14, 14 + int(GONE_AFTER), 2)) == []
    assert looked(watch, beats, range(28, 32, 2)) == ["a"]


def test_watcher_that_stood_still_should_take_nobody_for_gone() -> None:
    watch = Watch()
    watch.look({"a": b"last"}, 0)
    assert watch.look({"a": b"last"}, GONE_AFTER + 30) == []
    assert looked(watch, {"a": b"last"}, range(46, 60, 2)) == []
    assert MAX_BREAK < GONE_AFTER


def test_node_that_redis_has_forgotten_should_not_be_gone() -> None:
    watch = Watch()
    assert looked(watch, {"a": b"last"}, range(0, 14, 2)) == []
    assert looked(watch, {}, range(14, 40, 2)) == []


def test_beat_should_undo_what_was_noted_of_an_end(redis_client: redis.Redis) -> None:
    nodes = Nodes(redis_client)
    nodes.beat("a", 2)
    last = nodes.beats()["a"]
    assert nodes.gone("a") is None
    assert nodes.mark_gone("a", last)
    assert not nodes.mark_gone("a", last)
    first = nodes.gone("a")
    assert first is not None
    assert first.heard <= first.since
    nodes.beat("a", 2)
    assert nodes.gone("a") is None
    # Whoever had not heard of that beat comes too late.
    assert not nodes.mark_gone("a", last)
    nodes.forget("a")
    assert list(nodes.beats()) == ["a"]
    assert nodes.mark_gone("a", nodes.beats()["a"])
    nodes.forget("a")
    assert (nodes.beats(), nodes.gone("a")) == ({}, None)


def test_watcher_should_say_that_its_node_lives(
    redis_client: redis.Redis, redis_address: str, tmp_path: Path
) -> None:
    settings = settings_with(tmp_path, redis_address)
    Watcher(settings, redis_client).step()
    assert list(Nodes(redis_client).beats()) == [settings.node]
