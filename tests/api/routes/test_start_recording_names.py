"""Starts with names that nobody answers for."""

import httpx
import pytest

from recording_farm.browser_bot.network import addresses
from recording_farm.browser_bot.network.dns import DnsAnswer
from testkit.api.client import assert_error

OUT = "rtmp://slow.example/live/key"


async def test_name_that_is_not_resolved_in_time_should_not_start_anything(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_up(*_: object) -> DnsAnswer:
        return DnsAnswer()

    monkeypatch.setattr(addresses, "look_up", look_up)
    url = "http://slow.example/"
    s3 = {"type": "s3", "access_key": "a", "secret": "b", "bucket": "films", "endpoint": url}
    mark = {"url": url, "size": {"width": 10}}
    requests: list[tuple[str, dict[str, object], str]] = [
        ("/v2/recordings", {"meeting_id": "m", "url": url}, '"url"'),
        ("/v2/recordings", {"meeting_id": "m", "webhooks": [url]}, '"webhooks.0"'),
        ("/v2/recordings", {"meeting_id": "m", "storage_config": s3}, '"storage_config"'),
        (
            "/v2/recordings",
            {"meeting_id": "m", "video_config": {"watermark": mark}},
            '"video_config.watermark"',
        ),
        ("/v2/recordings", {"meeting_id": "m", "outputs": [{"url": OUT}]}, '"outputs.0"'),
        ("/v2/webhooks", {"name": "w", "url": url, "events": ["recording.statusUpdate"]}, '"url"'),
    ]
    for path, body, field in requests:
        refused = await client.post(path, json=body)
        assert_error(refused, 503, f"{field}: ")
        assert (refused.json()["error"]["type"], refused.headers["Retry-After"]) == ("name_not_resolved", "5")
    assert (await client.get("/v2/recordings")).json()["data"] == []
