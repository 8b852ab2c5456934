"""Recordings over Redis as companies run it: Sentinels that fail over, TLS, and a user with few rights."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import redis
import redis.asyncio

from recording_farm.farm.db.clients import connect, connect_async, in_time
from testkit.network.ports import free_port
from testkit.redis_servers import SentinelSet, make_certificates, running, sentinel_set
from testkit.running_farm import (
    RECORDED,
    RunningFarm,
    running_farm,
    takes_of,
    wait_until_healthy,
)
from testkit.waiting import wait_until

pytestmark = pytest.mark.long

USER_RIGHTS = "~farm:* ~rq:* &* +@all -@admin -@dangerous +info +client|list +client|setname"
"""As docs/operations.md has it."""


class ToldToEnd(Exception):  # noqa: N818 - as RQ's StopRequested
    """What a signal's handler raises."""


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[SentinelSet]:
    with sentinel_set(tmp_path / "redis") as found:
        yield found


def record_on(farm: RunningFarm, recording: dict[str, Any]) -> dict[str, Any]:
    """Use a recording after Redis was away, and end it."""
    wait_until_healthy(farm)
    farm.order(recording["id"], "pause")
    farm.wait_for(recording["id"], "PAUSED")
    farm.order(recording["id"], "resume")
    farm.wait_for_take(recording["id"], 2, 60)
    time.sleep(RECORDED)
    farm.order(recording["id"], "stop")
    return farm.wait_for(recording["id"], "UPLOADED", timeout=90)


@pytest.mark.timeout(400)
def test_recording_should_outlive_the_masters_death(
    sentinels: SentinelSet, pages: str, tmp_path: Path
) -> None:
    with running_farm(tmp_path / "data", FARM_REDIS_URL=sentinels.address) as farm:
        started = farm.start(url=f"{pages}/page.html")
        farm.wait_for_take(started["id"], 1, 60)
        time.sleep(RECORDED)
        master = sentinels.master()
        sentinels.servers[master].kill()
        killed = time.monotonic()
        sentinels.wait_for_master_other_than(master)
        wait_until_healthy(farm)
        away = time.monotonic() - killed
        recording = record_on(farm, started)
        assert (recording["error"], takes_of(recording)) == (None, 2)
        assert recording["recording_duration"] >= away + RECORDED
        # The next one begins as if nothing had been.
        after = farm.start(url=f"{pages}/page.html")
        farm.wait_for_take(after["id"], 1, 90)
        farm.order(after["id"], "stop")
        farm.wait_for(after["id"], "UPLOADED", timeout=90)
    print(f"Redis was away for {away:.1f} s")


@pytest.mark.timeout(400)
def test_recording_should_outlive_a_master_that_becomes_a_replica(
    sentinels: SentinelSet, pages: str, tmp_path: Path
) -> None:
    with running_farm(tmp_path / "data", FARM_REDIS_URL=sentinels.address) as farm:
        started = farm.start(url=f"{pages}/page.html")
        farm.wait_for_take(started["id"], 1, 60)
        master = sentinels.master()
        sentinels.fail_over()
        sentinels.wait_for_master_other_than(master)
        with sentinels.client(master) as old:
            wait_until(lambda: old.info("replication")["role"] == "slave", 60)
        recording = record_on(farm, started)
        assert (recording["error"], takes_of(recording)) == (None, 2)


async def test_clients_should_find_the_new_master(sentinels: SentinelSet) -> None:
    with connect(sentinels.address) as client:
        async with connect_async(sentinels.address) as waiting:
            client.set("farm:x", 1)
            async with in_time():
                assert await waiting.get("farm:x") == b"1"
            assert client.execute_command("WAIT", 1, 5000) == 1
            master = sentinels.master()
            sentinels.servers[master].kill()
            sentinels.wait_for_master_other_than(master)
            # Not all Sentinels know at once.
            wait_until(lambda: client.incr("farm:x") >= 2, 60)
            assert await patiently(waiting) >= 2


async def patiently(client: redis.asyncio.Redis) -> int:
    """The number in Redis, however long it takes to reach that."""
    deadline = time.monotonic() + 60
    while True:
        try:
            async with in_time():
                return int(await client.get("farm:x") or 0)
        except redis.RedisError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


def test_answer_that_was_not_waited_for_should_not_be_the_next_ones(sentinels: SentinelSet) -> None:
    with connect(sentinels.address) as client:
        client.set("farm:x", "mine")

        def interrupt(_: int, __: FrameType | None) -> None:
            raise ToldToEnd

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(ToldToEnd):
                client.blpop(["farm:nothing"], timeout=1)
        finally:
            signal.signal(signal.SIGALRM, before)
        time.sleep(1.5)
        assert client.get("farm:x") == b"mine"


def test_sentinel_that_is_away_should_not_matter(sentinels: SentinelSet) -> None:
    nobody = sentinels.address.replace("@127.0.0.1", f"@127.0.0.1:{free_port()},127.0.0.1", 1)
    with connect(nobody) as client:
        began = time.monotonic()
        assert client.ping()
        assert time.monotonic() - began < 3


def test_errors_about_redis_should_not_contain_secrets() -> None:
    address = f"redis+sentinel://farm:hunter2@127.0.0.1:{free_port()}/farm?sentinel_password=hunter2"
    with connect(address, retries=0) as client, pytest.raises(redis.ConnectionError) as refusal:
        client.ping()
    assert "hunter2" not in f"{refusal.value!r} {client!r}"


@pytest.mark.timeout(300)
def test_recording_should_be_made_over_tls_by_a_user_with_few_rights(pages: str, tmp_path: Path) -> None:
    files = make_certificates(tmp_path / "certificates")
    port = free_port()
    words = {
        "port": "0", "tls-port": str(port), "bind": "127.0.0.1", "save": "",
        "tls-cert-file": str(files.certificate), "tls-key-file": str(files.key),
        "tls-ca-cert-file": str(files.authority), "tls-auth-clients": "no",
        "requirepass": "of-the-administrator",
    }  # fmt: skip
    options = [word for name, value in words.items() for word in (f"--{name}", value)]
    trusted = f"rediss://{{}}@127.0.0.1:{port}/0?ssl_ca_certs={files.authority}"
    address = trusted.format("farm:of-the-farm")
    with (
        running(tmp_path / "redis", *options),
        connect(trusted.format(":of-the-administrator")) as administrator,
        connect(f"rediss://farm:of-the-farm@127.0.0.1:{port}/0", retries=0) as distrustful,
    ):
        wait_until(administrator.ping)
        administrator.execute_command("ACL", "SETUSER", "farm", "on", ">of-the-farm", *USER_RIGHTS.split())
        with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
            distrustful.ping()
        with running_farm(tmp_path / "data", FARM_REDIS_URL=address) as farm:
            started = farm.start(url=f"{pages}/page.html")
            farm.wait_for_take(started["id"], 1, 60)
            time.sleep(RECORDED)
            farm.order(started["id"], "stop")
            recording = farm.wait_for(started["id"], "UPLOADED", timeout=90)
            assert recording["error"] is None
            assert "of-the-farm" not in farm.log()
        assert administrator.execute_command("ACL", "LOG") == []
