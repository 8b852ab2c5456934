"""POST /recordings: what a start takes, refuses and leaves behind."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import redis

from recording_farm.api.routes import start_recording as module
from recording_farm.api.schema.requests import AudioConfig, StartRecording, VideoConfig
from recording_farm.farm.clock import now
from recording_farm.farm.queues.recordings import recordings_queue
from recording_farm.farm.recording.model import (
    Recording,
    Status,
)
from recording_farm.farm.recording.records import Records
from testkit.api.client import assert_error, client_of, start
from testkit.farm import Farm
from testkit.settings import settings_with

PAGE = "http://8.8.8.8/meeting"
"""A public address that needs no resolver; nothing is sent there, because no worker runs."""


MARK = "http://8.8.8.8/mark.png"
OUT = "rtmp://8.8.8.8/live/key"


async def test_start_should_need_nothing_but_a_meeting(client: httpx.AsyncClient, farm: Farm) -> None:
    before = now()
    response = await client.post("/v2/recordings", json={"meeting_id": "demo"})
    body = response.json()
    assert (response.status_code, body["success"]) == (200, True)
    data = body["data"]
    assert UUID(data["id"]).version == 4
    assert data["status"] == "INVOKED"
    assert datetime.fromisoformat(data["invoked_time"]).timestamp() == pytest.approx(
        before.timestamp(), abs=5
    )
    nulls = ["session_id", "download_url", "download_url_expiry", "audio_download_url", "file_size"]
    nulls += ["started_time", "stopped_time", "error"]
    assert {name: data[name] for name in nulls} == dict.fromkeys(nulls)
    # In the types of the recording API's clients these may be missing, and not be null.
    assert not data.keys() & {"storage_config", "stop_reason", "recording_duration"}
    assert data["start_reason"] == {
        "reason": "API_CALL",
        "caller": {"type": "ORGANIZATION", "user_Id": "acme", "name": "acme"},
    }
    assert data["output_file_name"].startswith("demo_")
    assert data["output_file_name"].endswith(".mp4")
    recording = farm.opened(farm.records.get("acme", data["id"]))
    assert recording.url == f"http://127.0.0.1:{farm.settings.port}/meet/demo"
    assert (recording.codec, recording.width, recording.height, recording.fps) == ("H264", 1280, 720, 30)
    assert recording.max_seconds == 86400
    assert [tuple(job.args) for job in recordings_queue(farm.redis, "acme").jobs] == [(data["id"],)]


async def test_start_should_take_every_field_that_is_built(client: httpx.AsyncClient, farm: Farm) -> None:
    data = await start(
        client,
        meeting_id="97440c6a-140b-40a9-9499-b23fd7a3868a",
        url=PAGE,
        max_seconds=61,
        file_name_prefix="Physics_9am",
        page_contract="console",
        locale="de-at",
        timezone="Europe/Vienna",
        allow_multiple_recordings=True,
        video_config={"codec": "VP8", "width": 720, "height": 1280, "export_file": True},
        audio_config={"codec": "AAC", "channel": "stereo", "export_file": True},
        dyte_bucket_config={"enabled": True},
        realtimekit_bucket_config={"enabled": True},
        storage_config=None,
    )
    assert data["output_file_name"].startswith("Physics_9am_97440c6a-140b-40a9-9499-b23fd7a3868a_")
    assert data["output_file_name"].endswith(".webm")
    assert data["video_config"] == {
        "codec": "VP8",
        "width": 720,
        "height": 1280,
        "fps": 30,
        "profile": "mixed",
        "watermark": None,
    }
    recording = farm.opened(farm.records.get(None, data["id"]))
    assert (recording.url, recording.max_seconds, recording.page_contract) == (PAGE, 61, "console")
    assert (data["locale"], data["timezone"]) == ("de-AT", "Europe/Vienna")
    assert (recording.locale, recording.timezone) == ("de-AT", "Europe/Vienna")


async def test_null_should_be_the_same_as_not_set(client: httpx.AsyncClient) -> None:
    nulls = dict.fromkeys(StartRecording.model_fields.keys() - {"meeting_id"})
    data = await start(client, **nulls)
    assert data["video_config"] == {
        "codec": "H264",
        "width": 1280,
        "height": 720,
        "fps": 30,
        "profile": "mixed",
        "watermark": None,
    }
    default = {"video_config": {"codec": "VP8", "width": 640}}
    assert (await client.put("/v2/recording_config", json=default)).status_code == 200
    data = await start(
        client,
        meeting_id="b",
        video_config=dict.fromkeys(VideoConfig.model_fields.keys()) | {"width": 320},
        audio_config=dict.fromkeys(AudioConfig.model_fields.keys()),
    )
    assert data["video_config"] == {"codec": "VP8", "width": 320, "height": 720, "fps": 30} | {
        "profile": "mixed",
        "watermark": None,
    }
    response = await client.post("/v2/recordings", json={"meeting_id": "c", "color": None})
    assert_error(response, 422, '"color"')


S3 = {"type": "s3", "bucket": "films", "access_key": "key", "endpoint": "https://8.8.8.8"}


@pytest.mark.parametrize("meeting_id", ["a b", "a/b?c#d", "Ünïcode 会議", "100%", "x" * 128])
async def test_meeting_id_should_be_any_printable_text(
    client: httpx.AsyncClient, farm: Farm, meeting_id: str
) -> None:
    data = await start(client, meeting_id=meeting_id)
    recording = farm.opened(farm.records.get(None, data["id"]))
    assert recording.meeting_id == meeting_id
    assert httpx.URL(recording.url).path == f"/meet/{meeting_id}"
    assert recording.url.count("/") == 4
    path = httpx.URL(f"http://farm.test/v2/recordings/active-recording/{meeting_id.replace('%', '%25')}")
    if "?" not in meeting_id:
        assert (await client.get(path)).json()["data"]["id"] == data["id"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        (None, "body"),
        ("demo", "body"),
        ({}, "meeting_id"),
        ({"meeting_id": None}, "meeting_id"),
        ({"meeting_id": 5}, "meeting_id"),
        ({"meeting_id": ""}, "meeting_id"),
        ({"meeting_id": "  "}, "meeting_id"),
        ({"meeting_id": ".."}, "meeting_id"),
        ({"meeting_id": "a\nb"}, "meeting_id"),
        ({"meeting_id": "a\x00"}, "meeting_id"),
        ({"meeting_id": "x" * 129}, "meeting_id"),
        ({"max_seconds": 0}, "max_seconds"),
        ({"max_seconds": -1}, "max_seconds"),
        ({"max_seconds": 86401}, "max_seconds"),
        ({"max_seconds": "60"}, "max_seconds"),
        ({"max_seconds": 1.5}, "max_seconds"),
        ({"max_seconds": True}, "max_seconds"),
        ({"max_seconds": 10**400}, "max_seconds"),
        ({"file_name_prefix": "../x"}, "file_name_prefix"),
        ({"file_name_prefix": "a b"}, "file_name_prefix"),
        ({"file_name_prefix": "a\n"}, "file_name_prefix"),
        ({"file_name_prefix": "é"}, "file_name_prefix"),
        ({"file_name_prefix": "x" * 65}, "file_name_prefix"),
        ({"url": ""}, "url"),
        ({"url": 5}, "url"),
        ({"url": "http://8.8.8.8/" + "x" * 2048}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "http://127.0.0.1/"}, "url"),
        ({"url": "http://0x7f.1/"}, "url"),
        ({"url": "http://localhost/"}, "url"),
        ({"url": "http://[::ffff:169.254.169.254]/"}, "url"),
        ({"url": "http://127.0.0.1:8000/v2/recordings"}, "url"),
        ({"url": "http://user:pass@8.8.8.8/"}, "url"),
        ({"url": "http://\u0000/"}, "url"),
        ({"page_contract": "tape"}, "page_contract"),
        ({"locale": "en-UK"}, "locale"),
        ({"locale": "de_AT"}, "locale"),
        ({"timezone": "Vienna"}, "timezone"),
        ({"headers": {"Cookie": "s3cret"}}, "headers.Cookie"),
        ({"headers": {"Host": "s3cret"}}, "headers.Host"),
        ({"headers": {"Sec-Fetch-Site": "s3cret"}}, "headers.Sec-Fetch-Site"),
        ({"headers": {"X Y": "s3cret"}}, "headers.X Y"),
        ({"headers": {"X-Key": "s3cret\r\nX: y"}}, "headers.X-Key"),
        ({"headers": {"X-Key": "s3cret", "x-key": "s3cret"}}, "headers"),
        ({"http_credentials": {"username": "a", "password": "s3cret"}}, "http_credentials"),
        ({"http_credentials": [{"password": "s3cret"}]}, "http_credentials.0.username"),
        (
            {"http_credentials": [{"username": "a", "password": "s3cret", "origin": "https://a.example/b"}]},
            "http_credentials.0.origin",
        ),
        ({"cookies": [{"name": "a", "value": "s3cret;"}]}, "cookies.0"),
        ({"cookies": [{"name": "a", "value": "s3cret", "expires": 1}]}, "cookies.0.expires"),
        ({"allow_multiple_recordings": "yes"}, "allow_multiple_recordings"),
        ({"video_config": []}, "video_config"),
        ({"video_config": {"codec": "VP9"}}, "video_config.codec"),
        ({"video_config": {"codec": "h264"}}, "video_config.codec"),
        ({"video_config": {"width": 15}}, "video_config.width"),
        ({"video_config": {"width": 1281}}, "video_config.width"),
        ({"video_config": {"width": 1922}}, "video_config.width"),
        ({"video_config": {"width": "1280"}}, "video_config.width"),
        ({"video_config": {"height": 0}}, "video_config.height"),
        ({"video_config": {"height": -720}}, "video_config.height"),
        ({"video_config": {"height": 721}}, "video_config.height"),
        ({"video_config": {"color": "red"}}, "video_config.color"),
        ({"video_config": {"watermark": {"url": "http://127.0.0.1/a.png"}}}, "video_config.watermark"),
        ({"video_config": {"watermark": {"url": "http://a.invalid/a.png"}}}, "video_config.watermark"),
        (
            {"video_config": {"watermark": {"url": MARK, "size": {"width": 0}}}},
            "video_config.watermark.size.width",
        ),
        (
            {"video_config": {"watermark": {"url": MARK, "position": "middle"}}},
            "video_config.watermark.position",
        ),
        ({"video_config": {"watermark": {"url": MARK}, "export_file": False}}, "video_config.watermark"),
        ({"video_config": {"fps": 14}}, "video_config.fps"),
        ({"video_config": {"fps": 61}}, "video_config.fps"),
        ({"audio_config": {"codec": "Vorbis"}}, "audio_config.codec"),
        ({"audio_config": {"channel": "5.1"}}, "audio_config.channel"),
        ({"audio_config": {"export_file": "no"}}, "audio_config.export_file"),
        (
            {"audio_config": {"export_file": False}, "video_config": {"export_file": False}},
            "audio_config.export_file",
        ),
        ({"dyte_bucket_config": {"enabled": False}}, "realtimekit_bucket_config"),
        ({"dyte_bucket_config": {}}, "dyte_bucket_config.enabled"),
        ({"realtimekit_bucket_config": {"enabled": False}}, "realtimekit_bucket_config"),
        ({"storage_config": {"type": "tape", "secret": "s3cret"}}, "storage_config.type"),
        ({"storage_config": {"type": "aws", "secret": "s3cret"}}, "storage_config.access_key"),
        ({"storage_config": S3 | {"secret": "s3cret", "path": "../up"}}, "storage_config.path"),
        ({"storage_config": S3 | {"secret": "s3cret", "path": "{color}"}}, "storage_config.path"),
        ({"storage_config": S3 | {"secret": "s3cret", "color": "red"}}, "storage_config.color"),
        ({"storage_config": S3 | {"secret": ["s3cret"]}}, "storage_config.secret"),
        ({"storage_config": S3 | {"secret": "s3cret", "endpoint": "http://127.0.0.1:9"}}, "storage_config"),
        ({"storage_config": {"type": "preset", "name": "unknown"}}, "storage_config"),
        ({"rtmp_out_config": {"rtmp_url": "rtmp://a.example/live"}}, "rtmp_out_config.rtmp_url"),
        ({"rtmp_out_config": {"rtmp_url": "rtmp://127.0.0.1/live/key"}}, "rtmp_out_config"),
        ({"outputs": [{"url": "srt://10.0.0.1:9000"}]}, "outputs.0"),
        ({"interactive_config": {"type": "ID4"}}, "interactive_config.type"),
        ({"layout": "grid"}, "layout"),
        ({"auth_token": "token", "page_contract": "plain"}, "auth_token"),
        ({"url": None, "auth_token": "token"}, "auth_token"),
        ({"interactive_config": {"type": "ID3"}, "page_contract": "console"}, "interactive_config"),
        (
            {"rtmp_out_config": {"rtmp_url": OUT}, "live_streaming_config": {"rtmp_url": f"{OUT}2"}},
            "live_streaming_config",
        ),
        (
            {"dyte_bucket_config": {"enabled": True}, "realtimekit_bucket_config": {"enabled": False}},
            "dyte_bucket_config",
        ),
        (
            {
                "rtmp_out_config": {"rtmp_url": OUT},
                "outputs": [{"url": f"{OUT}{number}"} for number in range(10)],
            },
            "outputs",
        ),
        ({"video_config": {"profile": "film"}}, "video_config.profile"),
        ({"color": "red"}, "color"),
    ],
)
async def test_bad_field_should_be_named_and_leave_no_trace(
    client: httpx.AsyncClient, redis_client: redis.Redis, body: Any, field: str
) -> None:
    if isinstance(body, dict) and body and "meeting_id" not in body:
        body = {"meeting_id": "demo"} | body
    response = await client.post("/v2/recordings", content=json.dumps(body))
    assert_error(response, 422, f'"{field}"')
    assert "s3cret" not in response.text
    assert [
        key for key in redis_client.scan_iter() if not key.startswith((b"farm:limits:", b"farm:fingerprints"))
    ] == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"meeting_id=demo",
        b"\xff\xfe",
        b'{"meeting_id": "\\ud800"}',
        b'{"meeting_id": NaN',
        b"[" * 100_000,
    ],
)
async def test_body_that_is_no_json_should_be_malformed(client: httpx.AsyncClient, content: bytes) -> None:
    assert_error(await client.post("/v2/recordings", content=content), 400, "not JSON")


async def test_body_that_is_too_large_should_not_be_read_to_its_end(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100:
            sent += 1
            yield b" " * (1 << 16)

    assert_error(await client.post("/v2/recordings", content=b" " * ((1 << 20) + 1)), 413, "larger than")
    assert_error(await client.post("/v2/recordings", content=endless()), 413, "larger than")
    assert sent < 100


async def test_start_should_respect_the_farm_s_own_limit(redis_address: str, tmp_path: Path) -> None:
    settings = settings_with(tmp_path, redis_address, max_seconds=600)
    async with client_of(settings) as client:
        response = await client.post("/v2/recordings", json={"meeting_id": "demo", "max_seconds": 601})
        assert_error(response, 422, '"max_seconds"')
        assert (await start(client))["max_seconds"] == 600


async def test_private_page_should_be_opened_where_the_operator_allows_it(
    redis_client: redis.Redis, redis_address: str, tmp_path: Path
) -> None:
    settings = settings_with(
        tmp_path,
        redis_address,
        allow_private_addresses="10.0.0.0/8",
        meeting_url="http://10.0.0.7/{meeting_id}",
    )
    async with client_of(settings) as client:
        assert (await start(client))["url"] == "http://10.0.0.7/demo"
        response = await client.post("/v2/recordings", json={"meeting_id": "a", "url": "http://192.168.0.1/"})
        assert_error(response, 422, '"url"')
    assert redis_client.keys("rq:job:*") != []


async def test_page_that_does_not_resolve_should_be_left_to_the_recorder(client: httpx.AsyncClient) -> None:
    await start(client, url="http://does-not-resolve.invalid/")


async def test_second_recording_of_a_meeting_should_conflict(client: httpx.AsyncClient) -> None:
    first = await start(client)
    assert_error(await client.post("/v2/recordings", json={"meeting_id": "demo"}), 409, first["id"])
    second = await start(client, allow_multiple_recordings=True)
    active = await client.get("/v2/recordings/active-recording/demo")
    assert active.json()["data"]["id"] == second["id"]


async def test_exactly_one_of_many_starts_should_succeed(
    client: httpx.AsyncClient, redis_client: redis.Redis
) -> None:
    responses = await asyncio.gather(
        *(client.post("/v2/recordings", json={"meeting_id": "demo"}) for _ in range(50))
    )
    assert sorted(response.status_code for response in responses) == [200] + [409] * 49
    assert len(recordings_queue(redis_client, "acme").jobs) == 1


async def test_recording_that_cannot_be_queued_should_end_at_once(
    client: httpx.AsyncClient, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoked: list[Recording] = []

    def fail(_client: redis.Redis, recording: Recording) -> None:
        invoked.append(recording)
        raise redis.ConnectionError("gone")

    monkeypatch.setattr(module, "enqueue_recording", fail)
    response = await client.post("/v2/recordings", json={"meeting_id": "demo"})
    assert_error(response, 503, str(invoked[0].id))
    assert records.get(None, invoked[0].id).status is Status.ERRORED
    assert_error(await client.get("/v2/recordings/active-recording/demo"), 404, "demo")


async def test_no_url_of_a_recording_should_be_readable_in_redis(
    client: httpx.AsyncClient, redis_client: redis.Redis
) -> None:
    page, hook = f"{PAGE}?key=hunter2", "http://8.8.8.8/hook?key=hunter2"
    data = await start(client, url=page, webhooks=[hook])
    built_in = await start(client, meeting_id="built-in")
    assert data["webhooks"][0]["url"] == hook
    found = (await client.get(f"/v2/recordings/{data['id']}")).json()["data"]
    assert (found["url"], found["webhooks"]) == (page, data["webhooks"])
    for recording_id in (data["id"], built_in["id"]):
        record = str(redis_client.hgetall(f"farm:recording:{recording_id}"))
        assert "status" in record
        for secret in ("hunter2", "#recorder", "meet_", "8.8.8.8"):
            assert secret not in record
    for stream in ("farm:changes", "farm:events:acme"):
        told = str(redis_client.xrange(stream))
        assert data["id"] in told
        assert "hunter2" not in told
        assert "meet_" not in told
