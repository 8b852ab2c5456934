"""The stream of events, over the real server and a real Redis."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import httpx
import pytest

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.api_keys import create_api_key, revoke_api_key
from recording_farm.farm.recording.changes import events_key
from recording_farm.farm.recording.model import Status
from recording_farm.farm.recording.records import Records
from testkit.api.client import ACME, OTHER
from testkit.api.serving import served
from testkit.farm import Farm
from testkit.network.ports import free_port
from testkit.recordings import new_recording
from testkit.settings import settings_with

SECONDS = 5.0
"""In which everything here must happen."""


class Event(NamedTuple):
    """An event as it was received."""

    id: str | None
    name: str
    data: Any


@asynccontextmanager
async def following(
    client: httpx.AsyncClient, query: str = "", **options: Any
) -> AsyncIterator[AsyncIterator[str]]:
    """An open stream; yields its lines."""
    async with client.stream("GET", f"/v2/events{query}", **options) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield response.aiter_lines()


async def next_event(lines: AsyncIterator[str]) -> Event:
    """The next event of a stream; comments are left out."""
    fields: dict[str, str] = {}
    async with asyncio.timeout(SECONDS):
        async for line in lines:
            name, _, value = line.partition(": ")
            if line and name.strip(":"):
                fields[name] = value
            elif not line and fields:
                return Event(fields.get("id"), fields["event"], json.loads(fields["data"]))
    raise AssertionError("the stream has ended")


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the served app."""
    async with served(settings) as address, httpx.AsyncClient(base_url=address, auth=ACME) as client:
        yield client


async def test_change_should_come_as_get_one_shows_it(api: httpx.AsyncClient, records: Records) -> None:
    records.add(new_recording(organization_id="other"))
    async with following(api) as lines:
        recording = records.add(new_recording())
        added = await next_event(lines)
        assert (added.name, added.data["id"]) == ("recording.statusUpdate", str(recording.id))
        records.change_state(recording.id, Status.RECORDING)
        changed = await next_event(lines)
        assert changed.data == (await api.get(f"/v2/recordings/{recording.id}")).json()["data"]
        assert changed.data["status"] == "RECORDING"


async def test_stream_should_go_on_after_the_last_event(api: httpx.AsyncClient, farm: Farm) -> None:
    ids = [str(farm.add(meeting_id=f"m{number}").id) for number in range(3)]
    async with following(api, "?last_event_id=0") as lines:
        events = [await next_event(lines) for _ in range(3)]
    assert [event.data["id"] for event in events] == ids
    first, second, _ = (event.id for event in events)
    async with following(api, f"?last_event_id={first}") as lines:
        assert await next_event(lines) == events[1]
    # A browser connects again with the same address and its own header.
    async with following(api, f"?last_event_id={first}", headers={"Last-Event-ID": str(second)}) as lines:
        assert await next_event(lines) == events[2]


async def test_gap_should_be_reported_when_the_last_event_is_not_kept(
    api: httpx.AsyncClient, farm: Farm
) -> None:
    recordings = [farm.add(meeting_id=f"m{number}") for number in range(4)]
    entry = cast("list[tuple[bytes, Any]]", farm.redis.xrange(events_key("acme")))[0][0]
    farm.redis.xtrim(events_key("acme"), maxlen=2, approximate=False)
    async with following(api, f"?last_event_id={entry.decode()}") as lines:
        gap = await next_event(lines)
        assert (gap.id, gap.name, gap.data) == (None, "farm.gap", {"last_event_id": entry.decode()})
        assert (await next_event(lines)).data["id"] == str(recordings[2].id)
    async with following(api, "?last_event_id=9999999999999999") as lines:
        assert (await next_event(lines)).name == "farm.gap"
        added = farm.add()
        assert (await next_event(lines)).data["id"] == str(added.id)


async def test_nothing_of_another_organization_should_come(api: httpx.AsyncClient, farm: Farm) -> None:
    farm.add()
    async with following(api, "?last_event_id=0", auth=OTHER) as lines:
        farm.add(meeting_id="b")
        theirs = farm.add(organization_id="other")
        assert (await next_event(lines)).data["id"] == str(theirs.id)


@pytest.mark.parametrize("last", ["x", "-1", "1-", "1-2-3", "18446744073709551616", "٣", ""])
async def test_id_that_is_none_should_be_refused(api: httpx.AsyncClient, last: str) -> None:
    response = await api.get("/v2/events", params={"last_event_id": last})
    assert (response.status_code, '"last_event_id"' in response.text) == (422, False)
    assert '\\"last_event_id\\"' in response.text
    if last.isascii():
        response = await api.get("/v2/events", headers={"Last-Event-ID": last})
        assert response.status_code == 422


async def test_many_streams_should_share_one_connection_and_leave_none(
    redis_address: str, farm: Farm, tmp_path: Path
) -> None:
    settings = settings_with(tmp_path, redis_address, event_streams=30)
    async with served(settings) as address, httpx.AsyncClient(base_url=address, auth=ACME) as client:
        assert (await client.get("/healthz")).status_code == 200
        before = len(farm.redis.client_list())
        streams = [following(client) for _ in range(30)]
        lines = [await stream.__aenter__() for stream in streams]
        assert len(farm.redis.client_list()) <= before + 2
        refused = await client.get("/v2/events")
        assert refused.status_code == 429
        assert refused.json()["error"]["type"] == "too_many_streams"
        assert int(refused.headers["retry-after"]) > 0
        assert (await client.head("/v2/events", auth=OTHER)).status_code == 200
        recording = farm.add()
        for one in lines:
            assert (await next_event(one)).data["id"] == str(recording.id)
        for stream in streams:
            await stream.__aexit__(None, None, None)
        async with asyncio.timeout(SECONDS):
            while (await client.head("/v2/events")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        async with asyncio.timeout(SECONDS):
            while "xread" in {one["cmd"] for one in farm.redis.client_list()}:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_stream_should_end_before_it_tells_anything_to_a_revoked_key(farm: Farm) -> None:
    new = create_api_key(farm.settings, "acme")
    async with (
        served(farm.settings) as address,
        httpx.AsyncClient(base_url=address, headers={"Authorization": f"Bearer {new.text}"}) as client,
        following(client) as lines,
    ):
        recording = farm.add()
        assert (await next_event(lines)).data["id"] == str(recording.id)
        revoke_api_key(farm.settings, new.key.id)
        farm.records.change_state(recording.id, Status.RECORDING)
        async with asyncio.timeout(SECONDS):
            assert [line async for line in lines if line.strip(": ")] == []


async def test_stream_should_show_that_it_is_alive(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recording_farm.api.routes.events._HEARTBEAT_SECONDS", 0.05)
    async with (
        served(settings) as address,
        httpx.AsyncClient(base_url=address, auth=ACME) as client,
        following(client) as lines,
        asyncio.timeout(SECONDS),
    ):
        comments = 0
        async for line in lines:
            comments += line.startswith(":")
            if comments == 3:
                return


async def test_streams_should_not_hold_up_a_shutdown(farm: Farm) -> None:
    port = free_port()
    environment = {
        "FARM_DATA_DIR": str(farm.settings.data_dir),
        "FARM_REDIS_URL": farm.settings.redis_address,
        "FARM_API_KEYS": "acme:acme-key",
        "FARM_PORT": str(port),
    }
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "recording_farm.api", env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert server.stderr is not None
    try:
        async with asyncio.timeout(20):
            assert b"the API is at" in await server.stderr.readline()
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", auth=ACME) as client,
            following(client) as lines,
        ):
            farm.add()
            await next_event(lines)
            told = time.monotonic()
            server.send_signal(signal.SIGTERM)
            async with asyncio.timeout(SECONDS):
                assert [line async for line in lines if line.strip(": ")] == []
                await server.wait()
            assert time.monotonic() - told < 3
        # uvicorn sends itself the signal again once it is done.
        assert (server.returncode, await server.stderr.read()) == (-signal.SIGTERM, b"")
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()
