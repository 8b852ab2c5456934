"""List, delete, idempotency and the dialect of Cloudflare RealtimeKit, over the real app and a real Redis."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from rq.job import Job

from recording_farm.farm.clock import now
from recording_farm.farm.evidence.directory import evidence_dir
from recording_farm.farm.nodes.registry import Nodes, NoRoom
from recording_farm.farm.queues.recordings import recordings_queue
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.records import Records
from testkit.api.client import OTHER
from testkit.farm import Farm
from testkit.recordings import new_recording

REALTIMEKIT = "/client/v4/accounts/0123456789abcdef/realtime/kit/my-app"


@pytest.fixture
def listed(records: Records) -> list[Recording]:
    """Five recordings, the newest first; the older two are being recorded."""
    start = now() - timedelta(seconds=30)  # the app ends older ones that have no job
    added = []
    for number in range(5):
        recording = records.add(
            new_recording(meeting_id=f"room-{number}", invoked_time=start + timedelta(seconds=number))
        )
        if number < 2:
            recording = records.change_state(recording.id, Status.RECORDING)
        added.append(recording)
    records.add(new_recording(organization_id="other"))
    return added[::-1]


async def list_of(client: httpx.AsyncClient, query: str = "", base: str = "/v2") -> dict[str, Any]:
    response = await client.get(f"{base}/recordings{query}")
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def ids(body: dict[str, Any]) -> list[str]:
    return [recording["id"] for recording in body["data"]]


def expected(recordings: list[Recording]) -> list[str]:
    return [str(recording.id) for recording in recordings]


@pytest.mark.parametrize("base", ["/v2", REALTIMEKIT])
async def test_list_should_show_the_organizations_recordings(
    client: httpx.AsyncClient, listed: list[Recording], base: str
) -> None:
    body = await list_of(client, base=base)
    assert ids(body) == expected(listed)
    assert body["paging"] == {"total_count": 5, "start_offset": 1, "end_offset": 5}
    invoked = body["data"][0]["invoked_time"]
    assert body["data"][0]["meeting"] == {
        "id": "room-4",
        "title": "room-4",
        "created_at": invoked,
        "updated_at": invoked,
    }
    one = (await client.get(f"{base}/recordings/{listed[0].id}")).json()["data"]
    assert {**body["data"][0], "queue_position": None, "waiting": None} == {
        **one,
        "meeting": body["data"][0]["meeting"],
    }


async def test_pages_should_count_from_one_and_zero_be_the_first(
    client: httpx.AsyncClient, listed: list[Recording]
) -> None:
    assert ids(await list_of(client, "?per_page=2")) == expected(listed[:2])
    assert ids(await list_of(client, "?per_page=2&page_no=0")) == expected(listed[:2])
    assert ids(await list_of(client, "?per_page=2&page_no=1")) == expected(listed[:2])
    last = await list_of(client, "?per_page=2&page_no=3")
    assert ids(last) == expected(listed[4:])
    assert last["paging"] == {"total_count": 5, "start_offset": 5, "end_offset": 5}
    beyond = await list_of(client, "?per_page=2&page_no=4")
    assert (ids(beyond), beyond["paging"]) == ([], {"total_count": 5, "start_offset": 0, "end_offset": 0})


@pytest.mark.parametrize("query", ["?status=RECORDING,ERRORED", "?status=RECORDING&status=ERRORED"])
async def test_states_should_be_taken_in_both_encodings(
    client: httpx.AsyncClient, listed: list[Recording], query: str
) -> None:
    assert ids(await list_of(client, query)) == expected(listed[3:])


async def test_every_filter_should_narrow_the_list(
    client: httpx.AsyncClient, listed: list[Recording]
) -> None:
    def moment(recording: Recording) -> str:
        return recording.invoked_time.isoformat().replace("+00:00", "Z")

    assert ids(await list_of(client, "?meeting_id=room-3")) == expected(listed[1:2])
    assert ids(await list_of(client, "?search=ROOM-2")) == expected(listed[2:3])
    assert ids(await list_of(client, f"?search={str(listed[2].id)[:13].upper()}")) == expected(listed[2:3])
    assert ids(await list_of(client, f"?search={listed[2].output_file_name[:-4]}")) == expected(listed[2:3])
    assert ids(await list_of(client, "?search=127.0.0.1")) == expected(listed)
    assert ids(await list_of(client, "?search=:8000/meet")) == []
    assert ids(await list_of(client, "?sort_by=invokedTime&sort_order=ASC")) == expected(listed[::-1])
    times = f"?start_time={moment(listed[3])}&end_time={moment(listed[1])}"
    assert ids(await list_of(client, times)) == expected(listed[1:4])
    assert ids(await list_of(client, "?expired=false")) == expected(listed)
    assert ids(await list_of(client, "?expired=true")) == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?page_no=-1", "page_no"),
        ("?page_no=x", "page_no"),
        ("?per_page=1001", "per_page"),
        ("?status=DONE", "status"),
        ("?sort_by=name", "sort_by"),
        ("?sort_order=asc", "sort_order"),
        ("?start_time=yesterday", "start_time"),
        ("?start_time=2026-01-01T00:00:00", "start_time"),
        ("?page_no=1&page_no=2", "page_no"),
        ("?pages=3", "pages"),
    ],
)
async def test_wrong_parameter_should_be_named(client: httpx.AsyncClient, query: str, field: str) -> None:
    response = await client.get(f"/v2/recordings{query}")
    assert response.status_code == 422
    assert f'"{field}' in response.json()["error"]["message"]


async def test_nothing_of_another_organization_should_be_seen_counted_or_deleted(
    client: httpx.AsyncClient, listed: list[Recording], records: Records
) -> None:
    body = (await client.get("/v2/recordings", auth=OTHER)).json()
    assert body["paging"]["total_count"] == 1
    ended = records.change_state(listed[0].id, Status.ERRORED)
    assert (await client.delete(f"/v2/recordings/{ended.id}", auth=OTHER)).status_code == 404
    assert records.get("acme", ended.id) == ended


async def test_deleted_recording_should_be_gone_with_its_file(
    client: httpx.AsyncClient, farm: Farm, tmp_path: Path
) -> None:
    recording = farm.add()
    path = f"/v2/recordings/{recording.id}"
    refused = await client.delete(path)
    assert refused.status_code == 409
    assert "stop it" in refused.json()["error"]["message"]
    source = tmp_path / "file"
    source.write_bytes(b"film")
    recording = farm.stored(new_recording(meeting_id="over"), source)
    path = f"/v2/recordings/{recording.id}"
    evidence = evidence_dir(farm.settings, str(recording.id))
    evidence.mkdir(parents=True)
    (evidence / "page.png").touch()
    link = (await client.get(path)).json()["data"]["download_url"]
    assert (await client.get(httpx.URL(link).raw_path.decode())).content == b"film"
    deleted = await client.delete(path)
    assert (deleted.status_code, deleted.json()["data"]) == (200, {"id": str(recording.id), "deleted": True})
    assert (await client.get(path)).status_code == 404
    assert (await client.delete(path)).status_code == 404
    assert (await client.get(httpx.URL(link).raw_path.decode())).status_code == 404
    assert list((farm.settings.data_dir / "store").glob("[!.]*")) == []
    assert not evidence.exists()


async def test_same_idempotency_key_should_give_the_same_recording(client: httpx.AsyncClient) -> None:
    async def start(key: str, **fields: Any) -> httpx.Response:
        body = {"meeting_id": "demo"} | fields
        return await client.post("/v2/recordings", json=body, headers={"Idempotency-Key": key})

    first = (await start("a")).json()["data"]
    assert (await start("a")).json()["data"]["id"] == first["id"]
    other = await start("a", max_seconds=60)
    assert other.status_code == 422
    assert "Idempotency-Key" in other.json()["error"]["message"]
    assert (await start("b")).status_code == 409
    assert (await start("", meeting_id="c")).status_code == 422
    assert (await start("x" * 256, meeting_id="c")).status_code == 422
    assert (await list_of(client))["paging"]["total_count"] == 1


async def test_waiting_recording_should_tell_its_place_in_the_queue(client: httpx.AsyncClient) -> None:
    places = []
    for number in range(3):
        started = (await client.post("/v2/recordings", json={"meeting_id": f"m{number}"})).json()["data"]
        shown = (await client.get(f"/v2/recordings/{started['id']}")).json()["data"]
        places.append((started["queue_position"], shown["queue_position"]))
    assert places == [(1, 1), (2, 2), (3, 3)]


async def test_waiting_recording_should_tell_why_it_waits(
    client: httpx.AsyncClient, redis_client: redis.Redis
) -> None:
    started = (await client.post("/v2/recordings", json={"meeting_id": "demo"})).json()["data"]
    assert started["waiting"] == {"position": 1, "reason": "no_node", "message": "No node is running."}

    async def reason() -> str:
        shown = (await client.get(f"/v2/recordings/{started['id']}")).json()["data"]
        (listed,) = (await list_of(client))["data"]
        assert listed["waiting"] == shown["waiting"]
        return str(shown["waiting"]["reason"])

    nodes = Nodes(redis_client)
    nodes.beat("node-1", 2, no_room=NoRoom(reason="disk", message="299 MiB of disk free"))
    assert await reason() == "disk"
    nodes.beat("node-1", 2)
    assert await reason() == "starting"
    nodes.drain("node-1")
    assert await reason() == "drained"


async def test_queue_should_close_up_when_a_recording_is_stopped_and_the_list_show_it(
    client: httpx.AsyncClient, redis_client: redis.Redis
) -> None:
    started = [
        (await client.post("/v2/recordings", json={"meeting_id": f"m{number}"})).json()["data"]["id"]
        for number in range(3)
    ]
    stopped = await client.put(f"/v2/recordings/{started[0]}", json={"action": "stop"})
    assert stopped.json()["data"]["status"] == "ERRORED"
    shown = {one["id"]: one["queue_position"] for one in (await list_of(client))["data"]}
    assert [shown[each] for each in started] == [None, 1, 2]
    assert recordings_queue(redis_client, "acme").get_job_ids() == started[1:]
    assert not Job.exists(started[0], connection=redis_client)
