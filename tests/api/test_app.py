from pathlib import Path

import httpx
import pytest
import redis

from recording_farm.api.app import create_app
from recording_farm.farm.config.settings import Settings
from testkit.api.serving import served
from testkit.settings import settings_with


async def test_health_should_be_good_once_redis_answers(client: httpx.AsyncClient) -> None:
    response = await client.get("/healthz", auth=("", ""))
    assert (response.status_code, response.json()["success"]) == (200, True)


async def test_front_page_should_lead_to_the_login_which_says_where_the_api_is(
    client: httpx.AsyncClient,
) -> None:
    response = await client.get("/", follow_redirects=True)
    assert (response.status_code, response.url.path) == (200, "/login")
    assert response.headers["content-type"].startswith("text/html")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "/v2/recordings" in response.text


async def test_built_in_meeting_should_be_served(client: httpx.AsyncClient) -> None:
    assert (await client.get("/meet/demo")).status_code == 200


def test_api_key_should_be_printed_on_the_first_start_only(
    tmp_path: Path,
    redis_address: str,
    redis_client: redis.Redis,  # noqa: ARG001 - it is empty
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = settings_with(tmp_path, redis_address, api_keys="")
    create_app(settings)
    assert "organization default, key farm_" in capsys.readouterr().err
    create_app(settings)
    assert capsys.readouterr().err == ""


async def test_app_should_work_behind_its_server(settings: Settings) -> None:
    async with served(settings) as address, httpx.AsyncClient(base_url=address) as client:
        assert (await client.get("/healthz")).status_code == 200
        auth = ("acme", "acme-key")
        started = await client.post("/v2/recordings", json={"meeting_id": "demo"}, auth=auth)
        assert started.status_code == 200
        # The server goes on with the connection after a body it did not read to its end.
        large = await client.post("/v2/recordings", content=b" " * (3 << 20), auth=auth)
        assert large.status_code == 413
        recording_id = started.json()["data"]["id"]
        assert (await client.get(f"/v2/recordings/{recording_id}", auth=auth)).status_code == 200
