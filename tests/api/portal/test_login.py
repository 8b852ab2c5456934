"""Logging in and out, and what a session may do at the API."""

from html import unescape
from typing import Any, cast

import httpx
import pytest
import redis
from starlette.applications import Starlette

from recording_farm.api.app import create_app
from recording_farm.api.services.sessions import CSRF_HEADER
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.api_keys import create_api_key, revoke_api_key
from testkit.api.portal import HOST, HOSTILE, Visit, visit_of
from testkit.api.serving import served
from testkit.farm import Farm
from testkit.settings import settings_with


async def test_stranger_should_be_led_to_the_login_and_on_from_there(stranger: Visit) -> None:
    response = await stranger.client.get("/settings?a=b")
    assert (response.status_code, response.headers["location"]) == (303, "/login?next=%2Fsettings%3Fa%3Db")
    assert 'name="next" value="/settings?a=b"' in unescape(await stranger.see(response.headers["location"]))


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb"]
)
async def test_login_should_lead_nowhere_else(stranger: Visit, target: str) -> None:
    page = await stranger.client.get("/login", params={"next": target})
    assert 'name="next" value="/"' in page.text


async def test_cookie_should_hold_no_key_and_be_for_the_server_alone(
    stranger: Visit, redis_client: redis.Redis
) -> None:
    response = await stranger.log_in("acme", "acme-key")
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "acme" not in cookie
    value = stranger.client.cookies["farm_session"]
    (name,) = cast("list[bytes]", redis_client.keys("farm:session:*"))
    kept = cast("bytes", redis_client.get(name))
    assert value.split(".")[0].encode() not in name
    assert b"acme-key" not in kept
    assert 0 < redis_client.ttl(name) <= 12 * 3600


async def test_cookie_should_be_secure_behind_https(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"public_url": "https://farm.test"}))
    async with app.router.lifespan_context(app), visit_of(app, base="https://farm.test") as visit:
        response = await visit.log_in("acme", "acme-key", Origin="https://farm.test")
        assert response.status_code == 303, response.text
        cookie = response.headers["set-cookie"]
        assert cookie.startswith("__Host-farm_session=")
        assert "Secure" in cookie
        assert "Path=/;" in cookie
        await visit.see("/")


async def test_login_should_change_the_session(stranger: Visit) -> None:
    await stranger.see("/login")
    before = stranger.client.cookies["farm_session"]
    await stranger.log_in("acme", "acme-key")
    assert stranger.client.cookies["farm_session"] != before


async def test_cookie_that_a_neighboring_host_can_set_should_count_for_nothing_behind_https(
    settings: Settings,
) -> None:
    app = create_app(settings.model_copy(update={"public_url": "https://farm.test"}))
    async with (
        app.router.lifespan_context(app),
        visit_of(app, base="https://farm.test") as visit,
        visit_of(app, base="https://farm.test") as another,
    ):
        await another.log_in("other", "other-key", Origin="https://farm.test")
        planted = another.client.cookies["__Host-farm_session"]
        headers = {"Cookie": f"farm_session={planted}"}
        assert (await visit.client.get("/", headers=headers)).status_code == 303
        assert (await visit.client.get("/v2/recordings", headers=headers)).status_code == 401
        assert (await another.client.get("/")).status_code == 200


async def test_login_should_end_the_session_that_was_open(acme: Visit, redis_client: redis.Redis) -> None:
    (before,) = cast("list[bytes]", redis_client.keys("farm:session:*"))
    assert (await acme.log_in("acme", "acme-key")).status_code == 303
    (after,) = cast("list[bytes]", redis_client.keys("farm:session:*"))
    assert before != after


async def test_wrong_key_should_be_reported_on_the_login_page(stranger: Visit) -> None:
    response = await stranger.log_in("acme", HOSTILE)
    assert response.status_code == 401
    assert "wrong API key" in response.text
    assert "www-authenticate" not in response.headers
    assert HOSTILE not in response.text
    assert (await stranger.log_in("other", "acme-key")).status_code == 401


@pytest.mark.parametrize(
    ("organization", "key"),
    [
        ("", "acme-key"),
        ("", "acme:acme-key"),
        ("acme", "acme:acme-key"),
        ("Acme Inc.", " acme:acme-key "),
        ("acme", "acme-key"),
    ],
)
async def test_login_should_take_the_key_with_or_without_its_organization(
    stranger: Visit, organization: str, key: str
) -> None:
    assert (await stranger.log_in(organization, key)).status_code == 303
    assert "acme" in await stranger.see("/settings")


@pytest.mark.parametrize("key", ["other:acme-key", "acme:other-key", ":", "acme:", "acme:acme:acme-key"])
async def test_login_should_refuse_pasted_credentials_that_do_not_fit(stranger: Visit, key: str) -> None:
    assert (await stranger.log_in("acme", key)).status_code == 401


async def test_key_with_a_colon_should_open_the_login(settings: Settings) -> None:
    app = create_app(settings_with(settings.data_dir, settings.redis_url, api_keys="acme:a:b"))
    async with app.router.lifespan_context(app), visit_of(app) as visit:
        assert (await visit.log_in("acme", "a:b")).status_code == 303


async def test_guessing_should_be_limited_as_at_the_api(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"failure_limit": 3}))
    async with app.router.lifespan_context(app), visit_of(app) as visit:
        for _ in range(3):
            assert (await visit.log_in("acme", "wrong")).status_code == 401
        refused = await visit.log_in("acme", "acme-key")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        api = await visit.client.get("/v2/recordings", auth=("acme", "acme-key"))
        assert api.status_code == 429


async def test_login_should_come_from_the_login_page(stranger: Visit) -> None:
    fields = {"organization": "acme", "key": "acme-key"}
    assert (await stranger.client.post("/login", data=fields, headers={"Origin": HOST})).status_code == 403
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert (await stranger.log_in("acme", "acme-key", **headers)).status_code == 403
    assert "farm:session" not in stranger.client.cookies


async def test_logout_should_end_the_session(acme: Visit, redis_client: redis.Redis) -> None:
    cookie = acme.client.cookies["farm_session"]
    assert (await acme.send("/logout")).headers["location"] == "/login"
    assert redis_client.keys("farm:session:*") == []
    acme.client.cookies.set("farm_session", cookie, domain="farm.test")
    assert (await acme.client.get("/")).status_code == 303


async def test_logout_should_end_the_event_stream_before_the_next_change(farm: Farm) -> None:
    async with served(farm.settings) as address, httpx.AsyncClient(base_url=address, timeout=10) as client:
        visit = Visit(client)
        await visit.log_in("acme", "acme-key", Origin=address)
        async with client.stream("GET", "/v2/events") as stream:
            assert stream.status_code == 200
            lines = stream.aiter_lines()
            farm.add(meeting_id="before")
            async for line in lines:
                if "before" in line:
                    break
            assert (await visit.send("/logout")).status_code == 303
            farm.add(meeting_id="after")
            assert not [line async for line in lines if "after" in line]


async def test_revoked_key_should_end_its_sessions(app: Starlette, settings: Settings) -> None:
    made = create_api_key(settings, "acme", "for a while")
    async with visit_of(app, "acme", made.text) as visit:
        await visit.see("/")
        revoke_api_key(settings, made.key.id)
        assert (await visit.client.get("/")).status_code == 303
        assert (await visit.client.get("/v2/recordings")).status_code == 401


@pytest.mark.parametrize("cookie", ["", "x", "a.b", f"{'x' * 43}.{'0' * 64}", "ä.ö", "." * 5000])
async def test_made_up_session_should_be_none(stranger: Visit, cookie: str) -> None:
    raw = {"Cookie": f"farm_session={cookie}".encode()}
    assert (await stranger.client.get("/", headers=cast("Any", raw))).status_code == 303
    assert (await stranger.client.get("/v2/recordings", headers=cast("Any", raw))).status_code == 401


async def test_session_should_read_at_the_api_and_change_only_with_its_token(acme: Visit) -> None:
    assert (await acme.client.get("/v2/recordings")).status_code == 200
    wanted = {"meeting_id": "demo"}
    refused = await acme.client.post("/v2/recordings", json=wanted)
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "csrf_refused")
    for token in ("", "0" * 64, "ä"):
        headers = cast("Any", {CSRF_HEADER: token.encode()})
        assert (await acme.client.post("/v2/recordings", json=wanted, headers=headers)).status_code == 403
    headers = {CSRF_HEADER: await acme.token()}
    assert (await acme.client.post("/v2/recordings", json=wanted, headers=headers)).status_code == 200


async def test_token_of_another_session_should_be_worth_nothing(acme: Visit, other: Visit) -> None:
    headers = {CSRF_HEADER: await other.token()}
    assert (
        await acme.client.post("/v2/recordings", json={"meeting_id": "demo"}, headers=headers)
    ).status_code == 403


async def test_credentials_should_go_before_the_session(acme: Visit) -> None:
    response = await acme.client.get("/v2/recordings", auth=("acme", "wrong"))
    assert response.status_code == 401


async def test_ended_session_should_not_make_a_browser_ask_for_a_password(
    acme: Visit, redis_client: redis.Redis
) -> None:
    redis_client.delete(*cast("list[bytes]", redis_client.keys("farm:session:*")))
    response = await acme.client.get("/v2/recordings")
    assert (response.status_code, response.json()["error"]["type"]) == (401, "session_ended")
    assert "basic" not in response.headers["www-authenticate"].lower()
