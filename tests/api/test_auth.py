import base64

import cloudflare
import httpx
import pytest
from starlette.applications import Starlette

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.api_keys import create_api_key, revoke_api_key
from testkit.api.client import client_of
from testkit.api.serving import served
from testkit.settings import settings_with

CLOUDFLARE = "/client/v4/accounts/any/realtime/kit/app"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def basic(credentials: str | bytes) -> str:
    raw = credentials.encode() if isinstance(credentials, str) else credentials
    return f"Basic {base64.b64encode(raw).decode()}"


async def status_with(client: httpx.AsyncClient, path: str = "/v2/recordings", **headers: str) -> int:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return (await client.get(path, headers=names, auth=NoAuth())).status_code


class NoAuth(httpx.Auth):
    """Sends only what the test says, not the client's own credentials."""


@pytest.mark.parametrize("path", ["/v2/recordings", f"{CLOUDFLARE}/recordings"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": basic("acme:acme-key")},
        {"Authorization": "basic  " + basic("acme:acme-key").removeprefix("Basic ")},
        {"Authorization": "Bearer acme-key"},
        {"Authorization": "bearer acme-key"},
        {"X_Auth_Key": "acme-key"},
        {"X_Auth_Key": "acme-key", "X_Auth_Email": "me@acme.example"},
        {"Authorization": "Bearer acme-key", "X_Auth_Key": "something else"},
    ],
)
async def test_key_should_be_taken_however_it_is_sent(
    client: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    assert await status_with(client, path, **headers) == 200


@pytest.mark.parametrize("path", [f"/v2/recordings/{UNKNOWN}", f"{CLOUDFLARE}/recordings/{UNKNOWN}"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": basic("acme")},
        {"Authorization": basic("acme:")},
        {"Authorization": basic("acme:wrong")},
        {"Authorization": basic(":acme-key")},
        {"Authorization": basic("other:acme-key")},
        {"Authorization": basic("ACME:acme-key")},
        {"Authorization": basic("äcme:acme-key")},
        {"Authorization": basic(b"\xff\xfe")},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer acme:acme-key"},
        {"Authorization": b"Bearer \xff\xfe"},
        {"Authorization": "Digest acme-key"},
        {"Authorization": "acme:acme-key"},
        {"Authorization": "", "X-Auth-Key": "acme-key"},
        {"Authorization": "Bearer wrong", "X-Auth-Key": "acme-key"},
        {"X-Auth-Key": "wrong"},
        {"X-Auth-Key": b"\xff"},
        {"X-Auth-Email": "acme-key"},
    ],
)
async def test_wrong_credentials_should_be_refused_before_anything_else(
    client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str | bytes]
) -> None:
    raw = [(name, value.encode() if isinstance(value, str) else value) for name, value in headers.items()]
    response = await client.request(
        method, path, headers=[(name.encode(), value) for name, value in raw], content=b"{", auth=NoAuth()
    )
    assert response.status_code == 401
    body = response.json()
    message = body["error"]["message"]
    assert body == {
        "success": False,
        "error": {"code": 401, "message": message, "type": "unauthorized"},
        "errors": [{"code": 401, "message": message}],
    }
    challenge = response.headers["www-authenticate"]
    assert 'Basic realm="recording-farm"' in challenge
    assert 'Bearer realm="recording-farm"' in challenge


async def test_wrong_organization_and_wrong_key_should_look_the_same(client: httpx.AsyncClient) -> None:
    bodies = [
        (await client.get("/v2/recordings", auth=credentials)).json()
        for credentials in [("acme", "wrong"), ("nobody", "acme-key"), ("other", "acme-key")]
    ]
    assert bodies == [bodies[0]] * 3


async def test_key_should_open_its_own_organization_in_both_dialects(client: httpx.AsyncClient) -> None:
    started = await client.post("/v2/recordings", json={"meeting_id": "demo"})
    path = f"{CLOUDFLARE}/recordings/{started.json()['data']['id']}"
    assert await status_with(client, path, Authorization="Bearer acme-key") == 200
    assert await status_with(client, path, Authorization="Bearer other-key") == 404


@pytest.mark.parametrize("name", ["a", "A-z_0", "0" * 32, "x" * 64])
async def test_any_account_and_app_should_be_taken(client: httpx.AsyncClient, name: str) -> None:
    path = f"/client/v4/accounts/{name}/realtime/kit/{name}/recordings"
    assert await status_with(client, path, Authorization="Bearer acme-key") == 200


@pytest.mark.parametrize("name", ["x" * 65, "a.b", "a%20b", "%C3%A4", "a%0A", "a:b", ""])
@pytest.mark.parametrize("place", ["accounts/{}/realtime/kit/app", "accounts/any/realtime/kit/{}"])
async def test_names_that_are_no_account_or_app_should_not_be_found(
    client: httpx.AsyncClient, name: str, place: str
) -> None:
    path = f"/client/v4/{place.format(name)}/recordings"
    assert await status_with(client, path, Authorization="Bearer acme-key") == 404


async def test_running_api_should_know_new_and_revoked_keys(settings: Settings) -> None:
    async with client_of(settings) as client:
        new = create_api_key(settings, "acme")
        bearer = f"Bearer {new.text}"
        assert await status_with(client, Authorization=bearer) == 200
        assert await status_with(client, Authorization=basic(f"acme:{new.text}")) == 200
        assert await status_with(client, Authorization=basic(f"other:{new.text}")) == 401
        revoke_api_key(settings, new.key.id)
        assert await status_with(client, Authorization=bearer) == 401
        assert await status_with(client, Authorization="Bearer acme-key") == 200


async def test_key_of_other_letters_should_be_taken(settings: Settings) -> None:
    other = settings_with(settings.data_dir, settings.redis_url, api_keys="acme:schlüssel")
    async with client_of(other) as client:
        assert await status_with(client, Authorization=basic("acme:schlüssel")) == 200
        headers = [(b"Authorization", "Bearer schlüssel".encode())]
        response = await client.get("/v2/recordings", headers=headers, auth=NoAuth())
        assert response.status_code == 200


async def test_what_needs_no_key_should_be_open(app: Starlette) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://farm.test") as client:
        paths = ["/login", "/healthz", "/meet/demo"]
        assert [await status_with(client, path) for path in paths] == [200] * 3


async def test_cloudflare_client_should_be_let_in_with_a_token_and_with_an_email_and_key(
    settings: Settings,
) -> None:
    async with served(settings) as address:
        url = f"{address}/client/v4"
        with_token = cloudflare.AsyncCloudflare(base_url=url, max_retries=0, timeout=10, api_token="acme-key")
        with_email = cloudflare.AsyncCloudflare(
            base_url=url, max_retries=0, timeout=10, api_email="me@acme.example", api_key="acme-key"
        )
        wrong = cloudflare.AsyncCloudflare(base_url=url, max_retries=0, timeout=10, api_token="wrong")
        for client in (with_token, with_email):
            async with client:
                answer = await client.realtime_kit.recordings.get_recordings("app", account_id="any")
                assert answer.success is True
        async with wrong:
            with pytest.raises(cloudflare.AuthenticationError) as caught:
                await wrong.realtime_kit.recordings.get_recordings("app", account_id="any")
            assert [error.code for error in caught.value.errors] == [401]
