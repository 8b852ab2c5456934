"""The settings of an organization: its webhooks, keys and defaults."""

import re

from starlette.applications import Starlette

from recording_farm.api.app import create_app
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.api_keys import list_api_keys
from testkit.api.portal import HOSTILE, Visit, visit_of


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


async def test_key_should_be_shown_once_and_revoked_by_its_own_organization(
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
