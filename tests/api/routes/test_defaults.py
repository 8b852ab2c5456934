import json
from typing import Any
from uuid import UUID

import httpx
import pytest
import redis

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.pages.access import PAGE_ACCESS, open_access
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.targets import open_target
from recording_farm.farm.storage.targets import with_secrets
from testkit.api.client import OTHER, client_of
from testkit.farm import Farm
from testkit.settings import settings_with

ORGANIZATION = "/v2/recording_config"
MEETING = "/v2/meetings/demo/recording_config"
CLOUDFLARE = "/client/v4/accounts/any/realtime/kit/app"
PAGE = "http://8.8.8.8/meeting"
"""A public address that needs no resolver; nothing is sent there, because no worker runs."""

EVERYTHING = {
    "url": PAGE,
    "max_seconds": 61,
    "file_name_prefix": "Physics_9am",
    "page_contract": "console",
    "locale": "pt-BR",
    "timezone": "America/Sao_Paulo",
    "video_config": {"codec": "VP8", "width": 720, "height": 1280, "export_file": True},
    "audio_config": {"codec": "AAC", "channel": "stereo", "export_file": True},
    "dyte_bucket_config": {"enabled": True},
    "realtimekit_bucket_config": {"enabled": True},
}


async def put(client: httpx.AsyncClient, path: str, config: Any) -> Any:
    return await answer(client, "PUT", path, json=config)


async def answer(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> Any:
    response = await client.request(method, path, **options)
    assert response.status_code == 200, response.text
    assert response.json()["success"] is True
    return response.json()["data"]


async def start(client: httpx.AsyncClient, **fields: Any) -> Any:
    body = {"meeting_id": "demo", "allow_multiple_recordings": True} | fields
    return await answer(client, "POST", "/v2/recordings", json=body)


def assert_refused(response: httpx.Response, text: str) -> None:
    assert response.status_code == 422, response.text
    assert text in response.json()["error"]["message"]


STORAGE = {
    "type": "s3", "bucket": "films", "access_key": "key", "secret": "s3cret", "endpoint": "https://8.8.8.8"
}  # fmt: skip


@pytest.mark.parametrize("path", [ORGANIZATION, MEETING])
@pytest.mark.parametrize("config", [{}, {"max_seconds": 61}, {"video_config": {"width": 640}}, EVERYTHING])
async def test_config_should_be_shown_as_it_was_set(
    client: httpx.AsyncClient, path: str, config: dict[str, Any]
) -> None:
    assert await answer(client, "GET", path) == {}
    assert await put(client, path, {"file_name_prefix": "replaced"}) == {"file_name_prefix": "replaced"}
    assert await put(client, path, config) == config
    assert await answer(client, "GET", path) == config
    assert await answer(client, "GET", CLOUDFLARE + path.removeprefix("/v2")) == config
    # What is shown can be set again, and an answer with every field, null where nothing is set, too.
    nulls = dict.fromkeys(
        ["url", "max_seconds", "file_name_prefix", "storage_config", "live_streaming_config"]
    )
    assert await put(client, path, nulls | config) == config
    assert await answer(client, "DELETE", path) == {}
    assert await answer(client, "DELETE", path) == {}
    assert await answer(client, "GET", path) == {}


async def test_configs_should_be_apart(client: httpx.AsyncClient) -> None:
    await put(client, ORGANIZATION, {"max_seconds": 1})
    await put(client, MEETING, {"max_seconds": 2})
    assert await answer(client, "GET", ORGANIZATION) == {"max_seconds": 1}
    assert await answer(client, "GET", "/v2/meetings/another/recording_config") == {}
    for path in (ORGANIZATION, MEETING):
        assert await answer(client, "GET", path, auth=OTHER) == {}
        assert await answer(client, "DELETE", path, auth=OTHER) == {}
        assert await answer(client, "GET", path) != {}


@pytest.mark.parametrize("meeting_id", ["a b", "a/b", "/recording_config", "Ünïcode 会議", "x" * 128])
async def test_meeting_should_be_any_printable_text(client: httpx.AsyncClient, meeting_id: str) -> None:
    path = f"/v2/meetings/{meeting_id}/recording_config"
    await put(client, path, {"max_seconds": 61})
    assert await answer(client, "GET", path) == {"max_seconds": 61}
    assert (await start(client, meeting_id=meeting_id))["max_seconds"] == 61
    assert (await start(client, meeting_id="other"))["max_seconds"] == 86400


@pytest.mark.parametrize("meeting_id", ["", "x" * 129, "a%09b", "%20", "%2E%2E"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_what_is_no_meeting_should_be_refused(
    client: httpx.AsyncClient, redis_client: redis.Redis, method: str, meeting_id: str
) -> None:
    url = f"http://farm.test/v2/meetings/{meeting_id}/recording_config"
    assert_refused(await client.request(method, url, content=b"{}"), '"meeting_id"')
    assert redis_client.keys("farm:recording_configs:*") == []


@pytest.mark.parametrize("path", [ORGANIZATION, MEETING])
@pytest.mark.parametrize(
    ("config", "field"),
    [
        ([], "body"),
        (None, "body"),
        ({"meeting_id": "demo"}, "meeting_id"),
        ({"allow_multiple_recordings": True}, "allow_multiple_recordings"),
        ({"rtmp_out_config": {"rtmp_url": "rtmp://a.example/b"}}, "rtmp_out_config"),
        ({"live_streaming_config": {"rtmp_url": "rtmp://a.example/b"}}, "live_streaming_config.rtmp_url"),
        (
            {"live_streaming_config": {"rtmp_url": "rtmp://127.0.0.1/a/b"}},
            "live_streaming_config.rtmp_url",
        ),
        ({"storage_config": {"type": "aws", "secret": "s3cret"}}, "storage_config.access_key"),
        ({"storage_config": {"type": "preset", "name": "unknown"}}, "storage_config"),
        ({"storage_config": STORAGE | {"endpoint": "http://127.0.0.1:9"}}, "storage_config"),
        ({"video_config": {"watermark": {"url": "http://127.0.0.1/a.png"}}}, "video_config.watermark.url"),
        ({"video_config": {"watermark": {"size": {"width": 20}}}}, "video_config.watermark.url"),
        ({"video_config": {"width": 641}}, "video_config.width"),
        ({"video_config": {"width": "640"}}, "video_config.width"),
        ({"video_config": []}, "video_config"),
        ({"audio_config": {"codec": "Vorbis"}}, "audio_config.codec"),
        ({"dyte_bucket_config": {"enabled": "no"}}, "dyte_bucket_config.enabled"),
        ({"max_seconds": 0}, "max_seconds"),
        ({"max_seconds": 86401}, "max_seconds"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "http://169.254.169.254/"}, "url"),
        ({"url": ""}, "url"),
        ({"color": "red"}, "color"),
    ],
)
async def test_bad_field_should_be_refused_as_on_start(
    client: httpx.AsyncClient, redis_client: redis.Redis, path: str, config: Any, field: str
) -> None:
    response = await client.put(path, content=json.dumps(config))
    assert_refused(response, f'"{field}"')
    assert "s3cret" not in response.text
    assert redis_client.keys("farm:recording_configs:*") == []


async def test_start_should_take_what_it_leaves_out_from_the_meeting_then_the_organization(
    client: httpx.AsyncClient, farm: Farm
) -> None:
    await put(
        client,
        ORGANIZATION,
        {"max_seconds": 100, "url": PAGE, "video_config": {"codec": "VP8", "width": 640, "height": 480}},
    )
    await put(client, MEETING, {"max_seconds": 200, "video_config": {"width": 320}, "page_contract": "plain"})

    recording = farm.opened(farm.records.get("acme", (await start(client))["id"]))
    assert (recording.max_seconds, recording.url, recording.page_contract) == (200, PAGE, "plain")
    assert (recording.codec, recording.width, recording.height) == ("VP8", 320, 480)
    assert recording.output_file_name.endswith(".webm")

    data = await start(
        client, max_seconds=300, video_config={"height": 240}, file_name_prefix="mine", url=None
    )
    recording = farm.opened(farm.records.get("acme", data["id"]))
    assert (recording.max_seconds, recording.url, recording.file_name_prefix) == (300, PAGE, "mine")
    assert (recording.codec, recording.width, recording.height) == ("VP8", 320, 240)

    # What is sent holds, even if it is what would be built in.
    data = await start(client, video_config={"codec": "H264", "width": 1280}, page_contract="auto")
    recording = farm.records.get("acme", data["id"])
    assert (recording.codec, recording.width, recording.height) == ("H264", 1280, 480)
    assert recording.page_contract == "auto"

    elsewhere = farm.records.get("acme", (await start(client, meeting_id="elsewhere"))["id"])
    assert (elsewhere.max_seconds, elsewhere.width, elsewhere.page_contract) == (100, 640, "auto")

    foreign = await client.post("/v2/recordings", json={"meeting_id": "demo"}, auth=OTHER)
    recording = farm.records.get("other", foreign.json()["data"]["id"])
    assert (recording.max_seconds, recording.codec, recording.width) == (86400, "H264", 1280)


async def test_defaults_taken_away_should_hold_no_more(client: httpx.AsyncClient) -> None:
    await put(client, ORGANIZATION, {"max_seconds": 100})
    await put(client, MEETING, {"max_seconds": 200})
    assert (await start(client))["max_seconds"] == 200
    await answer(client, "DELETE", MEETING)
    assert (await start(client))["max_seconds"] == 100
    await answer(client, "DELETE", ORGANIZATION)
    assert (await start(client))["max_seconds"] == 86400


async def test_longer_defaults_than_the_farm_records_should_be_refused(
    settings: Settings, client: httpx.AsyncClient
) -> None:
    await put(client, ORGANIZATION, {"max_seconds": 100})
    # The farm has been started again since.
    async with client_of(settings_with(settings.data_dir, settings.redis_url, max_seconds="60")) as short:
        response = await short.post("/v2/recordings", json={"meeting_id": "demo"})
        assert_refused(
            response,
            '"max_seconds" in the defaults (recording_config): must be at most 60 (FARM_MAX_SECONDS)',
        )
        assert_refused(
            await short.put(ORGANIZATION, json={"max_seconds": 61}), '"max_seconds": must be at most 60'
        )
        assert (await start(short, max_seconds=60))["max_seconds"] == 60


async def test_page_in_the_defaults_should_be_checked_when_it_is_opened(
    settings: Settings, client: httpx.AsyncClient
) -> None:
    open_settings = settings_with(settings.data_dir, settings.redis_url, allow_private_addresses="all")
    async with client_of(open_settings) as anything:
        await put(anything, MEETING, {"url": "http://10.0.0.1/"})
    response = await client.post("/v2/recordings", json={"meeting_id": "demo"})
    assert_refused(response, '"url" in the defaults (recording_config)')
    assert (await start(client, url=PAGE))["url"] == PAGE


async def test_defaults_that_the_farm_does_not_know_any_more_should_be_refused(
    client: httpx.AsyncClient, redis_client: redis.Redis
) -> None:
    redis_client.hset("farm:recording_configs:acme", "", json.dumps({"video_config": {"depth": 3}}))
    response = await client.post("/v2/recordings", json={"meeting_id": "demo"})
    assert_refused(response, 'recording_config: "video_config.depth"')


async def test_idempotency_should_be_of_what_the_client_sent(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "once"}
    body = {"meeting_id": "demo"}
    await put(client, ORGANIZATION, {"max_seconds": 100})
    first = await answer(client, "POST", "/v2/recordings", json=body, headers=key)
    await put(client, ORGANIZATION, {"max_seconds": 200})
    again = await answer(client, "POST", "/v2/recordings", json=body, headers=key)
    assert (again["id"], again["max_seconds"]) == (first["id"], 100)
    with_null = body | {"url": None}
    assert (await answer(client, "POST", "/v2/recordings", json=with_null, headers=key))["id"] == first["id"]
    # Sent or come of the defaults, it is the same recording, but not the same request.
    other = await client.post("/v2/recordings", json=body | {"max_seconds": 100}, headers=key)
    assert_refused(other, "Idempotency-Key")


async def test_config_should_need_a_key(client: httpx.AsyncClient) -> None:
    for path in (ORGANIZATION, MEETING):
        for method in ("GET", "PUT", "DELETE"):
            assert (await client.request(method, path, auth=("acme", "wrong"))).status_code == 401


@pytest.mark.parametrize("path", [ORGANIZATION, MEETING])
async def test_storage_should_be_shown_without_its_keys_and_used_with_them(
    client: httpx.AsyncClient, farm: Farm, path: str
) -> None:
    shown = {name: STORAGE[name] for name in ("type", "bucket", "endpoint")}
    assert await put(client, path, {"storage_config": STORAGE}) == {"storage_config": shown}
    assert await answer(client, "GET", path) == {"storage_config": shown}
    assert not any(b"s3cret" in value for value in farm.redis.hvals("farm:recording_configs:acme"))
    recording = await start(client)
    assert recording["storage_config"] == shown
    assert [transfer["target"] for transfer in recording["transfers"]] == ["store", "s3"]
    sealed = Records(farm.redis).sealed_target(recording["id"], "s3")
    assert sealed is not None
    opened = open_target(Sealer(load_secret_key(farm.settings)), UUID(recording["id"]), "s3", sealed)
    assert with_secrets(opened)["secret"] == "s3cret"


async def test_stronger_storage_should_replace_the_weaker_one_whole(client: httpx.AsyncClient) -> None:
    await put(client, ORGANIZATION, {"storage_config": STORAGE | {"path": "a/b"}})
    other = STORAGE | {"bucket": "other", "secret": "another"}
    recording = await start(client, storage_config=other)
    assert recording["storage_config"] == {
        "type": "s3", "bucket": "other", "endpoint": "https://8.8.8.8"
    }  # fmt: skip


async def test_preset_should_be_the_default_when_the_organization_names_it(client: httpx.AsyncClient) -> None:
    response = await client.put("/v2/storage/presets/archive", json={"storage_config": STORAGE})
    assert response.status_code == 200
    preset = {"type": "preset", "name": "archive"}
    assert await put(client, ORGANIZATION, {"storage_config": preset}) == {"storage_config": preset}
    assert (await start(client))["storage_config"]["bucket"] == "films"
    assert (await client.delete("/v2/storage/presets/archive")).status_code == 200
    response = await client.post("/v2/recordings", json={"meeting_id": "later"})
    assert response.status_code == 422
    assert "in the defaults" in response.json()["error"]["message"]


async def test_language_and_zone_should_come_of_request_meeting_organization_and_farm(
    settings: Settings,
) -> None:
    farm = {"locale": "fr-CA", "timezone": "America/Toronto"}
    async with client_of(settings_with(settings.data_dir, settings.redis_url, **farm)) as client:

        async def around(**fields: Any) -> tuple[str, str]:
            data = await start(client, **fields)
            return data["locale"], data["timezone"]

        assert await around() == ("fr-CA", "America/Toronto")
        await put(client, ORGANIZATION, {"locale": "ja", "timezone": "Asia/Tokyo"})
        assert await around() == ("ja", "Asia/Tokyo")
        await put(client, MEETING, {"locale": "de"})
        assert await around() == ("de", "Asia/Tokyo")
        assert await around(timezone="UTC") == ("de", "UTC")


ACCESS = {
    "http_credentials": [{"username": "recorder", "password": "s3cret-1", "origin": "https://sso.example"}],
    "headers": {"x-key": "s3cret-2"},
    "cookies": [{"name": "session", "value": "s3cret-3"}],
}
HIDDEN = {
    "http_credentials": [{"origin": "https://sso.example"}],
    "headers": {"x-key": None},
    "cookies": [{"name": "session"}],
}


async def test_what_opens_a_page_should_be_sealed_and_shown_to_nobody(
    client: httpx.AsyncClient, farm: Farm
) -> None:
    assert await put(client, ORGANIZATION, ACCESS | {"url": PAGE}) == HIDDEN | {"url": PAGE}
    assert await answer(client, "GET", ORGANIZATION) == HIDDEN | {"url": PAGE}
    # What is shown is not enough to set it again.
    for name, value in HIDDEN.items():
        assert_refused(await client.put(ORGANIZATION, json={name: value}), f'"{name}.')
    recording = await start(
        client, headers={"X-Room": "s3cret-4"}, cookies=[{"name": "a", "value": "s3cret-5"}]
    )
    shown = await answer(client, "GET", f"/v2/recordings/{recording['id']}")
    assert not recording.keys() & ACCESS.keys()
    assert "s3cret" not in json.dumps([recording, shown])
    for key in farm.redis.scan_iter():
        assert b"s3cret" not in (farm.redis.dump(key) or b"")
    sealed = Records(farm.redis).sealed_target(recording["id"], PAGE_ACCESS)
    assert sealed is not None
    given = open_access(Sealer(load_secret_key(farm.settings)), UUID(recording["id"]), sealed).to_site
    assert given.headers == {"x-key": "s3cret-2", "x-room": "s3cret-4"}
    assert [each.password for each in given.credentials] == ["s3cret-1"]
    # A list is taken whole.
    assert [(cookie.name, cookie.value) for cookie in given.cookies] == [("a", "s3cret-5")]


@pytest.mark.parametrize("path", [ORGANIZATION, MEETING])
async def test_default_access_should_go_to_the_origin_of_the_default_page_alone(
    client: httpx.AsyncClient, farm: Farm, path: str
) -> None:
    sso = {"username": "sso", "password": "b", "origin": "https://sso.example"}
    cookies = [{"name": "own", "value": "c"}, {"name": "theirs", "value": "d", "domain": "example.com"}]
    access = {
        "headers": {"x-key": "a"},
        "http_credentials": [{"username": "own", "password": "b"}, sso],
        "cookies": cookies,
    }

    async def given(**fields: Any) -> tuple[list[str], list[str], list[str]]:
        recording = await start(client, **fields)
        sealed = Records(farm.redis).sealed_target(recording["id"], PAGE_ACCESS)
        assert sealed is not None
        to_site = open_access(Sealer(load_secret_key(farm.settings)), UUID(recording["id"]), sealed).to_site
        return (
            list(to_site.headers),
            [each.username for each in to_site.credentials],
            [each.name for each in to_site.cookies],
        )

    await put(client, path, access | {"url": PAGE})
    everything = ["x-key"], ["own", "sso"], ["own", "theirs"]
    elsewhere: Any = [], ["sso"], ["theirs"]
    assert await given() == everything
    assert await given(url="http://8.8.8.8:80/another?room=1") == everything
    for url in ("http://8.8.4.4/meeting", "https://8.8.8.8/meeting", "http://8.8.8.8:81/meeting"):
        assert await given(url=url) == elsewhere
        assert await given(url=url, headers={"x-own": "e"}) == (["x-own"], ["sso"], ["theirs"])
    # Neither do other defaults with another page get it.
    if path == ORGANIZATION:
        await put(client, MEETING, {"url": "http://8.8.4.4/meeting"})
        assert await given() == elsewhere


@pytest.mark.parametrize(
    "config",
    [
        {"headers": {"x-key": "a"}},
        {"http_credentials": [{"username": "a", "password": "b"}]},
        {"cookies": [{"name": "a", "value": "b"}]},
    ],
)
async def test_default_access_should_name_its_page(
    client: httpx.AsyncClient, settings: Settings, config: dict[str, Any]
) -> None:
    assert_refused(await client.put(ORGANIZATION, json=config), '"url": is required with headers')
    await put(client, ORGANIZATION, config | {"url": PAGE})
    # The page of the whole farm is one, too.
    of_the_farm = {"meeting_url": "https://8.8.8.8/{meeting_id}"}
    async with client_of(settings_with(settings.data_dir, settings.redis_url, **of_the_farm)) as other:
        await put(other, ORGANIZATION, config)
