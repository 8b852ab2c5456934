"""API keys of a farm with several APIs, each with a data directory of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import httpx
import pytest
import redis

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.api_keys import (
    create_api_key,
    list_api_keys,
    load_api_keys,
    revoke_api_key,
    sync_api_keys,
)
from recording_farm.farm.db.clients import connect
from testkit.api.client import ACME, client_of
from testkit.api.serving import served
from testkit.farm import Farm
from testkit.network.ports import free_port
from testkit.settings import settings_with
from testkit.waiting import until

SECONDS = 5.0


@asynccontextmanager
async def two_apis(
    one: Settings, two: Settings
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    async with client_of(one) as first, client_of(two) as second:
        yield first, second


@pytest.fixture
def elsewhere(settings: Settings, tmp_path: Path) -> Settings:
    """The same farm's settings on another machine."""
    return settings.model_copy(update={"data_dir": tmp_path / "elsewhere"})


async def admits(client: httpx.AsyncClient, key: str) -> bool:
    headers = {"X-Auth-Key": key}
    request = client.build_request("GET", "/v2/recordings", headers=headers)
    return (await client.send(request, auth=None)).status_code == 200


async def test_key_made_or_revoked_at_one_api_should_be_so_at_the_other(
    settings: Settings, elsewhere: Settings
) -> None:
    async with two_apis(settings, elsewhere) as (one, two):
        new = create_api_key(settings, "acme")
        assert await admits(one, new.text)
        await until(lambda: admits(two, new.text), SECONDS)
        revoke_api_key(elsewhere, new.key.id)
        assert not await admits(two, new.text)

        async def is_refused() -> bool:
            return not await admits(one, new.text)

        await until(is_refused, 2)
        assert not (settings.data_dir / "api-keys.json").read_text().count(new.key.hash)


async def test_stream_at_one_api_should_end_for_a_key_that_was_revoked_at_another(
    settings: Settings, elsewhere: Settings
) -> None:
    new = create_api_key(settings, "acme")
    headers = {"Authorization": f"Bearer {new.text}"}
    async with (
        served(settings) as address,
        httpx.AsyncClient(base_url=address, headers=headers) as client,
        client.stream("GET", "/v2/events") as stream,
    ):
        assert stream.status_code == 200
        revoke_api_key(elsewhere, new.key.id)
        await asyncio.sleep(1.5)
        async with asyncio.timeout(SECONDS):
            started = await client.post("/v2/recordings", json={"meeting_id": "a"}, auth=ACME)
            assert started.status_code == 200
            assert not [line async for line in stream.aiter_lines() if line.strip(": ")]


async def test_emptied_redis_should_lock_nobody_out_and_bring_no_revoked_key_back(
    farm: Farm, elsewhere: Settings, tmp_path: Path
) -> None:
    kept, gone = create_api_key(farm.settings, "acme"), create_api_key(farm.settings, "acme")
    async with two_apis(farm.settings, elsewhere) as (one, two):
        await until(lambda: admits(two, gone.text), SECONDS)
        revoke_api_key(elsewhere, gone.key.id)
        await asyncio.sleep(1.5)
        farm.redis.flushall()
        for _ in range(20):
            assert [await admits(each, kept.text) for each in (one, two)] == [True, True]
            assert [await admits(each, gone.text) for each in (one, two)] == [False, False]
            await asyncio.sleep(0.1)
        third = farm.settings.model_copy(update={"data_dir": tmp_path / "third"})
        async with client_of(third) as three:
            assert await admits(three, kept.text)
            assert not await admits(three, gone.text)


async def test_keys_of_a_file_should_be_taken_over_at_the_start(
    settings: Settings, elsewhere: Settings
) -> None:
    alone = settings.model_copy(update={"redis_url": None})
    made = create_api_key(alone, "acme")
    async with two_apis(settings, elsewhere) as (_, two):
        assert await admits(two, made.text)
    revoke_api_key(alone, made.key.id)
    assert made.key in list_api_keys(elsewhere)
    async with two_apis(settings, elsewhere) as (_, two):
        assert not await admits(two, made.text)
    assert made.key not in list_api_keys(elsewhere)


def test_first_key_should_be_made_by_one_api_of_the_farm(
    redis_address: str, redis_client: redis.Redis, tmp_path: Path
) -> None:
    assert redis_client.dbsize() == 0
    apis = [settings_with(tmp_path / name, redis_address, api_keys="") for name in "ab"]
    made = [load_api_keys(each).made for each in apis]
    assert made[0] is not None
    assert made[1] is None
    assert load_api_keys(apis[1]).keys.find(made[0].partition(":")[2]) is not None


def test_first_key_should_wait_for_the_redis_that_knows_whether_there_is_one(
    redis_address: str, redis_client: redis.Redis, tmp_path: Path
) -> None:
    away = settings_with(tmp_path, f"redis://127.0.0.1:{free_port()}", api_keys="")
    assert load_api_keys(away).made is None
    with pytest.raises(redis.ConnectionError):
        create_api_key(away, "acme")
    there = settings_with(tmp_path, redis_address, api_keys="")
    with connect(redis_address) as client:
        assert sync_api_keys(there, client).made is not None
        assert sync_api_keys(there, client).made is None
    assert redis_client.dbsize() == 2


def test_keys_should_lie_in_redis_as_hashes_alone(farm: Farm) -> None:
    new = create_api_key(farm.settings, "acme")
    kept = b"".join(cast("list[bytes]", farm.redis.hvals("farm:api_keys")))
    assert new.text.encode() not in kept
    assert new.key.hash.encode() in kept
    revoke_api_key(farm.settings, new.key.id)
    assert farm.redis.hvals("farm:api_keys") == []
