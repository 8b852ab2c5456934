"""The portal's pages, asked without a browser: who may see what, what they do, and that text stays text."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
import redis
from starlette.applications import Starlette
from starlette.routing import Route

from api.app import create_app
from api.portal import portal_routes
from api.services.sessions import CSRF_HEADER
from farm.clock import now
from farm.config.settings import Settings
from farm.credentials.api_keys import create_api_key, list_api_keys, revoke_api_key
from farm.jobs.settle import settle
from farm.nodes.registry import Condition, Nodes
from farm.queues.recordings import recordings_queue
from farm.queues.transfers import uploads_queue
from farm.recording.model import Failure, FileKind, FinishedFile, Status, TimelineEntry
from farm.recording.outputs import Output, OutputKind, OutputState
from farm.recording.records import Records
from farm.recording.transfers import STORE, Transfer, TransferError, TransferState
from farm.webhooks.log import Attempt, AttemptOutcome, log_key
from farm.webhooks.registry import STATUS_UPDATE
from testkit.farm import Farm
from testkit.portal import CSRF_FIELD
from testkit.receivers import receiver
from testkit.recordings import new_recording
from testkit.serving import served
from testkit.settings import settings_with
from testkit.storage.targets import S3
from testkit.webhooks import deliver

HOST = "http://farm.test"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


class Visit:
    """A browser that looks at the portal."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def see(self, path: str, status: int = 200) -> str:
        """The text of a page."""
        response = await self.client.get(path)
        assert response.status_code == status, (response.status_code, response.text)
        return response.text

    async def token(self) -> str:
        """What the pages of this session send along with their forms."""
        page = await self.see("/start")
        found = CSRF_FIELD.search(page)
        assert found, page
        return found[1]

    async def send(self, path: str, /, **fields: str) -> httpx.Response:
        """Send a form."""
        return await self.client.post(path, data={"csrf_token": await self.token(), **fields})

    async def log_in(self, organization: str, key: str, **headers: str) -> httpx.Response:
        """Log in on the login page."""
        found = CSRF_FIELD.search((await self.client.get("/login")).text)
        assert found
        fields = {"organization": organization, "key": key, "csrf_token": found[1]}
        return await self.client.post("/login", data=fields, headers={"Origin": HOST, **headers})


@asynccontextmanager
async def visit_of(
    app: Starlette, organization: str | None = None, key: str = "", base: str = HOST
) -> AsyncIterator[Visit]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=base) as client:
        visit = Visit(client)
        if organization is not None:
            response = await visit.log_in(organization, key)
            assert response.status_code == 303, response.text
        yield visit


@pytest.fixture
async def stranger(app: Starlette) -> AsyncIterator[Visit]:
    """Somebody who is not logged in."""
    async with visit_of(app) as visit:
        yield visit


@pytest.fixture
async def acme(app: Starlette) -> AsyncIterator[Visit]:
    """An administrator of the farm: the organisation of the first key in the settings."""
    async with visit_of(app, "acme", "acme-key") as visit:
        yield visit


@pytest.fixture
async def other(app: Starlette) -> AsyncIterator[Visit]:
    """Somebody else."""
    async with visit_of(app, "other", "other-key") as visit:
        yield visit


# --- Log in and out --------------------------------------------------------------------------------------


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


async def test_cookie_that_a_neighbouring_host_can_set_should_count_for_nothing_behind_https(
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


async def test_wrong_key_should_be_told_on_the_login_page(stranger: Visit) -> None:
    response = await stranger.log_in("acme", HOSTILE)
    assert response.status_code == 401
    assert "wrong API key" in response.text
    assert "www-authenticate" not in response.headers
    assert HOSTILE not in response.text
    assert (await stranger.log_in("other", "acme-key")).status_code == 401


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


# --- The session at the API ------------------------------------------------------------------------------


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


# --- CSRF, other organisations, administrators -----------------------------------------------------------


async def test_no_form_should_be_taken_without_the_token_of_its_session(acme: Visit, other: Visit) -> None:
    posts = [
        re.sub(r"{\w+}", str(uuid4()), route.path)
        for route in portal_routes
        if isinstance(route, Route) and "POST" in (route.methods or ())
    ]
    assert len(posts) > 15
    foreign = await other.token()
    for path in posts:
        for fields in ({}, {"csrf_token": ""}, {"csrf_token": foreign}):
            response = await acme.client.post(path, data=fields)
            assert response.status_code == 403, path
            assert "Location" not in response.headers


async def test_every_page_should_have_the_strict_policy(acme: Visit, other: Visit) -> None:
    for path in (
        "/",
        "/start",
        "/settings",
        "/settings/storage?type=sftp",
        "/nodes",
        "/login",
        "/recordings/x",
    ):
        response = await acme.client.get(path)
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "form-action 'self'" in policy
        assert response.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?! src=)|<style|\son\w+=|\sstyle=", response.text), path
    assert (
        (await other.client.get("/portal-assets/portal.js"))
        .headers["content-type"]
        .startswith("text/javascript")
    )


async def test_recording_of_another_organisation_should_not_be_there(other: Visit, records: Records) -> None:
    recording = records.add(new_recording(meeting_id="a-secret-meeting"))
    for path in ("", "/live.jpg"):
        response = await other.client.get(f"/recordings/{recording.id}{path}")
        assert (response.status_code, response.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert (await other.send(f"/recordings/{recording.id}/order", action="stop")).status_code == 404
    assert records.get("acme", recording.id).status is Status.INVOKED
    assert recording.meeting_id not in await other.see("/")


async def test_unknown_recording_should_be_a_page_that_says_so(acme: Visit) -> None:
    for recording_id in (uuid4(), "x", "%2e%2e", "a%3Fb%23c"):
        page = await acme.see(f"/recordings/{recording_id}", 404)
        assert "Not Found" in page


async def test_nodes_and_queues_should_be_for_administrators(
    acme: Visit, other: Visit, redis_client: redis.Redis
) -> None:
    Nodes(redis_client).beat("node-1", 2)
    for path in ("/nodes", "/rq/", "/rq/0/data/queues.json"):
        await acme.see(path)
        assert "administrators" in await other.see(path, 403)
    assert (await other.send("/nodes/drain", node="node-1", drain="yes")).status_code == 403
    assert not Nodes(redis_client).is_drained("node-1")
    assert "/nodes" not in await other.see("/")


async def test_administrators_should_be_those_of_the_setting(settings: Settings, redis_address: str) -> None:
    assert settings.administrators == {"acme"}
    assert settings_with(settings.data_dir, redis_address, admins="other, third").administrators == {
        "other",
        "third",
    }
    assert settings_with(settings.data_dir, redis_address, api_keys="").administrators == {"default"}


async def test_redis_that_is_away_should_be_a_page(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"redis_url": "unix:///nowhere/redis.sock"}))
    async with app.router.lifespan_context(app), visit_of(app) as visit:
        visit.client.cookies.set("farm_session", app.state.context.sessions.new())
        assert "database" in await visit.see("/", 503)


# --- What the pages do -----------------------------------------------------------------------------------


async def test_list_should_be_narrowed_and_paged(acme: Visit, farm: Farm) -> None:
    for number in range(30):
        farm.add(meeting_id=f"weekly-{number:02}")
    first = await acme.see("/")
    assert "1–25 of 30" in first
    assert "weekly-29" in first
    assert "weekly-04" not in first
    assert "weekly-04" in await acme.see("/?page=2")
    assert "weekly-07" in await acme.see("/?meeting=y-07")
    assert "weekly-08" not in await acme.see("/?meeting=y-07")
    assert "Nothing fits" in await acme.see("/?state=UPLOADED")
    assert "weekly-29" in await acme.see(f"/?state=active&from={now():%Y-%m-%d}&to={now():%Y-%m-%d}")
    assert "Nothing fits" in await acme.see("/?to=2020-01-31")
    # What was asked for stays in the links to other pages and in the form.
    assert "?state=active&page=2" in unescape(await acme.see("/?state=active"))
    assert "start_time" in await acme.see("/?from=yesterday", 422)


async def test_list_and_recording_should_tell_the_slot(acme: Visit, records: Records) -> None:
    recording = records.claim(records.add(new_recording()), "node-1", slot=7)
    page = f"/recordings/{recording.id}"
    for path in ("/", page):
        assert 'node-1 <span class="quiet">slot 7</span>' in await acme.see(path)
    assert (await acme.client.get(f"/v2{page}")).json()["data"]["slot"] == 7
    records.change_state(recording.id, Status.ERRORED)
    for path in ("/", page):
        text = await acme.see(path)
        assert "node-1" in text
        assert "slot 7" not in text


async def test_form_should_start_one_recording_however_often_it_is_sent(
    acme: Visit, records: Records
) -> None:
    once = str(uuid4())
    fields = {
        "meeting_id": "demo",
        "once": once,
        "codec": "VP8",
        "size": "640x360",
        "fps": "25",
        "audio": "MP3",
        "max_seconds": "60",
        "priority": "high",
        "allow_multiple_recordings": "yes",
    }
    first, second = [await acme.send("/start", **fields) for _ in range(2)]
    assert first.status_code == 303
    assert first.headers["location"] == second.headers["location"]
    recording = records.get("acme", first.headers["location"].rpartition("/")[2])
    assert (recording.codec, recording.width, recording.fps) == ("VP8", 640, 25)
    assert recording.audio_file is not None
    assert (recording.max_seconds, recording.priority) == (60, "high")


async def test_form_that_is_refused_should_say_why_and_keep_what_was_typed(acme: Visit) -> None:
    response = await acme.send("/start", meeting_id="demo", url="http://10.0.0.1/room", max_seconds="1e3")
    assert response.status_code == 422
    assert "max_seconds" in response.text
    assert 'value="http://10.0.0.1/room"' in response.text
    assert (
        "10.0.0.1 is not public"
        in (await acme.send("/start", meeting_id="demo", url="http://10.0.0.1/room")).text
    )


async def test_recording_should_be_stopped_from_its_page(acme: Visit, records: Records) -> None:
    recording = records.add(new_recording())
    assert 'value="stop"' in await acme.see(f"/recordings/{recording.id}")
    response = await acme.send(f"/recordings/{recording.id}/order", action="stop")
    assert (response.status_code, response.headers["location"]) == (
        303,
        f"/recordings/{recording.id}?done=ordered",
    )
    assert records.get("acme", recording.id).status is Status.ERRORED
    page = await acme.send(f"/recordings/{recording.id}/order", action="pause")
    assert page.status_code == 409
    assert "cannot be paused" in page.text
    assert (await acme.send(f"/recordings/{recording.id}/delete")).headers["location"] == "/?done=deleted"
    await acme.see(f"/recordings/{recording.id}", 404)


async def test_page_should_say_only_what_the_farm_says(acme: Visit) -> None:
    assert "Saved." in await acme.see("/?done=saved")
    assert "evil" not in await acme.see("/?done=evil")


async def test_uploads_should_be_tried_again_and_made_elsewhere_from_the_page(
    acme: Visit, farm: Farm, tmp_path: Path
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"film")
    recording = farm.stored(new_recording(), film, S3)
    farm.records.set_transfer(recording.id, Transfer(target="s3", state=TransferState.GIVEN_UP, attempts=9))
    settle(recording.id, farm.settings, farm.redis)
    path, uploads = f"/recordings/{recording.id}", uploads_queue(farm.redis, None)
    assert 'id="retry"' in await acme.see(path)
    response = await acme.send(f"{path}/upload")
    assert (response.status_code, response.headers["location"]) == (303, f"{path}?done=upload")
    assert [job.args for job in uploads.jobs] == [(str(recording.id), "s3")]
    assert farm.records.get(None, recording.id).transfers[1].state is TransferState.WAITING

    preset = {"host": "8.8.8.8", "username": "me", "password": "s3cret"}
    await acme.send("/settings/storage", type="sftp", name="mine", **preset)
    assert "<option>mine</option>" in await acme.see(path)
    assert (await acme.send(f"{path}/upload", preset="mine")).status_code == 303
    assert {job.args for job in uploads.jobs} == {(str(recording.id), name) for name in ("s3", "sftp")}
    refused = await acme.send(f"{path}/upload", preset="gone")
    assert refused.status_code == 422
    assert f'<body data-address="{path}"' in refused.text


async def test_webhook_should_be_told_again_from_the_page_of_the_recording(farm: Farm) -> None:
    farm = farm.with_settings(allow_private_addresses="all")
    app = create_app(farm.settings)
    async with app.router.lifespan_context(app), visit_of(app, "acme", "acme-key") as visit:
        with receiver() as hook:
            await visit.send("/settings/webhooks", name="mine", url=hook.url)
            path = (await visit.send("/start", meeting_id="m")).headers["location"]
            await deliver(farm.settings, farm.redis)
            fields = dict(re.findall(r'name="(webhook_id|log_id)" value="([^"]+)"', await visit.see(path)))
            response = await visit.send(f"{path}/replay", **fields)
            assert (response.status_code, response.headers["location"]) == (303, f"{path}?done=replay")
            await deliver(farm.settings, farm.redis)
            first, second = hook.received
            assert first.body == second.body


async def test_links_to_files_should_lead_through_the_name_that_the_browser_has(
    acme: Visit, farm: Farm
) -> None:
    files = tuple(
        FinishedFile(kind=kind, name=name, size=1, sha256="0" * 64)
        for kind, name in ((FileKind.VIDEO, "film.mp4"), (FileKind.AUDIO, "film.m4a"))
    )
    ended = {"status": Status.UPLOADED, "files": files, "file_size": 1, "recording_duration": 1}
    transfers = (Transfer(target=STORE, state=TransferState.DONE),)
    recording = farm.add(transfers=transfers, **ended)
    page = await acme.see(f"/recordings/{recording.id}")
    links = re.findall(r'<a id="download[^"]*" class="button" href="([^"]+)"', page)
    assert len(links) == 2
    assert [link for link in links if not link.startswith("/")] == []
    assert farm.settings.base_url not in "".join(links)


async def test_timeline_should_lead_to_places_in_the_file(acme: Visit, records: Records) -> None:
    recording = records.add(new_recording())
    began = now()
    records.change_state(recording.id, Status.RECORDING, started_time=began)
    records.note(recording.id, TimelineEntry(event="take_began", take=0, time=began))
    records.note(recording.id, TimelineEntry(event="fault", fault="the page broke", time=now()))
    page = await acme.see(f"/recordings/{recording.id}")
    assert 'class="take"' in page
    assert "the page broke" in page
    assert "/live.jpg" in page
    picture = await acme.client.get(f"/recordings/{recording.id}/live.jpg")
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/svg+xml")


async def test_storage_should_be_added_checked_and_deleted_without_showing_its_keys(acme: Visit) -> None:
    fields = {
        "type": "s3",
        "name": "mine",
        "endpoint": "https://8.8.8.8",
        "bucket": "recordings",
        "access_key": "an-access-key",
        "secret": "a-secret-key",
    }
    assert (await acme.send("/settings/storage", **fields)).headers["location"].startswith("/settings?done")
    page = await acme.see("/settings")
    assert "https://8.8.8.8" in page
    assert "an-access-key" not in page
    assert "a-secret-key" not in page
    checked = await acme.send("/settings/storage/check", name="mine")
    assert checked.status_code == 200
    assert 'class="notice bad"' in checked.text
    refused = await acme.send("/settings/storage", **fields | {"endpoint": "ftp://x"})
    assert refused.status_code == 422
    assert "a-secret-key" not in refused.text
    await acme.send("/settings/storage/delete", name="mine")
    assert "8.8.8.8" not in await acme.see("/settings")
    assert (await acme.send("/settings/storage/delete", name="mine")).status_code == 404


@pytest.mark.parametrize("kind", ["aws", "cloudflare", "digitalocean", "s3", "azure", "gcs", "sftp"])
async def test_form_of_each_storage_should_make_a_preset(acme: Visit, kind: str) -> None:
    page = await acme.see(f"/settings/storage?type={kind}")
    names = re.findall(r'<(?:input|textarea) name="(\w+)"', page)
    values = {
        "endpoint": "https://8.8.8.8",
        "port": "2222",
        "host": "8.8.8.8",
        "host_key": "SHA256:" + "a" * 43,
        "access_key": "AccountName=a;AccountKey=aGVsbG8=" if kind == "azure" else "key",
    }
    fields = {name: values.get(name, "value1") for name in names}
    response = await acme.send("/settings/storage", type=kind, **fields)
    assert response.status_code == 303, re.findall(r'role="alert">(.*?)<', response.text)


async def test_webhook_should_be_added_tested_and_deleted(acme: Visit, settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"allow_private_addresses": "all"}))
    async with app.router.lifespan_context(app), visit_of(app, "acme", "acme-key") as visit:
        made = await visit.send("/settings/webhooks", name="mine", url="http://127.0.0.1:9/hook")
        assert made.status_code == 200
        assert "whsec_" in made.text
        page = await visit.see("/settings")
        assert "whsec_" not in page
        found = re.search(r"/settings/webhooks/([0-9a-f-]{36})", page)
        assert found
        response = await visit.send(f"/settings/webhooks/{found[1]}/test")
        assert response.headers["location"] == f"/settings/webhooks/{found[1]}?done=test"
        assert "Nothing yet" in await visit.see(response.headers["location"])
        assert app.state.context.deliveries.claim("test", 5, 1) == [found[1]]
        assert (await visit.send(f"/settings/webhooks/{found[1]}/replay", log_id="1-1")).status_code == 404
        await visit.send(f"/settings/webhooks/{found[1]}/delete")
        assert "127.0.0.1:9" not in await visit.see("/settings")
    assert (await acme.send("/settings/webhooks", name="mine", url="http://127.0.0.1/")).status_code == 422


async def test_key_should_be_shown_once_and_revoked_by_its_own_organisation(
    acme: Visit, other: Visit, settings: Settings, app: Starlette
) -> None:
    made = await acme.send("/settings/keys", name=HOSTILE)
    found = re.search(r"farm_[\w-]{43}", made.text)
    assert found
    (key,) = [key for key in list_api_keys(settings) if not key.from_settings]
    assert (key.organization_id, key.name) == ("acme", HOSTILE)
    page = await acme.see("/settings")
    assert found[0] not in page
    assert key.id in page
    assert key.hash not in page
    assert key.id not in await other.see("/settings")
    assert (await other.send("/settings/keys/revoke", key_id=key.id)).status_code == 404
    async with visit_of(app, "acme", found[0]) as visit:
        await visit.see("/")
        await acme.send("/settings/keys/revoke", key_id=key.id)
        assert (await visit.client.get("/")).status_code == 303


async def test_defaults_should_keep_what_the_form_has_no_field_for(acme: Visit, app: Starlette) -> None:
    storage = {"type": "aws", "bucket": "b", "region": "r", "access_key": "a", "secret": "the-secret"}
    watermark = {"url": "https://example.com/mark.png"}
    configs = app.state.context.recording_configs
    configs.put(
        "acme",
        None,
        {
            "max_seconds": 60,
            "storage_config": storage,
            "video_config": {"fps": 25, "export_file": True, "watermark": watermark},
            "realtimekit_bucket_config": {"enabled": True},
        },
    )
    page = await acme.see("/settings")
    assert 'value="keep" selected' in page
    assert "the-secret" not in page
    # Documentation's own host name, so nothing is resolved: the watermark's address is refused.
    refused = await acme.send("/settings/defaults", codec="VP8", storage="keep", max_seconds="x")
    assert refused.status_code == 422
    configs.put("acme", None, {"max_seconds": 60, "storage_config": storage, "video_config": {"fps": 25}})
    saved = await acme.send("/settings/defaults", codec="VP8", storage="keep", file_name_prefix="a_")
    assert saved.status_code in {303, 422}, saved.text


async def test_kept_headers_should_not_follow_the_page_elsewhere(acme: Visit, app: Starlette) -> None:
    configs = app.state.context.recording_configs
    set_already = {"url": "http://8.8.8.8/room", "headers": {"x-key": "the-secret"}}
    configs.put("acme", None, set_already)
    for fields in ({"url": "http://8.8.4.4/room"}, {"url": "https://8.8.8.8/room"}, {}):
        refused = await acme.send("/settings/defaults", **fields)
        assert refused.status_code == 422
        assert "headers, passwords or cookies are set for the page" in refused.text
        assert configs.defaults("acme", "-").organization == set_already
    saved = await acme.send("/settings/defaults", url="http://8.8.8.8/another", codec="VP8")
    assert saved.status_code == 303, saved.text
    kept = configs.defaults("acme", "-").organization
    assert kept["headers"] == {"x-key": "the-secret"}
    assert kept["url"] == "http://8.8.8.8/another"


async def test_defaults_should_be_saved_and_shown_again(acme: Visit, app: Starlette) -> None:
    fields = {"codec": "VP8", "size": "640x360", "audio": "none", "priority": "low", "max_seconds": "90"}
    response = await acme.send("/settings/defaults", **fields)
    assert response.status_code == 303, response.text
    kept = app.state.context.recording_configs.get("acme", None)
    assert kept == {
        "max_seconds": 90,
        "priority": "low",
        "video_config": {"codec": "VP8", "width": 640, "height": 360},
        "audio_config": {"export_file": False},
    }
    page = await acme.see("/settings")
    for value in ("VP8", "640x360", "none", "low"):
        assert f'value="{value}" selected' in page
    await acme.send("/settings/defaults")
    assert app.state.context.recording_configs.get("acme", None) == {}


async def test_nodes_should_show_how_they_are_and_be_drained(acme: Visit, redis_client: redis.Redis) -> None:
    nodes = Nodes(redis_client)
    condition = Condition(
        recordings=1, warm_stages=1, load=0.42, disk_free=3 << 30, disk_size=10 << 30, memory_free=2 << 30
    )
    nodes.beat("node-1", 4, condition)
    nodes.beat("node-2", 1)
    page = await acme.see("/nodes")
    for text in ("node-1", "1 of 4", "42 %", "3.0 GiB free", "node-2", "– of 1"):
        assert text in page
    assert (await acme.send("/nodes/drain", node="node-1", drain="yes")).status_code == 303
    assert nodes.is_drained("node-1")
    assert "Take recordings again" in await acme.see("/nodes")
    await acme.send("/nodes/drain", node="node-1", drain="no")
    assert not nodes.is_drained("node-1")
    assert (await acme.send("/nodes/drain", node="nowhere", drain="yes")).status_code == 404
    nodes.beat("node-2", 1, draining=True)
    page = await acme.see("/nodes")
    assert [page.count(f'data-state="{state}"') for state in ("ready", "draining")] == [1, 1]


# --- Hostile text ----------------------------------------------------------------------------------------


async def test_text_of_clients_should_stay_text_everywhere(
    acme: Visit, app: Starlette, records: Records
) -> None:
    recording = new_recording(
        meeting_id=HOSTILE,
        url=f"https://example.com/{HOSTILE}",
        status=Status.INVOKED,
        webhooks=(f"https://example.com/{HOSTILE}",),
        error=Failure(code=HOSTILE, message=HOSTILE),
        storage_config={"type": "aws", "bucket": HOSTILE, "path": HOSTILE},
        quality={"findings": {HOSTILE: {"times": HOSTILE, "seconds": HOSTILE}}, "speed": HOSTILE},
        node=HOSTILE,
        output_file_name=f"{HOSTILE} file",
        outputs=(
            Output(
                id=uuid4(),
                kind=OutputKind.RTMP,
                url=f"rtmp://example.com/{HOSTILE} url",
                state=OutputState.FAILED,
                error=f"{HOSTILE} output",
            ),
        ),
        transfers=(
            Transfer(
                target=HOSTILE,
                state=TransferState.WAITING,
                error=TransferError(code=HOSTILE, message=HOSTILE),
                location=HOSTILE,
            ),
        ),
    )
    records.add(recording)
    records.note(recording.id, TimelineEntry(event="take_began", take=0, time=now()))
    records.note(recording.id, TimelineEntry(event="fault", fault=HOSTILE, time=now()))
    webhook = app.state.context.webhooks.create(
        "acme",
        name=HOSTILE,
        url=f"https://example.com/{HOSTILE}/2",
        events=("recording.statusUpdate",),
        enabled=True,
    )
    attempt = Attempt(
        delivery_id="1",
        recording_id=recording.id,
        number=1,
        time=now(),
        duration_ms=1,
        outcome=AttemptOutcome.RETRYING,
        status_code=500,
        answer=f"{HOSTILE} answer",
        error=f"{HOSTILE} failure",
        next_attempt=None,
        replay_of=None,
        body=json.dumps({"event": STATUS_UPDATE, "recording": {"status": f"{HOSTILE} state"}}),
    )
    app.state.context.redis.xadd(log_key("acme", webhook.id), {"attempt": attempt.model_dump_json()})
    preset = {
        "host": "8.8.8.8",
        "username": f"{HOSTILE} user",
        "path": f"/{HOSTILE} path",
        "password": "secret",
    }
    assert (await acme.send("/settings/storage", type="sftp", name="mine", **preset)).status_code == 303
    app.state.context.recording_configs.put(
        "acme", None, {"file_name_prefix": HOSTILE, "url": HOSTILE, "video_config": {"codec": HOSTILE}}
    )
    Nodes(app.state.context.redis).beat(HOSTILE, 1)
    await acme.send("/settings/keys", name=HOSTILE)
    pages = [
        await acme.see(path)
        for path in (
            "/",
            f"/recordings/{recording.id}",
            "/settings",
            f"/settings/webhooks/{webhook.id}",
            "/nodes",
        )
    ]
    _, of_recording, of_settings, of_webhook, _ = pages
    for shown, texts in (
        (of_recording, ("file", "url", "output", "answer", "failure", "state")),
        (of_settings, ("user", "path")),
        (of_webhook, ("answer", "failure", "state")),
    ):
        assert [text for text in texts if f"alert(2)&gt; {text}" not in shown] == []
    query = httpx.QueryParams({"meeting": HOSTILE, "state": HOSTILE, "page": HOSTILE})
    pages.append(await acme.see(f"/?{query}", 422))
    pages.append(await acme.see(f"/start?{httpx.QueryParams({'meeting': HOSTILE})}"))
    fields = {"url": HOSTILE, "webhooks": HOSTILE, "file_name_prefix": HOSTILE, "size": HOSTILE}
    pages.append((await acme.send("/start", meeting_id="\u0000", **fields)).text)
    pages.append((await acme.send("/settings/storage", type="sftp", name=HOSTILE, host=HOSTILE)).text)
    for number, page in enumerate(pages):
        assert "<script>alert" not in page, number
        assert "<img src=x" not in page, number
        assert "&lt;script&gt;alert" in page, number


# --- The queues ------------------------------------------------------------------------------------------


async def test_dashboard_should_change_things_only_for_its_own_pages(
    acme: Visit, redis_client: redis.Redis
) -> None:
    for method, path in (
        ("POST", "/rq/requeue/recordings"),
        ("GET", "/rq/requeue/recordings"),
    ):
        assert (await acme.client.request(method, path)).status_code == 403
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
            assert (await acme.client.request(method, path, headers=headers)).status_code == 403
        assert (
            await acme.client.request(method, path, headers={"Sec-Fetch-Site": "same-origin"})
        ).status_code == 200
    assert redis_client.ping()


async def test_dashboard_should_let_nothing_run_but_its_own_script(acme: Visit, farm: Farm) -> None:
    from farm.queues.recordings import enqueue_recording

    recording = farm.add(meeting_id=HOSTILE)
    enqueue_recording(farm.redis, recording)
    for path in ("/rq/", "/rq/0/view/workers", "/rq/0/view/jobs", f"/rq/0/view/job/{recording.id}"):
        response = await acme.client.get(path)
        assert response.status_code == 200, path
        policy = response.headers["content-security-policy"]
        nonce = re.search(r"'nonce-([\w-]+)'", policy)
        assert nonce
        assert f'<script nonce="{nonce[1]}">' in response.text
        assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
        # What clients have written is put into the page by the templates of its script: each value escaped.
        assert set(re.findall(r"<%=\s*([^%]*?)\s*%>", response.text)) <= {
            "$('<div/>').text(d.description).html()",
            "$('<div/>').text(d.exc_info).html()",
        }, path
    assert (await acme.client.get(f"/rq/0/view/job/{uuid4()}")).status_code == 404
    assert (await acme.client.get("/rq/7/view/queues")).status_code == 200


async def test_job_should_say_what_it_is_about_and_nothing_secret(
    acme: Visit, redis_client: redis.Redis
) -> None:
    started = await acme.send("/start", meeting_id="weekly", url="https://8.8.8.8/?token=very-secret")
    recording_id = started.headers["location"].rpartition("/")[2]
    (job,) = recordings_queue(redis_client).jobs
    assert job.meta == {"recording": recording_id, "meeting": "weekly", "node": None}
    shown = (await acme.client.get(f"/rq/0/data/job/{recording_id}.json")).text
    assert "record the meeting weekly" in shown
    assert "very-secret" not in shown


# --- What no page of ours sends --------------------------------------------------------------------------


async def test_cookies_of_other_programs_should_not_disturb_a_page(acme: Visit) -> None:
    cookies = f"theirs=café; farm_session={acme.client.cookies['farm_session']}"
    response = await acme.client.get("/settings", headers=cast("Any", [(b"cookie", cookies.encode())]))
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_names_should_never_lead_to_another_place_of_the_api(acme: Visit, name: str) -> None:
    for path in ("/settings/storage", "/settings/storage/delete"):
        response = await acme.send(path, type="aws", name=name)
        assert response.status_code in {404, 422}, response.text
        assert "there is nothing at" not in response.text


@pytest.mark.parametrize("kind", ["recordings", "settings/webhooks"])
@pytest.mark.parametrize("dots", ["%2e", "%2e%2e"])
async def test_dots_should_be_an_id_that_nothing_has(acme: Visit, kind: str, dots: str) -> None:
    assert re.search(r"no (recording|webhook) has the id \.", await acme.see(f"/{kind}/{dots}", 404))


async def test_mark_of_a_start_in_any_letters_should_be_answered(acme: Visit) -> None:
    response = await acme.send("/start", meeting_id="m", once="é\n€")
    assert response.status_code in {303, 422}, response.text
