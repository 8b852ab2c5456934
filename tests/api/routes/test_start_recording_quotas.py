"""How many recordings an organization may start, and with which priority."""

import asyncio

import httpx

from recording_farm.farm.nodes.registry import Nodes
from recording_farm.farm.queues.recordings import enqueue_recording
from recording_farm.farm.recording.model import Priority
from recording_farm.farm.recording.quotas import OwnQuota, Quotas
from testkit.api.client import OTHER, assert_error, client_of, start
from testkit.farm import Farm


async def post(client: httpx.AsyncClient, meeting_id: str, **headers: str) -> httpx.Response:
    return await client.post("/v2/recordings", json={"meeting_id": meeting_id}, headers=headers)


async def test_starts_beyond_the_quota_should_be_refused_also_when_they_come_at_once(farm: Farm) -> None:
    async with client_of(farm.with_settings(quota_queued=3).settings) as client:
        answers = await asyncio.gather(*(post(client, f"m{number}") for number in range(12)))
        assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 9
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert_error(refused, 429, "at most 3 recordings of your organization may wait")
        assert (refused.json()["error"]["type"], refused.headers["Retry-After"]) == ("quota_exceeded", "30")

        # Another organization has its own.
        other = await client.post("/v2/recordings", json={"meeting_id": "m"}, auth=OTHER)
        assert other.status_code == 200

        waiting = next(answer for answer in answers if answer.status_code == 200).json()["data"]["id"]
        await client.put(f"/v2/recordings/{waiting}", json={"action": "stop"})
        assert (await post(client, "after")).status_code == 200


async def test_repeated_request_should_get_its_recording_though_the_quota_is_used_up(farm: Farm) -> None:
    async with client_of(farm.with_settings(quota_queued=1).settings) as client:
        first = await post(client, "m", **{"Idempotency-Key": "k"})
        again = await post(client, "m", **{"Idempotency-Key": "k"})
        assert again.json()["data"]["id"] == first.json()["data"]["id"]


async def test_quota_of_one_organization_should_apply_without_a_restart(
    client: httpx.AsyncClient, farm: Farm
) -> None:
    quotas = Quotas(farm.redis, farm.settings)
    quotas.set("acme", OwnQuota(queued=1, high_priority=False))
    assert (await post(client, "a")).status_code == 200
    assert (await post(client, "b")).status_code == 429
    quotas.set("acme", OwnQuota())
    await start(client, meeting_id="c", priority="high")


async def test_high_priority_should_be_for_organizations_that_may_use_it(farm: Farm) -> None:
    wanted = {"meeting_id": "m", "priority": "high", "allow_multiple_recordings": True}
    async with client_of(farm.settings) as client:
        # The first organization of FARM_API_KEYS has administrators' keys.
        assert (await client.post("/v2/recordings", json=wanted)).status_code == 200
        refused = await client.post("/v2/recordings", json=wanted, auth=OTHER)
        assert_error(refused, 403, '"priority": your organization may not use high')
        assert refused.json()["error"]["type"] == "high_priority_not_permitted"
        for priority in ("normal", "low"):
            allowed = await client.post("/v2/recordings", json=wanted | {"priority": priority}, auth=OTHER)
            assert allowed.status_code == 200
        await client.put("/v2/recording_config", json={"priority": "high"}, auth=OTHER)
        refused = await client.post("/v2/recordings", json={"meeting_id": "n"}, auth=OTHER)
        assert refused.status_code == 403, refused.text
    async with client_of(farm.with_settings(high_priority="other").settings) as client:
        assert (await client.post("/v2/recordings", json=wanted, auth=OTHER)).status_code == 200
        assert (await client.post("/v2/recordings", json=wanted)).status_code == 403


async def test_recording_held_back_by_the_quota_should_say_so(farm: Farm) -> None:
    async with client_of(farm.with_settings(quota_running=1).settings) as client:
        first, second = await start(client, meeting_id="a"), await start(client, meeting_id="b")
        low = farm.add(organization_id="other", priority=Priority.LOW)
        enqueue_recording(farm.redis, low)
        Nodes(farm.redis).beat("node-1", 8)
        listed = (await client.get("/v2/recordings")).json()["data"]
        shown = {each["id"]: each["waiting"] for each in listed}
        assert shown[first["id"]]["position"] == 1
        assert shown[second["id"]] == {
            "position": 3,
            "reason": "quota",
            "message": "It waits for another recording of your organization to end (quota of running ones).",
        }
        assert (await client.get(f"/v2/recordings/{second['id']}")).json()["data"]["queue_position"] == 3
