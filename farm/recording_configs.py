"""Defaults for recordings: an organisation's, and those of its meetings, for what a request leaves out.

Key
    farm:recording_configs:{org}   hash: what is set for a meeting, by the meeting's id, as JSON; for all the
                                   organisation's meetings, by the empty text, which is no meeting's id
"""

import json
from collections.abc import Mapping
from typing import Final, NamedTuple

import redis
from pydantic import JsonValue

Config = Mapping[str, JsonValue]
"""What is set, by the names of the recording API; what is not set is not there, or None."""

_WHOLE_ORGANIZATION: Final = ""

_OTHER_NAMES: Final = {
    "live_streaming_config": "rtmp_out_config",
    "dyte_bucket_config": "realtimekit_bucket_config",
}
"""Names that the recording API has for the same thing elsewhere."""


class Defaults(NamedTuple):
    """What is set for all meetings of an organisation, and for one of them; the second is the stronger."""

    organization: Config
    meeting: Config


def combine(*configs: Config) -> dict[str, JsonValue]:
    """What holds when several configs are given, the weakest first: of each field the strongest that is set.

    Objects are combined field by field too. A field has one name in the result, that of a start request.
    """
    combined: dict[str, JsonValue] = {}
    for config in configs:
        for name, value in config.items():
            if value is not None:
                known_as = _OTHER_NAMES.get(name, name)
                combined[known_as] = _over(combined.get(known_as), value)
    return combined


def _over(weaker: JsonValue, stronger: JsonValue) -> JsonValue:
    if not isinstance(stronger, dict):
        return stronger
    return combine(weaker if isinstance(weaker, dict) else {}, stronger)


class RecordingConfigs:
    """The defaults of all organisations. Each method raises redis.RedisError when Redis cannot be reached.

    With None as the meeting, a method means all the organisation's meetings.
    """

    def __init__(self, client: redis.Redis) -> None:
        """`client` is used by several threads at once."""
        self._redis = client

    def get(self, organization_id: str, meeting_id: str | None) -> Config:
        """What is set; empty if nothing is."""
        return _decode(self._redis.hget(_key(organization_id), meeting_id or _WHOLE_ORGANIZATION))

    def put(self, organization_id: str, meeting_id: str | None, config: Config) -> None:
        """Set these defaults, in place of those there were."""
        self._redis.hset(_key(organization_id), meeting_id or _WHOLE_ORGANIZATION, json.dumps(config))

    def delete(self, organization_id: str, meeting_id: str | None) -> None:
        """Set no defaults any more; harmless if there were none."""
        self._redis.hdel(_key(organization_id), meeting_id or _WHOLE_ORGANIZATION)

    def defaults(self, organization_id: str, meeting_id: str) -> Defaults:
        """All that is set for a recording of a meeting."""
        fields = [_WHOLE_ORGANIZATION, meeting_id]
        organization, meeting = self._redis.hmget(_key(organization_id), fields)
        return Defaults(_decode(organization), _decode(meeting))


def _key(organization_id: str) -> str:
    return f"farm:recording_configs:{organization_id}"


def _decode(value: bytes | str | None) -> Config:
    config: Config = json.loads(value) if value else {}
    return config
