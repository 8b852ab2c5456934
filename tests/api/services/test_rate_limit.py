import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from recording_farm.api import server
from recording_farm.api.connections import Connections
from recording_farm.api.http_errors import RateLimitedError
from recording_farm.api.services.rate_limit import RateLimits, network_of
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.api_keys import ApiKey, create_api_key
from recording_farm.farm.db.clients import connect_async
from testkit.api.client import OTHER, client_of
from testkit.farm import Farm
from testkit.settings import settings_with


def limited(settings: Settings, **values: Any) -> Settings:
    return settings_with(settings.data_dir, settings.redis_url, **values)


async def statuses(client: httpx.AsyncClient, count: int, **options: Any) -> list[int]:
    return [(await client.get("/v2/recordings", **options)).status_code for _ in range(count)]


def assert_rate_limited(response: httpx.Response, limit: int) -> None:
    assert response.status_code == 429
    body = response.json()
    message = body["error"]["message"]
    assert body == {
        "success": False,
        "error": {"code": 429, "message": message, "type": "rate_limited"},
        "errors": [{"code": 429, "message": message}],
    }
    seconds = response.headers["retry-after"]
    assert 1 <= int(seconds) <= 60
    assert f"try again in {seconds} s" in message
    assert response.headers["ratelimit-limit"] == str(limit)
    assert response.headers["ratelimit-remaining"] == "0"
    assert response.headers["ratelimit-reset"] == seconds


async def test_key_that_asks_too_often_should_be_refused_in_both_dialects(settings: Settings) -> None:
    async with client_of(limited(settings, rate_limit="3")) as client:
        assert await statuses(client, 3) == [200] * 3
        assert_rate_limited(await client.get("/v2/recordings"), 3)
        path = "/client/v4/accounts/any/realtime/kit/app/recordings"
        assert_rate_limited(await client.post(path, json={"meeting_id": "demo"}), 3)
        assert await statuses(client, 3, auth=OTHER) == [200] * 3


async def test_organization_should_not_multiply_its_limit_by_more_keys(settings: Settings) -> None:
    async with client_of(limited(settings, rate_limit="3")) as client:
        new = create_api_key(settings, "acme")
        assert await statuses(client, 2) == [200] * 2
        assert await statuses(client, 2, auth=("acme", new.text)) == [200, 429]


async def test_links_should_have_limits_of_their_own_and_one_together(
    redis_address: str, settings: Settings
) -> None:
    async with connect_async(redis_address) as client:
        limits = RateLimits(client, limited(settings, rate_limit="2"))
        links = [ApiKey(id=f"host:{n}", organization_id="acme", hash="0" * 64) for n in range(6)]
        for link in links[:5]:
            await limits.count_link_request(link)
            await limits.count_link_request(link)
        with pytest.raises(RateLimitedError, match="this link or token"):
            await limits.count_link_request(links[0])
        with pytest.raises(RateLimitedError, match="links and tokens of your organization"):
            await limits.count_link_request(links[5])
        # They have not used up what the API keys may do, nor what others may.
        await limits.count_request(ApiKey(id="key", organization_id="acme", hash="0" * 64))
        await limits.count_link_request(ApiKey(id="host:x", organization_id="other", hash="0" * 64))


async def test_limit_should_be_one_for_all_processes_of_the_api(settings: Settings) -> None:
    few = limited(settings, rate_limit="3")
    async with client_of(few) as one, client_of(few) as two:
        assert await statuses(one, 2) + await statuses(two, 2) == [200, 200, 200, 429]


async def test_limit_should_hold_for_requests_at_the_same_time(settings: Settings) -> None:
    async with client_of(limited(settings, rate_limit="10")) as client:
        answers = await asyncio.gather(*(client.get("/v2/recordings") for _ in range(30)))
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [429] * 20


async def test_key_should_be_let_in_again_when_the_window_is_over(farm: Farm) -> None:
    async with client_of(limited(farm.settings, rate_limit="1")) as client:
        assert await statuses(client, 2) == [200, 429]
        (window,) = farm.redis.keys("farm:limits:*")
        assert 1 <= int(farm.redis.ttl(window)) <= 60
        # Redis ends the window; the test only does not wait a minute for it.
        farm.redis.pexpire(window, 1)
        await asyncio.sleep(0.05)
        assert await statuses(client, 2) == [200, 429]


async def test_requests_that_fail_should_count_too(settings: Settings) -> None:
    async with client_of(limited(settings, rate_limit="2")) as client:
        assert (await client.post("/v2/recordings", content=b"{")).status_code == 400
        assert (await client.get("/v2/recordings/x")).status_code == 404
        assert await statuses(client, 1) == [429]


async def test_limit_of_zero_should_be_none(farm: Farm) -> None:
    async with client_of(limited(farm.settings, rate_limit="0", failure_limit="0")) as client:
        assert await statuses(client, 20) == [200] * 20
        assert await statuses(client, 20, auth=("acme", "wrong")) == [401] * 20
        assert farm.redis.keys("farm:limits:*") == []


async def test_what_needs_no_key_should_not_be_limited(settings: Settings) -> None:
    async with client_of(limited(settings, rate_limit="1", failure_limit="1")) as client:
        assert await statuses(client, 2) == [200, 429]
        assert await statuses(client, 2, auth=("acme", "wrong")) == [401, 429]
        for path, status in [("/login", 200), ("/healthz", 200), ("/meet/demo", 200)]:
            assert [(await client.get(path)).status_code for _ in range(3)] == [status] * 3
        download = "/v2/recordings/0/download/a.mp4?expires=1&signature=x"
        assert (await client.get(download)).status_code == 403


async def test_address_that_guesses_too_often_should_learn_nothing_more(settings: Settings) -> None:
    few = limited(settings, failure_limit="3")
    async with client_of(few, "192.0.2.1") as guesser, client_of(few, "192.0.2.2") as neighbor:
        assert await statuses(guesser, 4, auth=("acme", "wrong")) == [401, 401, 401, 429]
        # Not even that this key would be right.
        assert_rate_limited(await guesser.get("/v2/recordings"), 3)
        assert await statuses(neighbor, 2) == [200] * 2
        # A key that the farm made cannot be guessed, so it is not locked out.
        new = create_api_key(settings, "acme")
        assert await statuses(guesser, 2, auth=("acme", new.text)) == [200] * 2
        assert await statuses(guesser, 1, auth=("other", new.text)) == [429]


async def test_requests_without_a_key_should_not_count_as_guesses(settings: Settings) -> None:
    async with client_of(limited(settings, failure_limit="2")) as client:
        client.auth = None  # type: ignore[assignment]
        assert await statuses(client, 5) == [401] * 5
        assert await statuses(client, 5, headers={"Authorization": "Basic !!!"}) == [401] * 5
        assert await statuses(client, 1, headers={"Authorization": "Bearer acme-key"}) == [200]


@pytest.mark.parametrize("auth", [("acme", "acme-key"), ("acme", "wrong")])
async def test_limits_should_say_so_while_redis_is_away(tmp_path: Path, auth: tuple[str, str]) -> None:
    async with client_of(settings_with(tmp_path, f"unix://{tmp_path}/nobody.sock")) as client:
        response = await client.get("/v2/recordings", auth=auth)
    assert (response.status_code, response.json()["error"]["type"]) == (503, "redis_unavailable")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_network_should_be_what_one_client_can_have(address: str, network: str) -> None:
    assert network_of(address) == network


async def client_seen_by(configuration: uvicorn.Config) -> str:
    """The client's address, as an app behind the server's configuration sees a request from this machine that
    claims to come from elsewhere.
    """
    seen = ""

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        nonlocal seen
        seen = scope["client"][0]

    configuration.app = app
    configuration.load()
    scope = {"type": "http", "client": ("127.0.0.1", 1), "headers": [(b"x-forwarded-for", b"192.0.2.9")]}
    await configuration.loaded_app(scope, None, None)
    return seen


@pytest.mark.parametrize(
    ("trusted", "seen"),
    [("", "127.0.0.1"), ("10.0.0.0/8", "127.0.0.1"), ("10.0.0.0/8, 127.0.0.1", "192.0.2.9")],
)
async def test_forwarded_address_should_be_believed_of_trusted_proxies_only(
    settings: Settings, trusted: str, seen: str
) -> None:
    configuration = server.configuration(
        limited(settings, trusted_proxies=trusted), Connections(9, 9, trusted)
    )
    configuration.log_config = None
    assert await client_seen_by(configuration) == seen
