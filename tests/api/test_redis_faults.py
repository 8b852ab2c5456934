"""What clients are told, and what goes on working, while a real Redis refuses what is asked of it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import httpx
import pytest
from starlette.applications import Starlette

from recording_farm.farm.db.clients import connect, connect_async
from recording_farm.farm.recording.commands import Command, read_commands
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.records import Records
from testkit.api.client import ACME, client_of
from testkit.recordings import new_recording
from testkit.redis_servers import FaultyRedis, faulty_redis
from testkit.settings import settings_with
from testkit.waiting import until

READABLE = {
    "full": "full",
    "replica": "read_only",
    "without replicas": "read_only",
    "not saving": "not_saving",
    "without rights": "refused",
}
"""What keeps a Redis from being written to alone, and what /readyz calls it."""

UNREADABLE = {
    "stale replica": "read_only",
    "other password": "refused",
    "without connections": "away",
    "busy": "busy",
    "killed": "away",
}


class Broken(NamedTuple):
    """An API with a finished and a running recording, before its Redis is broken."""

    server: FaultyRedis
    client: httpx.AsyncClient
    done: Recording
    running: Recording


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyRedis]:
    with faulty_redis(tmp_path / "redis") as found:
        yield found


@pytest.fixture
async def api(server: FaultyRedis, webhook_key: Path, tmp_path: Path) -> AsyncIterator[Broken]:
    settings = settings_with(tmp_path / "data", server.address, webhook_key=webhook_key)
    with connect(server.address) as redis_client:
        records = Records(redis_client)
        running = records.add(new_recording(meeting_id="running"))
        records.change_state(running.id, Status.RECORDING)
        done = records.add(new_recording(meeting_id="done"))
        records.change_state(done.id, Status.ERRORED)
    async with client_of(settings) as client:
        yield Broken(server, client, done, running)


async def writes_of(api: Broken) -> list[httpx.Response]:
    running, done = f"/v2/recordings/{api.running.id}", f"/v2/recordings/{api.done.id}"
    return [
        await api.client.post("/v2/recordings", json={"meeting_id": "later"}),
        await api.client.put(running, json={"action": "pause"}),
        await api.client.delete(done),
    ]


async def reads_of(api: Broken) -> list[httpx.Response]:
    return [
        await api.client.get(path)
        for path in (
            f"/v2/recordings/{api.running.id}",
            "/v2/recordings?status=RECORDING",
            "/v2/recordings/active-recording/running",
            "/v2/webhooks",
            "/healthz",
        )
    ]


def assert_refused(response: httpx.Response) -> None:
    assert response.status_code == 503, response.text
    assert 1 <= int(response.headers["retry-after"]) <= 60
    error = response.json()["error"]
    assert error["type"] == "redis_unavailable"
    assert error["message"].startswith("the farm's database ")
    assert "farm:" not in response.text, "a key of Redis is the farm's own business"


async def readiness(client: httpx.AsyncClient) -> tuple[int, str | None, str]:
    answer = await client.get("/readyz", auth=None)
    body = answer.json()
    return answer.status_code, body["data"]["redis_fault"], body.get("error", {}).get("message", "")


async def until_ready(client: httpx.AsyncClient) -> None:
    async def is_ready() -> bool:
        return (await readiness(client))[0] == 200

    await until(is_ready)


@pytest.mark.parametrize(("how", "fault"), READABLE.items())
async def test_api_should_go_on_reading_from_a_redis_that_takes_no_writes(
    api: Broken, how: str, fault: str
) -> None:
    assert (await readiness(api.client))[0] == 200
    api.server.break_it(how)
    await asyncio.sleep(1.1)  # what was found before is believed for a second
    assert [response.status_code for response in await reads_of(api)] == [200] * 5
    *refused, deleted = await writes_of(api)
    for response in refused:
        assert_refused(response)
    if how == "full":
        assert deleted.status_code == 200, "what makes room is possible"
    else:
        assert_refused(deleted)
    status, told, message = await readiness(api.client)
    assert (status, told) == (503, fault)
    assert message.startswith("not ready: Redis ")
    api.server.mend(how)
    await until_ready(api.client)
    assert (await api.client.post("/v2/recordings", json={"meeting_id": "later"})).status_code == 200


@pytest.mark.parametrize(("how", "fault"), UNREADABLE.items())
async def test_api_should_answer_503_while_redis_cannot_be_read(api: Broken, how: str, fault: str) -> None:
    app: Starlette = api.client._transport.app  # type: ignore[attr-defined]
    await app.state.context.waiting_redis.connection_pool.disconnect()
    app.state.context.redis.connection_pool.disconnect()
    api.server.break_it(how)
    for response in [*(await reads_of(api))[:4], *await writes_of(api)]:
        assert_refused(response)
    status, told, _ = await readiness(api.client)
    assert (status, told) == (503, fault)
    if how != "killed":
        api.server.mend(how)
        await until_ready(api.client)


@pytest.mark.parametrize("how", READABLE)
async def test_order_should_reach_a_recorder_while_redis_takes_no_writes(api: Broken, how: str) -> None:
    key = f"farm:orders:{api.running.id}"

    async def stop() -> httpx.Response:
        return await api.client.put(f"/v2/recordings/{api.running.id}", json={"action": "stop"})

    async with connect_async(api.server.address) as waiting:

        async def is_heard() -> bool:
            return bool((await waiting.pubsub_numsub(key))[0][1])

        async def is_refused() -> bool:
            return (await stop()).status_code == 503

        orders = cast("AsyncGenerator[Command]", read_commands(waiting, api.running.id))
        coming = asyncio.ensure_future(anext(orders))
        await until(is_heard)
        api.server.break_it(how)
        response = await stop()
        assert response.status_code == 200, response.text
        async with asyncio.timeout(5):
            assert await coming is Command.STOP
        await orders.aclose()
        # Nobody hears it any more.
        await until(is_refused)


async def test_keys_should_be_counted_and_guesses_refused_without_writing(
    server: FaultyRedis, tmp_path: Path
) -> None:
    settings = settings_with(tmp_path / "data", server.address, rate_limit="3", failure_limit="2")
    async with client_of(settings) as client:
        server.break_it("full")
        answers = [await client.get("/v2/recordings") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        wrong = [await client.get("/v2/recordings", auth=("acme", "guess")) for _ in range(3)]
        assert [answer.status_code for answer in wrong] == [401, 401, 429]


async def test_portal_should_show_pages_and_say_why_it_cannot_do_more(
    server: FaultyRedis, tmp_path: Path
) -> None:
    settings = settings_with(tmp_path / "data", server.address, admins="acme")
    async with client_of(settings) as client:
        client.headers["Origin"] = "http://farm.test"
        page = await client.get("/login")
        token = page.text.split('name="csrf_token" value="')[1].split('"')[0]
        form = {"csrf_token": token, "organization": ACME[0], "key": ACME[1]}
        assert (await client.post("/login", data=form)).status_code == 303
        server.break_it("full")
        for path in ("/", "/start", "/settings", "/settings/storage", "/nodes", "/rq/"):
            assert (await client.get(path)).status_code == 200, path
        client.cookies.clear()
        page = await client.get("/login")
        token = page.text.split('name="csrf_token" value="')[1].split('"')[0]
        refused = await client.post("/login", data={**form, "csrf_token": token})
        assert refused.status_code == 503
        assert "is full" in refused.text


async def test_policy_that_changes_while_the_api_runs_should_be_noticed(api: Broken) -> None:
    assert (await readiness(api.client))[0] == 200
    api.server.set_up(maxmemory_policy="allkeys-lru")
    await asyncio.sleep(1.1)
    status, told, message = await readiness(api.client)
    assert (status, told) == (503, "evicts")
    assert "may evict records" in message
    api.server.set_up(maxmemory_policy="noeviction")
    await until_ready(api.client)


async def test_redis_that_fills_up_should_refuse_and_lose_nothing(api: Broken) -> None:
    # The connections are there from now on; their memory counts, too.
    assert (await api.client.post("/v2/recordings", json={"meeting_id": "first"})).status_code == 200
    used = int(api.server.administrator.info("memory")["used_memory"])
    api.server.set_up(maxmemory=used + (600 << 10))
    accepted, refused = [], 0
    for number in range(500):
        answer = await api.client.post("/v2/recordings", json={"meeting_id": f"m{number}"})
        if answer.status_code == 200:
            accepted.append(answer.json()["data"]["id"])
        else:
            # Or it was kept and could not be queued, and has ended.
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), answer.text
            refused += 1
            if refused == 5:
                break
    assert accepted
    assert refused
    api.server.mend("full")
    for recording_id in accepted:
        recording = (await api.client.get(f"/v2/recordings/{recording_id}")).json()["data"]
        assert (recording["status"], recording["queue_position"] is not None) == ("INVOKED", True)
