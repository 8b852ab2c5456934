"""Defaults for recordings: an organization's, and those of its meetings, for what a request leaves out.

Key
    farm:recording_configs:{org}   hash: what is set for a meeting, by the meeting's id, as JSON; for all the
                                   organization's meetings, by the empty text, which is no meeting's id. Of a
                                   storage_config, and of a stream's URL, only the public part lies open
"""

import json
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, cast

import redis
from pydantic import JsonValue, TypeAdapter

from recording_farm.browser_bot.network.addresses import AddressError, origin_of
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.recording.outputs import read_stream_url
from recording_farm.farm.storage.targets import StorageConfig, public

Config = Mapping[str, JsonValue]
"""What is set, by the names of the recording API; what is not set is not there, or None."""

_WHOLE_ORGANIZATION: Final = ""

_OTHER_NAMES: Final = {
    "live_streaming_config": "rtmp_out_config",
    "dyte_bucket_config": "realtimekit_bucket_config",
}
"""Names that the recording API has for the same thing elsewhere."""


_STORAGE: Final = "storage_config"
_STORAGE_CONFIG: Final[TypeAdapter[StorageConfig]] = TypeAdapter(StorageConfig)
_SEALED: Final = "sealed_"
"""What the name of a sealed whole begins with, beside its public part."""


def _public_storage(config: JsonValue) -> JsonValue:
    return public(_STORAGE_CONFIG.validate_python(config))


def _public_stream(config: JsonValue) -> JsonValue:
    assert isinstance(config, dict)
    return config | {"rtmp_url": read_stream_url(str(config["rtmp_url"])).hidden}


def _public_credentials(config: JsonValue) -> JsonValue:
    assert isinstance(config, list)
    return [_without(each, "username", "password") for each in config]


def _public_headers(config: JsonValue) -> JsonValue:
    assert isinstance(config, dict)
    return dict.fromkeys(config)


def _public_cookies(config: JsonValue) -> JsonValue:
    assert isinstance(config, list)
    return [_without(each, "value") for each in config]


def _without(config: JsonValue, *names: str) -> JsonValue:
    assert isinstance(config, dict)
    return {name: value for name, value in config.items() if name not in names}


_SECRET: Final[Mapping[str, Callable[[JsonValue], JsonValue]]] = {
    _STORAGE: _public_storage,
    "live_streaming_config": _public_stream,
    "http_credentials": _public_credentials,
    "headers": _public_headers,
    "cookies": _public_cookies,
}
"""Objects with secrets in them, and what may be shown of each."""

_WHOLE: Final = frozenset({_STORAGE})
"""Objects that are taken whole or not at all."""


class Defaults(NamedTuple):
    """What is set for all meetings of an organization, and for one of them; the second is the stronger."""

    organization: Config
    meeting: Config


def combine(*configs: Config) -> dict[str, JsonValue]:
    """What holds when several configs are given, the weakest first: of each field the strongest that is set.

    Objects are combined field by field too, but for storage, whose fields say nothing apart. A field has one
    name in the result, that of a start request.
    """
    combined: dict[str, JsonValue] = {}
    for config in configs:
        for name, value in config.items():
            if value is not None:
                known_as = _OTHER_NAMES.get(name, name)
                weaker = None if known_as in _WHOLE else combined.get(known_as)
                combined[known_as] = _over(weaker, value)
    return combined


def _over(weaker: JsonValue, stronger: JsonValue) -> JsonValue:
    if not isinstance(stronger, dict):
        return stronger
    return combine(weaker if isinstance(weaker, dict) else {}, stronger)


def lacks_place(config: Config) -> bool:
    """Whether passwords, headers or cookies are set that name no origin or domain to be sent to."""
    return bool(config.get("headers")) or any(
        _placed(config, name) != config[name] for name in _listed(config)
    )


def for_page(config: Config, opened: str, page: str) -> Config:
    """What of a config holds for a recording of the page `opened`.

    Passwords, headers and cookies that name no origin or domain are for the origin of the config's own `url`,
    or else of `page`: who may start recordings of any page could have them sent to themselves otherwise.
    """
    if not lacks_place(config) or _origin(opened) == _origin(str(config.get("url") or page)):
        return config
    kept = {name: _placed(config, name) for name in _listed(config)}
    return {
        name: kept.get(name, value)
        for name, value in config.items()
        # A list of which nothing is left is not set, which an empty one is.
        if name != "headers" and (name not in kept or kept[name] or not value)
    }


_PLACE: Final = {"http_credentials": "origin", "cookies": "domain"}
"""The field of each that says where it is sent."""


def _listed(config: Config) -> list[str]:
    return [name for name in _PLACE if config.get(name) is not None]


def _placed(config: Config, name: str) -> JsonValue:
    given = config[name]
    assert isinstance(given, list)
    return [each for each in given if isinstance(each, dict) and each.get(_PLACE[name]) is not None]


def _origin(url: str) -> str | None:
    try:
        return origin_of(url)
    except AddressError:
        return None


class RecordingConfigs:
    """The defaults of all organizations. Each method raises redis.RedisError when Redis cannot be reached.

    With None as the meeting, a method means all the organization's meetings.
    """

    def __init__(self, client: redis.Redis, sealer: Sealer) -> None:
        """`client` is used by several threads at once."""
        self._redis = client
        self._sealer = sealer

    def get(self, organization_id: str, meeting_id: str | None) -> Config:
        """What is set, without the keys of storage; empty if nothing is."""
        config = self._read(organization_id, meeting_id or _WHOLE_ORGANIZATION)[0]
        return _shown(config)

    def put(self, organization_id: str, meeting_id: str | None, config: Config) -> Config:
        """Set these defaults, in place of those there were; returns them without the keys of storage."""
        meeting = meeting_id or _WHOLE_ORGANIZATION
        kept = dict(config)
        for name in _SECRET.keys() & config.keys():
            kept[name] = _SECRET[name](config[name])
            context = _context(organization_id, meeting, name)
            kept[_SEALED + name] = self._sealer.seal(json.dumps(config[name]), context)
        self._redis.hset(_key(organization_id), meeting, json.dumps(kept))
        return _shown(kept)

    def delete(self, organization_id: str, meeting_id: str | None) -> None:
        """Set no defaults any more; harmless if there were none."""
        self._redis.hdel(_key(organization_id), meeting_id or _WHOLE_ORGANIZATION)

    def defaults(self, organization_id: str, meeting_id: str) -> Defaults:
        """All that is set for a recording of a meeting, with the keys of storage.

        Raises SettingsError when these were sealed with another secret.
        """
        meetings = _WHOLE_ORGANIZATION, meeting_id
        return Defaults(
            *(
                self._opened(config, organization_id, meeting)
                for meeting, config in zip(meetings, self._read(organization_id, *meetings), strict=True)
            )
        )

    def _read(self, organization_id: str, *meetings: str) -> list[Config]:
        values = cast("list[bytes | None]", self._redis.hmget(_key(organization_id), list(meetings)))
        return [json.loads(value) if value else {} for value in values]

    def _opened(self, config: Config, organization_id: str, meeting: str) -> Config:
        opened = {
            name: json.loads(
                self._sealer.open(str(config[_SEALED + name]), _context(organization_id, meeting, name))
            )
            for name in _SECRET
            if _SEALED + name in config
        }
        return {**_shown(config), **opened}


def _shown(config: Config) -> dict[str, JsonValue]:
    return {name: value for name, value in config.items() if not name.startswith(_SEALED)}


def _key(organization_id: str) -> str:
    return f"farm:recording_configs:{organization_id}"


def _context(organization_id: str, meeting: str, name: str) -> str:
    context = f"the defaults of {organization_id}, meeting {meeting!r}"
    # Storages were the first, and are sealed so in farms that run.
    return context if name == _STORAGE else f"{context}, {name}"
