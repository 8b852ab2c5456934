import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from getpass import getuser
from typing import Any

import httpx
import pytest
import redis

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.storage.presets import MAX_PRESETS
from testkit.api.client import OTHER, client_of
from testkit.settings import settings_with
from testkit.storage.buckets import bucket_at
from testkit.storage.servers import s3_endpoint, ssh_server  # noqa: F401 - fixtures

PRESETS = "/v2/storage/presets"
CHECK = "/v2/storage/check"
CLOUDFLARE = "/client/v4/accounts/any/realtime/kit/app"
SECRET = "hushhush"
AWS = {"type": "aws", "access_key": "AKEY", "secret": SECRET, "bucket": "films", "region": "eu-west-1"}
SHOWN = {"type": "aws", "bucket": "films", "region": "eu-west-1"}


@pytest.fixture
async def open_client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a farm that may connect to this machine."""
    local = settings_with(settings.data_dir, settings.redis_url, allow_private_addresses="127.0.0.0/8")
    async with client_of(local) as client:
        yield client


@pytest.fixture
def bucket(s3_endpoint: str) -> Iterator[dict[str, str]]:  # noqa: F811
    """The storage_config of a bucket."""
    with bucket_at(s3_endpoint, "api-films") as made:
        yield AWS | {"type": "s3", "endpoint": s3_endpoint, "bucket": "api-films", "path": "{date}"}
        assert list(made.objects.all()) == []


async def answer(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> Any:
    response = await client.request(method, path, **options)
    assert response.status_code == 200, response.text
    assert SECRET not in response.text
    return response.json()["data"]


async def put(client: httpx.AsyncClient, name: str, config: Any) -> Any:
    return await answer(client, "PUT", f"{PRESETS}/{name}", json={"storage_config": config})


async def check(client: httpx.AsyncClient, config: Any) -> Any:
    return await answer(client, "POST", CHECK, json={"storage_config": config})


@pytest.mark.parametrize("dialect", ["/v2", CLOUDFLARE])
async def test_preset_should_be_shown_without_its_secrets(client: httpx.AsyncClient, dialect: str) -> None:
    path = f"{dialect}/storage/presets"
    assert await answer(client, "GET", path) == []
    preset = {"name": "Archive_1.b-c", "storage_config": SHOWN}
    body = {"storage_config": AWS}
    assert await answer(client, "PUT", f"{path}/Archive_1.b-c", json=body) == preset
    assert await answer(client, "GET", f"{path}/Archive_1.b-c") == preset
    assert await answer(client, "GET", path) == [preset]
    assert await answer(client, "DELETE", f"{path}/Archive_1.b-c") == preset
    assert (await client.delete(f"{path}/Archive_1.b-c")).status_code == 404
    assert await answer(client, "GET", path) == []


async def test_presets_should_be_apart(client: httpx.AsyncClient, redis_client: redis.Redis) -> None:
    await put(client, "archive", AWS)
    assert await answer(client, "GET", PRESETS, auth=OTHER) == []
    for method in ("GET", "DELETE"):
        response = await client.request(method, f"{PRESETS}/archive", auth=OTHER)
        assert response.status_code == 404
    response = await client.post(
        CHECK, json={"storage_config": {"type": "preset", "name": "archive"}}, auth=OTHER
    )
    assert response.status_code == 404
    kept = [redis_client.hgetall(key) for key in redis_client.keys("farm:storage_presets:*")]
    assert len(kept) == 1
    assert SECRET not in str(kept)


async def test_presets_should_be_limited(client: httpx.AsyncClient) -> None:
    for number in range(MAX_PRESETS):
        await put(client, str(number), AWS)
    response = await client.put(f"{PRESETS}/one-more", json={"storage_config": AWS})
    assert response.status_code == 409
    assert response.json()["error"]["type"] == "too_many_presets"


@pytest.mark.parametrize("name", ["x" * 65, "a%20b", "ä", "a%0Ab"])
async def test_name_that_can_be_none_should_be_refused(client: httpx.AsyncClient, name: str) -> None:
    for method in ("GET", "DELETE", "PUT"):
        response = await client.request(
            method, f"{PRESETS}/{name}", content=json.dumps({"storage_config": AWS})
        )
        assert response.status_code == 422
        assert '"preset_name"' in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"type": "ftp", "secret": SECRET}, "storage_config"),
        (AWS | {"color": SECRET}, "color"),
        (AWS | {"secret": {"value": SECRET}}, "secret"),
        (AWS | {"secret": SECRET * 5000}, "secret"),
        (AWS | {"access_key": [SECRET]}, "access_key"),
        (AWS | {"bucket": None}, "bucket"),
        (AWS | {"type": "azure"}, "secret"),
        ({"type": "gcs", "secret": {"private_key": SECRET}, "bucket": "b"}, "secret"),
        (
            {"type": "sftp", "host": "a b", "username": "u", "auth_method": "PASSWORD", "password": SECRET},
            "host",
        ),
        (
            {"type": "sftp", "host": "a", "username": "u", "auth_method": "KEY", "password": SECRET},
            "private_key",
        ),
        (SECRET, "storage_config"),
    ],
)
async def test_refusal_should_name_the_field_and_never_the_secret(
    client: httpx.AsyncClient, config: Any, field: str, redis_client: redis.Redis
) -> None:
    for method, path in (("PUT", f"{PRESETS}/archive"), ("POST", CHECK)):
        response = await client.request(method, path, json={"storage_config": config})
        assert response.status_code == 422, response.text
        assert field in response.json()["error"]["message"]
        assert SECRET not in response.text
    assert redis_client.keys("farm:storage_presets:*") == []


@pytest.mark.parametrize(
    "body", ["{", f'{{"storage_config": "{SECRET}', f'["{SECRET}"]', f'{{"{SECRET}": 1}}']
)
async def test_body_that_is_none_should_be_refused(client: httpx.AsyncClient, body: str) -> None:
    response = await client.put(f"{PRESETS}/archive", content=body)
    assert response.status_code in {400, 422}


async def test_storage_at_a_private_address_should_be_refused(
    client: httpx.AsyncClient, bucket: dict[str, str]
) -> None:
    response = await client.put(f"{PRESETS}/archive", json={"storage_config": bucket})
    assert response.status_code == 422
    assert response.json()["error"]["type"] == "address_refused"
    assert SECRET not in response.text
    checked = await check(client, bucket)
    assert (checked["ok"], checked["code"]) == (False, "address_refused")
    assert "FARM_ALLOW_PRIVATE_ADDRESSES" in checked["message"]


async def test_storage_and_preset_should_be_checked(
    open_client: httpx.AsyncClient, bucket: dict[str, str]
) -> None:
    assert await check(open_client, bucket) == {"ok": True}
    await put(open_client, "archive", bucket)
    assert await check(open_client, {"type": "preset", "name": "archive"}) == {"ok": True}
    assert await check(open_client, bucket | {"bucket": "nothere"}) == {
        "ok": False,
        "code": "no_bucket",
        "message": "there is no bucket nothere",
    }


async def test_host_key_of_a_check_should_be_expected_from_then_on(
    open_client: httpx.AsyncClient,
    redis_client: redis.Redis,
    ssh_server: Any,  # noqa: F811
    tmp_path: Any,
) -> None:
    target = {"type": "sftp", "host": "127.0.0.1", "port": ssh_server.port, "username": getuser()}
    target |= {"auth_method": "KEY", "private_key": ssh_server.key, "path": str(tmp_path)}
    assert await check(open_client, target) == {"ok": True}
    server = f"127.0.0.1:{ssh_server.port}"
    assert redis_client.hgetall("farm:host_keys:acme") == {server.encode(): ssh_server.host_key.encode()}
    redis_client.hset("farm:host_keys:acme", server, "SHA256:" + "A" * 43)
    checked = await check(open_client, target)
    assert (checked["ok"], checked["code"]) == (False, "wrong_host_key")
    assert "host_key" in checked["message"]
    assert await check(open_client, target | {"host_key": ssh_server.host_key}) == {"ok": True}
    assert await check(open_client, target) == {"ok": True}


async def test_checks_should_be_limited_for_each_organization(open_client: httpx.AsyncClient) -> None:

    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = AWS | {"type": "s3", "endpoint": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        body = {"storage_config": config}
        responses = await asyncio.gather(*(open_client.post(CHECK, json=body) for _ in range(3)))
    codes = sorted(response.status_code for response in responses)
    assert codes == [200, 200, 429]
    assert [each.json()["data"]["code"] for each in responses if each.is_success] == ["timed_out"] * 2


async def test_storage_should_need_a_key(client: httpx.AsyncClient) -> None:
    for method, path in (
        ("POST", CHECK),
        ("GET", PRESETS),
        ("GET", f"{PRESETS}/a"),
        ("PUT", f"{PRESETS}/a"),
        ("DELETE", f"{PRESETS}/a"),
    ):
        assert (await client.request(method, path, auth=("acme", "wrong"))).status_code == 401
