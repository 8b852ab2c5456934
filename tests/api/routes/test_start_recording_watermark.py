"""Watermarks of recordings that are asked for: drawn when there is to be one, and kept as long as it is."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import redis

from recording_farm.farm.config.settings import Settings
from testkit.api.client import client_of
from testkit.browser_bot.sites import Site, answer, open_site
from testkit.farm import Farm
from testkit.settings import settings_with

MARK = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 1"><rect width="2" height="1"/></svg>'


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site() as site:
        site.add("/mark.svg", answer(MARK, kind="image/svg+xml"))
        yield site


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    allowing = settings_with(
        settings.data_dir, settings.redis_url, allow_private_addresses="127.0.0.0/8", node="node-1"
    )
    async with client_of(allowing) as client:
        yield client


async def post(
    client: httpx.AsyncClient, site: Site, key: str | None = None, **fields: Any
) -> httpx.Response:
    body = {"meeting_id": "m", "video_config": {"watermark": {"url": site.url("/mark.svg")}}} | fields
    return await client.post("/v2/recordings", json=body, headers={"Idempotency-Key": key} if key else {})


def kept(client: redis.Redis) -> int:
    return len(list(client.scan_iter("farm:watermark:*")))


async def test_watermark_should_not_be_fetched_for_what_is_not_to_be_recorded(
    client: httpx.AsyncClient, site: Site, redis_client: redis.Redis
) -> None:
    first = await post(client, site, "key")
    assert first.status_code == 200, first.text
    assert (site.asked, kept(redis_client)) == (["/mark.svg"], 1)
    again = await post(client, site, "key")
    assert again.json()["data"]["id"] == first.json()["data"]["id"]
    assert (await post(client, site, "key", max_seconds=9)).status_code == 422
    assert (await post(client, site)).status_code == 409
    assert (site.asked, kept(redis_client)) == (["/mark.svg"], 1)
    assert (await post(client, site, allow_multiple_recordings=True)).status_code == 200
    assert len(site.asked) == 2


async def test_watermark_should_be_kept_no_longer_than_its_recording_goes_on(
    client: httpx.AsyncClient, site: Site, farm: Farm
) -> None:
    recording_id = (await post(client, site)).json()["data"]["id"]
    assert farm.records.watermark(recording_id) is not None
    assert (await client.put(f"/v2/recordings/{recording_id}", json={"action": "stop"})).status_code == 200
    assert kept(farm.redis) == 0


async def test_watermark_of_a_request_that_another_was_quicker_than_should_be_forgotten(
    client: httpx.AsyncClient, site: Site, redis_client: redis.Redis
) -> None:
    quicker: list[int] = []

    async def quick(reader: Any, writer: Any) -> None:
        if not quicker:
            quicker.append((await client.post("/v2/recordings", json={"meeting_id": "m"})).status_code)
        await answer(MARK, kind="image/svg+xml")(reader, writer)

    site.add("/mark.svg", quick)
    assert (await post(client, site)).status_code == 409
    assert quicker == [200]
    assert kept(redis_client) == 0
