"""The settings of an organization: its webhooks, keys and defaults."""

import json
import re
from datetime import UTC, datetime
from typing import cast
from uuid import uuid4

import redis
from starlette.applications import Starlette

from recording_farm.api.app import create_app
from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.api_keys import create_api_key, list_api_keys
from recording_farm.farm.webhooks.log import Attempt, AttemptOutcome, log_key
from recording_farm.farm.webhooks.registry import STATUS_UPDATE
from testkit.api.portal import HOSTILE, Visit, visit_of


async def test_webhook_should_be_added_tested_and_deleted(acme: Visit, settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"allow_private_addresses": "all"}))
    async with app.router.lifespan_context(app), visit_of(app, "acme", "acme-key") as visit:
        made = await visit.send("/settings/webhooks", name="mine", url="http://127.0.0.1:9/hook")
        secret = await visit.see(made.headers["location"])
        assert "whsec_" in secret
        assert secret == await visit.see(made.headers["location"])  # a reload makes no second one
        page = await visit.see("/settings")
        assert "whsec_" not in page
        found = re.search(r"/settings/webhooks/([0-9a-f-]{36})", page)
        assert found
        response = await visit.send(f"/settings/webhooks/{found[1]}/test")
        assert response.headers["location"] == f"/settings/webhooks/{found[1]}?done=test"
        assert "No deliveries yet" in await visit.see(response.headers["location"])
        assert app.state.context.deliveries.claim("test", 5, 1) == [found[1]]
        assert (await visit.send(f"/settings/webhooks/{found[1]}/replay", log_id="1-1")).status_code == 404
        await visit.send(f"/settings/webhooks/{found[1]}/delete")
        assert "127.0.0.1:9" not in await visit.see("/settings")
    assert (await acme.send("/settings/webhooks", name="mine", url="http://127.0.0.1/")).status_code == 422


async def test_key_should_be_shown_once_and_revoked_by_its_own_organization(
    acme: Visit, other: Visit, settings: Settings, app: Starlette
) -> None:
    made = await acme.send("/settings/keys", name=HOSTILE)
    place = made.headers["location"]
    found = re.search(r"farm_[\w-]{43}", await acme.see(place))
    assert found
    (key,) = [key for key in list_api_keys(settings) if not key.from_settings]
    assert (key.organization_id, key.name) == ("acme", HOSTILE)
    page = await acme.see("/settings")
    assert found[0] not in page
    assert key.id in page
    assert key.hash not in page
    assert key.id not in await other.see("/settings")
    assert (await other.send("/settings/keys/revoke", key_id=key.id)).status_code == 404
    assert found[0] in await acme.see(place)  # a reload makes no second key
    assert len([key for key in list_api_keys(settings) if not key.from_settings]) == 1
    await other.see(place, 404)
    async with visit_of(app, "acme", found[0]) as visit:
        await visit.see(place, 404)
        assert "Revoking it logs you out" in await visit.see("/settings")
        await acme.send("/settings/keys/revoke", key_id=key.id)
        assert (await visit.client.get("/")).status_code == 303


async def test_new_secret_should_be_gone_once_it_is_saved(acme: Visit, redis_client: redis.Redis) -> None:
    place = (await acme.send("/settings/keys", name="billing")).headers["location"]
    found = re.search(r"farm_[\w-]{43}", await acme.see(place))
    assert found
    (name,) = cast("list[bytes]", redis_client.keys("farm:session-secrets:*"))
    assert 0 < redis_client.ttl(name) <= 600
    (kept,) = cast("list[bytes]", redis_client.hvals(name))
    assert found[0].encode() not in kept
    assert (await acme.send(f"{place}/saved")).headers["location"] == "/settings#keys"
    assert found[0] not in await acme.see(place, 404)


async def test_logout_should_drop_new_secrets(acme: Visit, redis_client: redis.Redis) -> None:
    await acme.send("/settings/keys", name="billing")
    await acme.send("/logout")
    assert redis_client.keys("farm:session*") == []


async def test_revoking_the_key_of_the_session_should_lead_to_the_login(
    settings: Settings, app: Starlette
) -> None:
    made = create_api_key(settings, "lonely", "the only one")
    async with visit_of(app, "lonely", made.text) as visit:
        page = await visit.see("/settings")
        assert "Revoking it logs you out" in page
        assert "last key of lonely" in page
        revoked = await visit.send("/settings/keys/revoke", key_id=made.key.id)
        assert "Key revoked." in await visit.see(revoked.headers["location"])


async def test_last_key_should_be_named_only_where_it_is_the_last(acme: Visit, settings: Settings) -> None:
    create_api_key(settings, "acme", "another")
    assert "last key of acme" not in await acme.see("/settings")


async def test_settings_should_say_how_long_files_are_kept(settings: Settings) -> None:
    for retention, said in (
        (604800, "<strong>7 days</strong>"),
        (3600, "<strong>1 hour</strong>"),
        (0, "keeps"),
    ):
        app = create_app(settings.model_copy(update={"retention": retention}))
        async with app.router.lifespan_context(app), visit_of(app, "acme", "acme-key") as visit:
            assert said in await visit.see("/settings")


async def test_webhook_should_be_edited_disabled_and_given_a_new_secret(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"allow_private_addresses": "all"}))
    async with app.router.lifespan_context(app), visit_of(app, "acme", "acme-key") as visit:
        made = await visit.send("/settings/webhooks", name="mine", url="http://127.0.0.1:9/hook")
        before = re.search(r"whsec_[^\"]+", await visit.see(made.headers["location"]))
        saved = await visit.send(f"{made.headers['location']}/saved")
        place = saved.headers["location"]
        edited = await visit.send(f"{place}/edit", name="yours", url="http://127.0.0.1:9/other")
        assert edited.headers["location"] == f"{place}?done=saved"
        page = await visit.see(place)
        assert "yours" in page
        assert "http://127.0.0.1:9/other" in page
        assert "This webhook is disabled" in page
        await visit.send(f"{place}/edit", name="yours", url="http://127.0.0.1:9/other", enabled="on")
        assert "This webhook is disabled" not in await visit.see(place)
        box = r'name="uploads" checked'
        assert box not in await visit.see(place)
        await visit.send(f"{place}/edit", name="yours", url="http://127.0.0.1:9/other", uploads="on")
        assert box in await visit.see(place)
        await visit.send(f"{place}/edit", name="yours", url="http://127.0.0.1:9/other", enabled="on")
        assert box not in await visit.see(place)
        assert (await visit.send(f"{place}/edit", name="", url="x")).status_code == 422
        rotated = await visit.send(f"{place}/secret")
        after = re.search(r"whsec_[^\"]+", await visit.see(rotated.headers["location"]))
        assert before
        assert after
        assert before[0] != after[0]


async def test_log_should_say_when_the_next_try_comes(acme: Visit, app: Starlette) -> None:
    webhook = app.state.context.webhooks.create(
        "acme", name="mine", url="https://example.com/", events=(STATUS_UPDATE,), enabled=True
    )
    attempt = Attempt(
        delivery_id="1",
        recording_id=uuid4(),
        number=1,
        time=now(),
        duration_ms=2,
        outcome=AttemptOutcome.RETRYING,
        status_code=500,
        answer="",
        error=None,
        next_attempt=datetime(2026, 1, 15, 9, 0, 5, tzinfo=UTC),
        replay_of=None,
        body=json.dumps({"event": STATUS_UPDATE, "recording": {"status": "RECORDING"}}),
    )
    app.state.context.redis.xadd(log_key("acme", webhook.id), {"attempt": attempt.model_dump_json()})
    page = " ".join(re.sub(r"<[^>]+>", " ", await acme.see(f"/settings/webhooks/{webhook.id}")).split())
    assert "failed 500 after 2 ms, next try 15 Jan 2026, 09:00" in page
    assert "in 2 ms" not in page


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
        assert "headers, passwords or cookies are set for the current page" in refused.text
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
