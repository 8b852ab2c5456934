import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis

from recording_farm.api.context import Context
from recording_farm.api.routes import recordings as module
from recording_farm.farm.clock import now
from recording_farm.farm.db.clients import connect_async
from recording_farm.farm.recording.commands import Command, commands_key, read_commands
from recording_farm.farm.recording.copies import Copy, CopyReports
from recording_farm.farm.recording.model import (
    Failure,
    FileKind,
    FinishedFile,
    Reason,
    ReasonKind,
    Recording,
    Status,
    TimelineEntry,
)
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.transfers import STORE, Transfer, TransferState
from testkit.api.client import OTHER, assert_error, client_of, start
from testkit.farm import Farm
from testkit.settings import settings_with


async def test_finding_that_only_a_newer_farm_knows_should_be_shown(
    client: httpx.AsyncClient, records: Records
) -> None:
    data = await start(client)
    records.note(data["id"], TimelineEntry(event="finding_began", finding="of_tomorrow", time=now()))
    shown = (await client.get(f"/v2/recordings/{data['id']}")).json()["data"]
    assert [entry.get("finding") for entry in shown["timeline"]] == [None, "of_tomorrow"]


# Look


async def test_recording_should_be_seen_by_its_organization_only(client: httpx.AsyncClient) -> None:
    data = await start(client)
    path = f"/v2/recordings/{data['id']}"
    assert (await client.get(path)).json() == {"success": True, "data": data}
    foreign = await client.get(path, auth=OTHER)
    assert_error(foreign, 404, data["id"])
    assert_error(await client.put(path, json={"action": "stop"}, auth=OTHER), 404, data["id"])
    assert_error(await client.get("/v2/recordings/active-recording/demo", auth=OTHER), 404, "demo")
    unknown = str(uuid4())
    assert (await client.get(f"/v2/recordings/{unknown}")).text == foreign.text.replace(data["id"], unknown)


@pytest.mark.parametrize("recording_id", ["x", "%00", "*", "..%2f..", "farm:active", "x" * 5000])
async def test_strange_id_should_be_unknown(client: httpx.AsyncClient, recording_id: str) -> None:
    assert (await client.get(f"/v2/recordings/{recording_id}")).status_code == 404
    assert (await client.put(f"/v2/recordings/{recording_id}", json={"action": "stop"})).status_code == 404


def progress_of(shown: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {
        each["target"]: (each["in_parts"], each["uploaded_bytes"], each["behind_seconds"])
        for each in shown["transfers"]
    }


async def test_running_recording_should_show_how_far_each_copy_is(
    client: httpx.AsyncClient, farm: Farm
) -> None:
    nothing = (None, None, None)
    recording = farm.add(transfers=(Transfer(target=STORE), Transfer(target="s3")))
    path = f"/v2/recordings/{recording.id}"

    async def seen() -> dict[str, tuple[Any, ...]]:
        found = progress_of((await client.get(path)).json()["data"])
        (listed,) = (await client.get("/v2/recordings")).json()["data"]
        assert progress_of(listed) == found
        return found

    assert await seen() == {STORE: nothing, "s3": nothing}
    farm.records.change_state(recording.id, Status.RECORDING, started_time=now(), node="node-1")
    assert await seen() == {STORE: nothing, "s3": nothing}
    copies = {
        STORE: Copy(),
        "s3": Copy(uploaded_bytes=9, behind_seconds=21.4, in_parts=True, has_fallen_behind=True),
    }
    CopyReports(farm.redis).write("node-1", {str(recording.id): copies})
    assert await seen() == {STORE: (False, None, None), "s3": (True, 9, 21.4)}
    farm.records.change_state(recording.id, Status.UPLOADING, stopped_time=now())
    farm.records.update(recording.id, file_size=99)
    farm.records.set_transfer(recording.id, Transfer(target=STORE, state=TransferState.DONE))
    assert await seen() == {STORE: (None, 99, 0), "s3": (True, 9, 21.4)}
    farm.records.set_transfer(recording.id, Transfer(target="s3", state=TransferState.GIVEN_UP))
    assert await seen() == {STORE: (None, 99, 0), "s3": nothing}


async def test_finished_recording_should_show_everything(client: httpx.AsyncClient, farm: Farm) -> None:
    data = await start(client)
    started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    farm.records.change_state(data["id"], Status.RECORDING, started_time=started, node="node-1")
    farm.records.change_state(
        data["id"], Status.UPLOADING, stopped_time=now(), stop_reason=Reason(reason=ReasonKind.PAGE_ENDED)
    )
    video = FinishedFile(kind=FileKind.VIDEO, name=data["output_file_name"], size=1234, sha256="0")
    farm.records.set_transfer(data["id"], Transfer(target=STORE, state=TransferState.DONE))
    farm.records.change_state(
        data["id"],
        Status.UPLOADED,
        files=(video,),
        file_size=1234,
        recording_duration=60,
        quality={"frames": 1800},
    )
    shown = (await client.get(f"/v2/recordings/{data['id']}")).json()["data"]
    assert shown["status"] == "UPLOADED"
    assert shown["started_time"] == "2026-01-02T03:04:05.000Z"
    assert (shown["file_size"], shown["recording_duration"]) == (1234, 60)
    assert shown["stop_reason"] == {"reason": "PAGE_ENDED"}
    assert shown["quality"] == {"frames": 1800}
    assert [change["status"] for change in shown["timeline"]] == [
        "INVOKED",
        "RECORDING",
        "UPLOADING",
        "UPLOADED",
    ]
    name = shown["output_file_name"]
    assert shown["download_url"].startswith(
        f"http://127.0.0.1:{farm.settings.port}/v2/recordings/{data['id']}/download/{name}?"
    )
    expiry = datetime.fromisoformat(shown["download_url_expiry"])
    assert f"expires={int(expiry.timestamp())}&" in shown["download_url"]
    assert (expiry - now()).total_seconds() == pytest.approx(7 * 86400, abs=5)
    assert_error(await client.get("/v2/recordings/active-recording/demo"), 404, "demo")


async def test_failed_recording_should_say_why(client: httpx.AsyncClient, records: Records) -> None:
    data = await start(client)
    records.change_state(
        data["id"], Status.ERRORED, error=Failure(code="page_failed", message="the page answered 500")
    )
    shown = (await client.get(f"/v2/recordings/{data['id']}")).json()["data"]
    assert shown["error"] == {"code": "page_failed", "message": "the page answered 500"}
    assert shown["download_url"] is None


# Stop, pause, resume


@asynccontextmanager
async def worker(
    redis_address: str, recording_id: str, obey: Callable[[Command], Awaitable[None]]
) -> AsyncIterator[list[Command]]:
    """The part of a worker that reads orders; yields the orders it got so far."""
    got: list[Command] = []

    async def work() -> None:
        async with connect_async(redis_address) as client:
            async for order in read_commands(client, recording_id):
                got.append(order)
                await obey(order)

    task = asyncio.create_task(work())
    try:
        yield got
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_orders_should_be_answered_with_the_state_they_lead_to(
    client: httpx.AsyncClient, records: Records, redis_address: str
) -> None:
    data = await start(client)
    path = f"/v2/recordings/{data['id']}"
    records.change_state(data["id"], Status.RECORDING, started_time=now())
    following = {
        Command.PAUSE: Status.PAUSED,
        Command.RESUME: Status.RECORDING,
        Command.STOP: Status.UPLOADING,
    }

    async def obey(order: Command) -> None:
        await asyncio.sleep(0.05)
        await asyncio.to_thread(records.change_state, data["id"], following[order])

    async with worker(redis_address, data["id"], obey) as got:
        for action, status in [("pause", "PAUSED"), ("resume", "RECORDING"), ("stop", "UPLOADING")]:
            response = await client.put(path, json={"action": action})
            assert (response.status_code, response.json()["data"]["status"]) == (200, status)
            assert response.elapsed.total_seconds() < 1
    assert got == [Command.PAUSE, Command.RESUME, Command.STOP]


async def test_order_without_an_answer_should_show_the_state_as_it_is(
    client: httpx.AsyncClient, farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.2)
    data = await start(client)
    farm.records.change_state(data["id"], Status.RECORDING)
    response = await client.put(f"/v2/recordings/{data['id']}", json={"action": "stop"})
    assert (response.status_code, response.json()["data"]["status"]) == (200, "RECORDING")
    assert farm.redis.xlen(commands_key(data["id"])) == 1


async def test_stop_before_the_first_frame_should_end_the_recording(
    client: httpx.AsyncClient, redis_client: redis.Redis
) -> None:
    data = await start(client)
    response = await client.put(f"/v2/recordings/{data['id']}", json={"action": "stop"})
    shown = response.json()["data"]
    assert (response.status_code, shown["status"]) == (200, "ERRORED")
    assert shown["stop_reason"]["reason"] == "STOPPED_BEFORE_START"
    assert shown["stop_reason"]["caller"]["user_Id"] == "acme"
    assert shown["error"]["code"] == "stopped_before_start"
    assert shown["cancelled"] is True
    # A worker that is opening the page at this moment gets the order as well.
    assert redis_client.xlen(commands_key(data["id"])) == 1
    await start(client)


async def test_stop_should_be_a_normal_one_when_the_worker_was_faster(
    client: httpx.AsyncClient, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = await start(client)
    end = module._end

    def end_too_late(context: Context, recording: Recording) -> bool:
        records.change_state(data["id"], Status.RECORDING)
        ended = end(context, recording)
        records.change_state(data["id"], Status.UPLOADING)
        return ended

    monkeypatch.setattr(module, "_end", end_too_late)
    response = await client.put(f"/v2/recordings/{data['id']}", json={"action": "stop"})
    assert (response.status_code, response.json()["data"]["status"]) == (200, "UPLOADING")
    assert response.elapsed.total_seconds() < 1


@pytest.mark.parametrize(
    ("path", "action", "allowed"),
    [
        ([], "pause", False),
        ([], "resume", False),
        (["RECORDING"], "resume", False),
        (["RECORDING"], "pause", True),
        (["RECORDING", "PAUSED"], "pause", False),
        (["RECORDING", "PAUSED"], "resume", True),
        (["RECORDING", "PAUSED"], "stop", True),
        (["RECORDING", "UPLOADING"], "stop", False),
        (["RECORDING", "UPLOADING", "UPLOADED"], "stop", False),
        (["RECORDING", "UPLOADING", "UPLOADED"], "pause", False),
        (["ERRORED"], "stop", False),
        (["ERRORED"], "resume", False),
    ],
)
async def test_order_should_fit_the_state(
    client: httpx.AsyncClient,
    farm: Farm,
    monkeypatch: pytest.MonkeyPatch,
    path: list[str],
    action: str,
    allowed: bool,
) -> None:
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.05)
    data = await start(client)
    for status in path:
        farm.records.change_state(data["id"], Status(status))
    response = await client.put(f"/v2/recordings/{data['id']}", json={"action": action})
    if allowed:
        assert response.status_code == 200
    else:
        assert_error(response, 409, f"is {(['INVOKED', *path])[-1]}")
    assert farm.redis.xlen(commands_key(data["id"])) == int(allowed)


@pytest.mark.parametrize(
    "body", [{}, {"action": "explode"}, {"action": "STOP"}, {"action": None}, {"action": ["stop"]}]
)
async def test_unknown_action_should_be_refused(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    data = await start(client)
    assert_error(await client.put(f"/v2/recordings/{data['id']}", json=body), 422, '"action"')


# Who, and everything else


async def test_unknown_paths_and_methods_should_have_the_envelope(client: httpx.AsyncClient) -> None:
    assert_error(await client.get("/v2/nothing"), 404, "/v2/nothing")
    response = await client.patch(f"/v2/recordings/{uuid4()}")
    assert_error(response, 405, "PATCH")
    assert set(response.headers["allow"].split(", ")) == {"DELETE", "GET", "HEAD", "PUT"}
    assert_error(await client.put("/v2/recordings"), 405, "PUT")


async def test_unexpected_error_should_tell_nothing_of_the_inside(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(Records, "active", fail)
    response = await client.get("/v2/recordings/active-recording/demo")
    assert_error(response, 500, "internal error")
    assert "hunter2" not in response.text


async def test_api_should_say_so_while_redis_is_away(tmp_path: Path) -> None:
    async with client_of(settings_with(tmp_path, f"unix://{tmp_path}/nobody.sock")) as client:
        for response in [
            await client.post("/v2/recordings", json={"meeting_id": "demo"}),
            await client.get(f"/v2/recordings/{uuid4()}"),
            await client.put(f"/v2/recordings/{uuid4()}", json={"action": "stop"}),
            await client.get("/v2/recordings/active-recording/demo"),
        ]:
            assert_error(response, 503, "try again")
            assert str(tmp_path) not in response.text
        assert_error(await client.get("/healthz"), 503, "Redis cannot be reached")
        assert (await client.get("/login")).status_code == 200
