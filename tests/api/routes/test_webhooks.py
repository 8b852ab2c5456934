import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from starlette.applications import Starlette

from recording_farm.api.app import create_app
from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.errors import SettingsError
from recording_farm.farm.queues.webhooks import webhooks_queue
from recording_farm.farm.webhooks.registry import EVENTS, Webhooks, webhook_id_of
from recording_farm.farm.webhooks.signature import load_signing_key
from testkit.api.client import OTHER
from testkit.farm import Farm
from testkit.receivers import Receiver, Reply, receiver
from testkit.settings import settings_with
from testkit.webhooks import deliver

HOOK = {
    "name": "my hook",
    "url": "http://8.8.8.8/hook",
    "events": ["recording.statusUpdate", "meeting.started"],
}


@pytest.fixture
def settings(redis_address: str, redis_client: redis.Redis, tmp_path: Path) -> Settings:  # noqa: ARG001
    """Settings that allow the loopback, where the tests' receivers are."""
    return settings_with(
        tmp_path / "data",
        redis_address,
        allow_private_addresses="127.0.0.0/8",
        webhook_intervals="60",
        webhook_limit=3,
    )


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def other(app: Starlette) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://farm.test", auth=OTHER)


async def create(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v2/webhooks", json=HOOK | fields)
    assert answer.status_code == 201, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


def refusal(answer: httpx.Response, status: int = 422) -> str:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["error"]["code"] == body["errors"][0]["code"] == status
    return str(body["error"]["message"])


async def test_webhook_should_be_registered_read_replaced_edited_and_deleted(
    client: httpx.AsyncClient,
) -> None:
    made = await create(client)
    assert base64.b64decode(made.pop("secret").removeprefix("whsec_"), validate=True)
    assert made | HOOK | {"enabled": True} == made
    path = f"/v2/webhooks/{made['id']}"
    assert (await client.get(path)).json() == {"success": True, "data": made}
    assert (await client.get("/v2/webhooks")).json() == {"success": True, "data": [made]}
    wanted = {
        "name": "new",
        "url": "https://1.1.1.1/",
        "events": ["recording.statusUpdate"],
        "enabled": False,
    }
    replaced = (await client.put(path, json=wanted)).json()["data"]
    assert replaced | wanted | {"id": made["id"], "created_at": made["created_at"]} == replaced
    assert replaced["updated_at"] >= made["updated_at"]
    edited = (await client.patch(path, json={"enabled": True, "name": None})).json()["data"]
    assert (edited["enabled"], edited["name"], edited["url"]) == (True, "new", wanted["url"])
    assert (await client.patch(path, json={})).status_code == 200
    assert (await client.delete(path)).json()["data"]["id"] == made["id"]
    assert (await client.get(path)).status_code == 404
    assert (await client.delete(path)).status_code == 404
    assert (await client.get("/v2/webhooks")).json()["data"] == []


async def test_webhook_that_the_farm_has_disabled_should_say_so_until_it_is_changed(
    client: httpx.AsyncClient, farm: Farm
) -> None:
    made = await create(client)
    path = f"/v2/webhooks/{made['id']}"
    webhooks = Webhooks(farm.redis, farm.settings.webhook_limit, Sealer(load_secret_key(farm.settings)))

    async def disabled() -> Any:
        assert webhooks.disable("acme", made["id"], made["url"], now(), "the receiver answered 410 Gone")
        found = (await client.get(path)).json()["data"]
        return found["enabled"], found["disabled_reason"]

    assert made["disabled_reason"] is None
    wanted = {"name": "new", "url": made["url"], "events": made["events"]}
    for change in (client.patch(path, json={"enabled": True}), client.put(path, json=wanted)):
        assert await disabled() == (False, "the receiver answered 410 Gone")
        assert (await client.post(f"{path}/test")).status_code == 409
        changed = (await change).json()["data"]
        assert (changed["enabled"], changed["disabled_reason"]) == (True, None)


async def test_secret_should_be_shown_when_it_is_made_and_never_again(
    client: httpx.AsyncClient, app: Starlette
) -> None:
    made = await create(client)
    path = f"/v2/webhooks/{made['id']}"
    for answer in (
        await client.get(path),
        await client.get("/v2/webhooks"),
        await client.put(path, json=HOOK),
        await client.patch(path, json={"name": "x"}),
    ):
        assert answer.status_code == 200
        assert "secret" not in answer.text
        assert made["secret"] not in answer.text
    rotated = (await client.post(f"{path}/secret")).json()["data"]
    assert rotated["id"] == made["id"]
    assert rotated["secret"] != made["secret"]
    stored = app.state.context.webhooks.get("acme", made["id"])
    assert stored.secret == rotated["secret"]
    assert rotated["secret"] not in repr(stored)


async def test_secret_for_recordings_should_be_replaced_on_request(
    client: httpx.AsyncClient, app: Starlette
) -> None:
    webhooks = app.state.context.webhooks
    before = webhooks.secret_of("acme")
    assert webhooks.secret_of("acme") == before
    made = (await client.post("/v2/webhooks/secret")).json()["data"]
    assert made["secret"] == webhooks.secret_of("acme") != before
    assert webhooks.secret_of("other") != made["secret"]


async def test_events_should_be_listed(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v2/webhooks/all")).json()["data"] == list(EVENTS)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"name": ""}, '"name"'),
        ({"name": "x" * 257}, '"name"'),
        ({"name": None}, '"name"'),
        ({"url": "ftp://8.8.8.8/"}, '"url": the URL must begin with http:// or https://'),
        ({"url": "http://169.254.169.254/"}, '"url": 169.254.169.254 is a private address'),
        ({"url": "http://[::1]/"}, '"url"'),
        ({"url": "http://10.0.0.1/"}, '"url"'),
        ({"url": "http://167772161/"}, '"url"'),
        ({"url": "http://012.0.0.1/"}, '"url"'),
        ({"url": "http://user:secret@8.8.8.8/"}, '"url"'),
        ({"url": "http://8.8.8.8/" + "x" * 2048}, '"url"'),
        ({"events": []}, '"events"'),
        ({"events": ["recording.deleted"]}, '"events.0"'),
        ({"events": "recording.statusUpdate"}, '"events"'),
        ({"enabled": "yes"}, '"enabled"'),
        ({"color": "red"}, '"color": unknown field'),
    ],
)
async def test_bad_field_should_be_named(
    client: httpx.AsyncClient, wanted: dict[str, Any], says: str
) -> None:
    assert says in refusal(await client.post("/v2/webhooks", json=HOOK | wanted))
    made = await create(client, url="http://8.8.4.4/")
    assert says in refusal(await client.put(f"/v2/webhooks/{made['id']}", json=HOOK | wanted))
    if wanted != {"name": None}:
        assert says in refusal(await client.patch(f"/v2/webhooks/{made['id']}", json=wanted))


async def test_missing_field_should_be_named(client: httpx.AsyncClient) -> None:
    for field in ("name", "url", "events"):
        wanted = {name: value for name, value in HOOK.items() if name != field}
        assert refusal(await client.post("/v2/webhooks", json=wanted)) == f'"{field}": is required'


async def test_url_should_be_unique_in_an_organization(
    client: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    made = await create(client)
    assert '"url"' in refusal(await client.post("/v2/webhooks", json=HOOK), 409)
    second = await create(client, url="http://8.8.8.8/2")
    path = f"/v2/webhooks/{second['id']}"
    assert '"url"' in refusal(await client.patch(path, json={"url": HOOK["url"]}), 409)
    assert '"url"' in refusal(await client.put(path, json=HOOK), 409)
    assert (await client.put(f"/v2/webhooks/{made['id']}", json=HOOK)).status_code == 200
    assert (await other.post("/v2/webhooks", json=HOOK)).status_code == 201


async def test_organization_should_have_only_so_many(
    client: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    answers = await asyncio.gather(
        *(client.post("/v2/webhooks", json=HOOK | {"url": f"http://8.8.8.8/{n}"}) for n in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 5
    assert (await other.post("/v2/webhooks", json=HOOK)).status_code == 201


async def test_webhook_of_another_organization_should_look_like_none(
    client: httpx.AsyncClient, other: httpx.AsyncClient, farm: Farm, hook: Receiver
) -> None:
    made = await create(client, url=hook.url)
    await client.post("/v2/recordings", json={"meeting_id": "m"})
    await deliver(farm)
    (entry,) = (await client.get(f"/v2/webhooks/{made['id']}/logs")).json()["data"]
    calls: tuple[tuple[str, str, Any], ...] = (
        ("GET", "", None),
        ("PUT", "", HOOK),
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("POST", "/secret", None),
        ("GET", "/logs", None),
        ("POST", f"/logs/{entry['id']}/replay", None),
    )
    for method, suffix, body in calls:
        answers = [
            await other.request(method, f"/v2/webhooks/{webhook_id}{suffix}", json=body)
            for webhook_id in (made["id"], str(uuid4()))
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        texts = [answer.json()["error"]["message"].replace(made["id"], "") for answer in answers]
        assert len(texts[0]) == len(texts[1]) - 36
    assert (await other.get("/v2/webhooks")).json()["data"] == []


async def test_log_should_show_every_try_with_its_answer(
    client: httpx.AsyncClient, farm: Farm, hook: Receiver
) -> None:
    made = await create(client, url=hook.url)
    hook.decide = lambda _, before: Reply(
        500 if before == 0 else 200, body=b"not now" if before == 0 else b""
    )
    path = f"/v2/webhooks/{made['id']}/logs"
    assert (await client.get(path)).json()["data"] == []
    recordings = []
    for number in range(3):
        answer = await client.post("/v2/recordings", json={"meeting_id": f"m{number}"})
        recordings.append(answer.json()["data"]["id"])
        await deliver(farm)
    body = (await client.get(path)).json()
    assert body["paging"] == {"total_count": 3, "start_offset": 1, "end_offset": 3}
    assert [entry["recording_id"] for entry in body["data"]] == recordings[::-1]
    first = body["data"][2]
    assert first["payload"]["recording"]["id"] == recordings[0]
    assert first["delivery_id"] == hook.received[0].headers["webhook-id"]
    expected = {
        "webhook_id": made["id"],
        "event": "recording.statusUpdate",
        "attempt": 1,
        "outcome": "retrying",
        "status_code": 500,
        "response_body": "not now",
        "error": "the receiver answered 500",
        "replay_of": None,
    }
    assert first | expected == first
    assert first["next_attempt"] > first["timestamp"]
    page = (await client.get(path, params={"page_no": 2, "per_page": 2})).json()
    assert page["data"] == body["data"][2:]
    assert page["paging"] == {"total_count": 3, "start_offset": 3, "end_offset": 3}
    assert "per_page" in refusal(await client.get(path, params={"per_page": "x"}))


async def test_replay_should_send_the_same_again(
    client: httpx.AsyncClient, farm: Farm, hook: Receiver
) -> None:
    made = await create(client, url=hook.url)
    await client.post("/v2/recordings", json={"meeting_id": "m"})
    await deliver(farm)
    path = f"/v2/webhooks/{made['id']}/logs"
    (entry,) = (await client.get(path)).json()["data"]
    webhooks_queue(farm.redis).delete()
    replay = await client.post(f"{path}/{entry['id']}/replay")
    assert replay.status_code == 202
    assert replay.json()["data"]["delivery_id"] == entry["delivery_id"]
    assert webhooks_queue(farm.redis).count == 1
    await deliver(farm)
    first, second = hook.received
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert (await client.get(path)).json()["data"][0]["replay_of"] == entry["id"]
    for log_id in ("0-1", "x", "-", "99999999999999999999-0"):
        refusal(await client.post(f"{path}/{log_id}/replay"), 404)
    await client.patch(f"/v2/webhooks/{made['id']}", json={"enabled": False})
    assert "is disabled" in refusal(await client.post(f"{path}/{entry['id']}/replay"), 409)


async def test_recording_should_name_webhooks_of_its_own(
    client: httpx.AsyncClient, other: httpx.AsyncClient, farm: Farm, hook: Receiver
) -> None:
    answer = await client.post("/v2/recordings", json={"meeting_id": "m", "webhooks": [hook.url, hook.url]})
    recording = answer.json()["data"]
    webhook_id = str(webhook_id_of("acme", hook.url))
    assert recording["webhooks"] == [{"id": webhook_id, "url": hook.url}]
    await deliver(farm)
    assert [received.status for received in hook.received] == ["INVOKED"]
    assert hook.received[0].headers["rtk-webhook-id"] == webhook_id
    path = f"/v2/webhooks/{webhook_id}/logs"
    (entry,) = (await client.get(path)).json()["data"]
    assert entry["status_code"] == 200
    refusal(await other.get(path), 404)
    assert (await client.post(f"{path}/{entry['id']}/replay")).status_code == 202
    await deliver(farm)
    assert hook.received[1].body == hook.received[0].body


@pytest.mark.parametrize(
    ("urls", "says"),
    [
        (["http://8.8.8.8/", "http://10.0.0.1/"], '"webhooks.1": 10.0.0.1 is a private address'),
        (["file:///etc/passwd"], '"webhooks.0"'),
        (["http://8.8.8.8/"] * 11, '"webhooks"'),
        ([""], '"webhooks.0"'),
        ("http://8.8.8.8/", '"webhooks"'),
    ],
)
async def test_bad_webhook_of_a_recording_should_be_named(
    client: httpx.AsyncClient, urls: Any, says: str
) -> None:
    answer = await client.post("/v2/recordings", json={"meeting_id": "m", "webhooks": urls})
    assert says in refusal(answer)


async def test_public_key_should_be_public(app: Starlette, settings: Settings) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://farm.test") as anyone:
        answer = await anyone.get("/.well-known/webhooks.json")
    body = answer.json()
    assert (body["success"], body["message"]) == (True, "")
    key = load_pem_public_key(body["data"]["publicKey"].encode())
    assert isinstance(key, RSAPublicKey)
    assert key.key_size == 2048
    assert body["data"]["publicKey"] == load_signing_key(settings).public_pem


async def test_key_that_is_none_should_stop_the_api_with_a_clear_error(
    tmp_path: Path, settings: Settings
) -> None:
    path = tmp_path / "key.pem"
    path.write_text("-----BEGIN NONSENSE-----")
    with pytest.raises(SettingsError, match="FARM_WEBHOOK_KEY") as refused:
        create_app(settings.model_copy(update={"webhook_key": path}))
    assert "NONSENSE" not in str(refused.value)


async def test_both_dialects_should_have_webhooks(client: httpx.AsyncClient) -> None:
    made = await create(client)
    path = f"/client/v4/accounts/a/realtime/kit/b/webhooks/{made['id']}"
    assert (await client.get(path)).json()["data"]["id"] == made["id"]


async def test_test_event_should_be_one_that_the_webhook_wants(
    client: httpx.AsyncClient, farm: Farm, hook: Receiver
) -> None:
    made = await create(client, url=hook.url, events=["recording.transferUpdate"])
    assert (await client.post(f"/v2/webhooks/{made['id']}/test")).status_code == 202
    await deliver(farm)
    assert json.loads(hook.received[0].body)["event"] == "recording.transferUpdate"
    (entry,) = (await client.get(f"/v2/webhooks/{made['id']}/logs")).json()["data"]
    assert entry["event"] == "recording.transferUpdate"
