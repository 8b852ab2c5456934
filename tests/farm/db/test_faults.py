"""What is wrong with a real Redis is known for what it is, and one that deletes records is refused."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.faults import (
    Outage,
    RedisFault,
    check_redis,
    describe,
    fault_of,
    memory_of,
    probe,
    read_memory,
    refuse_eviction,
)
from recording_farm.farm.telemetry.metrics import FarmCollector
from testkit.metrics import shown
from testkit.redis_servers import FaultyRedis, faulty_redis, running
from testkit.waiting import wait_until

FAULTS = {
    "full": RedisFault.FULL,
    "replica": RedisFault.READ_ONLY,
    "stale replica": RedisFault.READ_ONLY,
    "without replicas": RedisFault.READ_ONLY,
    "not saving": RedisFault.NOT_SAVING,
    "without rights": RedisFault.REFUSED,
    "other password": RedisFault.REFUSED,
    "without connections": RedisFault.AWAY,
    "busy": RedisFault.BUSY,
    "killed": RedisFault.AWAY,
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyRedis]:
    with faulty_redis(tmp_path / "redis") as found:
        yield found


@pytest.mark.parametrize(("how", "fault"), FAULTS.items())
def test_each_fault_of_a_server_should_be_known(server: FaultyRedis, how: str, fault: RedisFault) -> None:
    with connect(server.address, retries=0) as client:
        if how not in {"other password", "without connections"}:  # which only new connections meet
            assert check_redis(client) is None
        server.break_it(how)
        assert check_redis(client) is fault
        with pytest.raises(redis.RedisError) as refusal:
            probe(client)
        # The same in a transaction, and in a script.
        with client.pipeline() as pipeline:
            pipeline.hset("farm:x", "secret", "hunter2")
            with pytest.raises(redis.RedisError) as refused:
                pipeline.execute()
        with pytest.raises(redis.RedisError) as script:
            client.register_script("return redis.call('SET', KEYS[1], 1)")(keys=["farm:x"])
        found = {fault_of(each.value) for each in (refusal, refused, script)}
        assert found == ({fault, RedisFault.AWAY} if how == "stale replica" else {fault})
        assert "hunter2" not in describe(refused.value)
        if how != "killed":
            server.mend(how)
            wait_until(lambda: check_redis(client) is None)


def test_server_that_still_loads_should_be_distinguished_from_one_that_is_away(tmp_path: Path) -> None:
    with faulty_redis(tmp_path / "redis") as server:
        with server.administrator.pipeline(transaction=False) as pipeline:
            for number in range(2000):
                pipeline.set(f"farm:{number}", "x" * 100)
            pipeline.execute()
        server.administrator.save()
    slowly = ("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
    words = ("--port", str(server.port), "--bind", "127.0.0.1", "--dir", str(tmp_path / "redis" / "data"))
    with (
        running(tmp_path / "again", *words, *slowly),
        connect(f"redis://127.0.0.1:{server.port}/0", retries=0) as client,
    ):
        wait_until(lambda: check_redis(client) is not RedisFault.AWAY)
        assert check_redis(client) is RedisFault.LOADING
        wait_until(lambda: check_redis(client) is None)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        # Redis 6.2, in a script.
        (
            "Error running script (call to f_1): @user_script:1: @user_script: 1: -OOM command not allowed "
            "when used memory > 'maxmemory'.",
            RedisFault.FULL,
        ),
        (
            "Error running script (call to f_1): @user_script:1: @user_script: 1: -READONLY You can't write "
            "against a read only replica.",
            RedisFault.READ_ONLY,
        ),
        (
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
            RedisFault.READ_ONLY,
        ),
        ("NOREPLICAS Not enough good replicas to write.", RedisFault.READ_ONLY),
        ("BUSYGROUP Consumer Group name already exists", RedisFault.FAILED),
        ("unknown command 'FOO'", RedisFault.FAILED),
    ],
)
def test_texts_of_other_versions_should_be_known(text: str, fault: RedisFault) -> None:
    assert fault_of(redis.ResponseError(text)) is fault


def test_outage_should_be_reported_once_and_its_pauses_be_bounded(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage("nothing can be done", logging.WARNING)
    error = redis.exceptions.OutOfMemoryError("command not allowed")
    assert [outage.failed(error) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]
    assert outage.is_ongoing
    assert len(caplog.records) == 1
    assert outage.recovered()
    assert not outage.recovered()
    assert len(caplog.records) == 2
    assert outage.failed(error) == 0.1


def environment_of(server: FaultyRedis, data_dir: Path) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("FARM_")},
        "FARM_DATA_DIR": str(data_dir),
        "FARM_REDIS_URL": server.address,
    }


@pytest.mark.parametrize(
    ("part", "policy"), [("worker", "allkeys-lru"), ("api", "volatile-ttl"), ("up", "allkeys-random")]
)
def test_parts_should_refuse_to_start_with_a_redis_that_evicts(
    server: FaultyRedis, part: str, policy: str, tmp_path: Path
) -> None:
    server.set_up(maxmemory_policy=policy)
    done = subprocess.run(
        [sys.executable, "-m", "recording_farm.farm.cli", part],
        env=environment_of(server, tmp_path), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (complaint,) = [line for line in done.stderr.splitlines() if line.startswith("farm: ")]
    assert policy in complaint
    assert "noeviction" in complaint


def test_policy_should_be_read_where_config_is_not_allowed(server: FaultyRedis) -> None:
    server.do("ACL", "SETUSER", "farm", "-@admin", "-@dangerous", "+info")
    refuse_eviction(server.address)
    server.set_up(maxmemory_policy="allkeys-lru")
    with connect(server.address) as client:
        assert check_redis(client) is RedisFault.EVICTS
    # Without INFO nobody knows, and that is no reason not to work.
    server.do("ACL", "SETUSER", "farm", "-info")
    refuse_eviction(server.address)
    with connect(server.address) as client:
        assert read_memory(client) is None
        assert check_redis(client) is None


def test_service_that_leaves_out_what_it_likes_should_not_break_anything() -> None:
    memory = memory_of({"used_memory": 5})
    assert (memory.limit, memory.policy, memory.evicts) == (0, None, False)


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, "broken", "noeviction"),
        ({"maxmemory": 1}, "broken", "is full"),
        ({}, "ok", "accepts writes"),
    ],
    ids=["evicts", "full", "fine"],
)
def test_doctor_should_look_at_the_redis_of_the_settings(
    server: FaultyRedis, options: dict[str, str | int], status: str, words: str, tmp_path: Path
) -> None:
    server.set_up(**options)
    done = subprocess.run(
        [sys.executable, "-m", "recording_farm.farm.cli", "doctor", "--json"],
        env=environment_of(server, tmp_path), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    (check,) = [check for check in json.loads(done.stdout) if check["name"] == "redis"]
    assert check["status"] == status
    assert words in check["detail"]
    assert (done.returncode == 0) or status == "broken"


def test_metrics_should_tell_of_evicted_keys_and_of_a_redis_that_fills(server: FaultyRedis) -> None:
    with connect(server.address) as client:
        found = shown(FarmCollector(client))
        assert (found["farm_redis_writable",], found["farm_redis_may_evict",]) == (1, 0)
        assert (found["farm_redis_evicted_keys_total",], found["farm_redis_memory_limit_bytes",]) == (0, 0)
        server.set_up(maxmemory=3 << 20, maxmemory_policy="allkeys-lru")
        with client.pipeline(transaction=False) as pipeline:
            for number in range(3000):
                pipeline.set(f"farm:{number}", "x" * 1000)
            pipeline.execute()
        found = shown(FarmCollector(client))
        assert found["farm_redis_may_evict",] == 1
        assert found["farm_redis_evicted_keys_total",] > 0
        assert found["farm_redis_memory_bytes",] > 0.8 * (3 << 20)
        assert found["farm_redis_memory_limit_bytes",] == 3 << 20
        server.set_up(maxmemory_policy="noeviction", maxmemory=1)
        found = shown(FarmCollector(client))
        assert (found["farm_redis_up",], found["farm_redis_writable",]) == (1, 0)


def test_write_should_go_to_another_server_once_a_name_means_another(tmp_path: Path) -> None:
    """A server that was made a replica keeps its connections; the name of a service has moved on."""
    with faulty_redis(tmp_path / "redis") as server, connect(server.address) as client:
        probe(client)
        server.break_it("replica")
        connections = int(server.administrator.info("stats")["total_connections_received"])
        mending = threading.Timer(0.1, server.mend, ["replica"])
        mending.start()
        began = time.monotonic()
        probe(client)
        mending.join()
        assert time.monotonic() - began < 2
        # It was tried on a new connection each time, for which the name was looked up.
        assert int(server.administrator.info("stats")["total_connections_received"]) > connections
