import pytest
import redis

from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.recording.defaults import Config, Defaults, RecordingConfigs, combine


@pytest.mark.parametrize(
    ("organization", "meeting", "start", "combined"),
    [
        ({}, {}, {}, {}),
        ({"max_seconds": 1}, {}, {}, {"max_seconds": 1}),
        ({"max_seconds": 1}, {"max_seconds": 2}, {}, {"max_seconds": 2}),
        ({"max_seconds": 1}, {"max_seconds": 2}, {"max_seconds": 3}, {"max_seconds": 3}),
        ({"max_seconds": 1}, {}, {"max_seconds": 3}, {"max_seconds": 3}),
        # Storage is taken whole.
        (
            {"storage_config": {"type": "s3", "secret": "a", "path": "b"}},
            {"storage_config": {"type": "aws", "secret": "c"}},
            {},
            {"storage_config": {"type": "aws", "secret": "c"}},
        ),
        # Field by field.
        (
            {"max_seconds": 1},
            {"url": "a"},
            {"file_name_prefix": "b"},
            {"max_seconds": 1, "url": "a", "file_name_prefix": "b"},
        ),
        # Inside of objects too, however deep.
        (
            {"video_config": {"codec": "VP8", "width": 640}},
            {"video_config": {"width": 320}},
            {"video_config": {"height": 240}},
            {"video_config": {"codec": "VP8", "width": 320, "height": 240}},
        ),
        (
            {"video_config": {"watermark": {"url": "a", "size": {"width": 1}}}},
            {},
            {"video_config": {"watermark": {"size": {"height": 2}}}},
            {"video_config": {"watermark": {"url": "a", "size": {"width": 1, "height": 2}}}},
        ),
        ({"video_config": {"width": 640}}, {"video_config": {}}, {}, {"video_config": {"width": 640}}),
        ({}, {}, {"video_config": {}}, {"video_config": {}}),
        # None is not set, at any depth and on any level.
        ({"max_seconds": 1}, {"max_seconds": None}, {"max_seconds": None}, {"max_seconds": 1}),
        ({"max_seconds": None}, {}, {}, {}),
        ({"video_config": {"width": 640}}, {"video_config": None}, {}, {"video_config": {"width": 640}}),
        (
            {"video_config": {"width": 640}},
            {},
            {"video_config": {"width": None}},
            {"video_config": {"width": 640}},
        ),
        ({}, {}, {"video_config": {"width": None}}, {"video_config": {}}),
        # What is false or nothing is set.
        (
            {"video_config": {"export_file": True}},
            {},
            {"video_config": {"export_file": False}},
            {"video_config": {"export_file": False}},
        ),
        ({"max_seconds": 1}, {"max_seconds": 0}, {}, {"max_seconds": 0}),
        # Lists are taken whole, and so is whatever is not an object on both sides.
        ({"layers": [1, 2]}, {"layers": [3]}, {}, {"layers": [3]}),
        ({"a": 1}, {"a": {"b": 2}}, {}, {"a": {"b": 2}}),
        ({"a": {"b": 2}}, {"a": 1}, {}, {"a": 1}),
        # Two names of one thing are one field.
        (
            {"live_streaming_config": {"rtmp_url": "a"}},
            {},
            {"rtmp_out_config": {"rtmp_url": "b"}},
            {"rtmp_out_config": {"rtmp_url": "b"}},
        ),
        ({"live_streaming_config": {"rtmp_url": "a"}}, {}, {}, {"rtmp_out_config": {"rtmp_url": "a"}}),
        (
            {"realtimekit_bucket_config": {"enabled": False}},
            {"dyte_bucket_config": {"enabled": True}},
            {},
            {"realtimekit_bucket_config": {"enabled": True}},
        ),
        (
            {"dyte_bucket_config": {"enabled": True}},
            {},
            {"realtimekit_bucket_config": {"enabled": False}},
            {"realtimekit_bucket_config": {"enabled": False}},
        ),
    ],
)
def test_the_stronger_config_should_win_field_by_field(
    organization: Config, meeting: Config, start: Config, combined: Config
) -> None:
    given = repr((organization, meeting, start))
    assert combine(organization, meeting, start) == combined
    assert repr((organization, meeting, start)) == given


def test_defaults_should_be_kept_for_each_organization_and_meeting(redis_client: redis.Redis) -> None:
    configs = RecordingConfigs(redis_client, Sealer(b"secret"))
    configs.put("acme", None, {"max_seconds": 1})
    configs.put("acme", "demo", {"url": "https://ä.example", "video_config": {"width": 640}})
    configs.put("acme", "other", {"max_seconds": 2})
    configs.put("other", "demo", {"max_seconds": 3})
    demo: Config = {"url": "https://ä.example", "video_config": {"width": 640}}
    assert configs.defaults("acme", "demo") == Defaults({"max_seconds": 1}, demo)
    assert configs.defaults("acme", "unknown") == Defaults({"max_seconds": 1}, {})
    assert configs.defaults("nobody", "demo") == Defaults({}, {})
    assert configs.get("acme", None) == {"max_seconds": 1}
    assert configs.get("acme", "demo") == demo
    assert configs.get("other", None) == {}


def test_defaults_should_be_replaced_as_a_whole_and_taken_away(redis_client: redis.Redis) -> None:
    configs = RecordingConfigs(redis_client, Sealer(b"secret"))
    for meeting_id in (None, "demo"):
        configs.put("acme", meeting_id, {"max_seconds": 1})
        configs.put("acme", meeting_id, {"url": "a"})
        assert configs.get("acme", meeting_id) == {"url": "a"}
    configs.delete("acme", "demo")
    configs.delete("acme", "demo")
    assert configs.defaults("acme", "demo") == Defaults({"url": "a"}, {})
    configs.delete("acme", None)
    assert redis_client.keys() == []
