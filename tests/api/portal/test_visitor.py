"""What all pages have in common: no form without its token, a strict policy, and text that stays text."""

import json
import re
from typing import Any, cast
from uuid import uuid4

import httpx
from starlette.applications import Starlette
from starlette.routing import Route

from recording_farm.api.app import create_app
from recording_farm.api.portal import portal_routes
from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.nodes.registry import Nodes
from recording_farm.farm.recording.model import Failure, Status, TimelineEntry
from recording_farm.farm.recording.outputs import Output, OutputKind, OutputState
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.transfers import Transfer, TransferError, TransferState
from recording_farm.farm.webhooks.log import Attempt, AttemptOutcome, log_key
from recording_farm.farm.webhooks.registry import STATUS_UPDATE
from testkit.api.portal import HOSTILE, Visit, visit_of
from testkit.recordings import new_recording


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


async def test_redis_that_is_away_should_be_a_page(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"redis_url": "unix:///nowhere/redis.sock"}))
    async with app.router.lifespan_context(app), visit_of(app) as visit:
        visit.client.cookies.set("farm_session", app.state.context.sessions.new())
        assert "database" in await visit.see("/", 503)


async def test_page_should_say_only_what_the_farm_says(acme: Visit) -> None:
    assert "Saved." in await acme.see("/?done=saved")
    assert "evil" not in await acme.see("/?done=evil")


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


async def test_cookies_of_other_programs_should_not_disturb_a_page(acme: Visit) -> None:
    cookies = f"theirs=café; farm_session={acme.client.cookies['farm_session']}"
    response = await acme.client.get("/settings", headers=cast("Any", [(b"cookie", cookies.encode())]))
    assert response.status_code == 200, response.text
