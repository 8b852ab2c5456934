"""Presets: named storage configurations of an organization, for many recordings.

Key
    farm:storage_presets:{org}    hash: each preset by its name, as JSON: its public part, and all of it,
                                  sealed for this organization and name
"""

import json
from collections.abc import Mapping
from typing import ClassVar, Final, cast

import redis
from pydantic import BaseModel, ConfigDict, JsonValue

from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.errors import FarmError, NotFoundError
from recording_farm.farm.storage.targets import TARGET, Target, public, with_secrets

MAX_PRESETS: Final = 100
"""Per organization."""

_PUT: Final = """
local presets = KEYS[1]
local name, preset, max_presets = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('HEXISTS', presets, name) == 0 and redis.call('HLEN', presets) >= max_presets then
  return 0
end
redis.call('HSET', presets, name, preset)
return 1
"""


class TooManyPresetsError(FarmError):
    """The organization has the maximum number of storage presets."""

    code: ClassVar[str] = "too_many_presets"
    http_status: ClassVar[int] = 409
    remedy = "Delete a preset."


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True)

    public: dict[str, JsonValue]
    sealed: str


class StoragePresets:
    """The presets of all organizations. Several threads and processes may call all methods at once.

    Every method raises redis.RedisError when Redis cannot be reached.
    """

    def __init__(self, client: redis.Redis, sealer: Sealer) -> None:
        """`sealer` uses the farm's secret (`farm.credentials.farm_secret.load_secret_key`)."""
        self._redis = client
        self._sealer = sealer
        self._put = client.register_script(_PUT)

    def put(self, organization_id: str, name: str, target: Target) -> None:
        """Save a preset, replacing one of the same name. Raises TooManyPresetsError."""
        sealed = self._sealer.seal(json.dumps(with_secrets(target)), _context(organization_id, name))
        kept = _Kept(public=public(target), sealed=sealed)
        if not self._put([_key(organization_id)], [name, kept.model_dump_json(), MAX_PRESETS]):
            raise TooManyPresetsError(
                f"this organization has {MAX_PRESETS} storage presets, the maximum; delete one first"
            )

    def get(self, organization_id: str, name: str) -> Target:
        """A preset with its secrets.

        Raises NotFoundError, SettingsError when it was sealed with another secret.
        """
        sealed = self._kept(organization_id, name).sealed
        return TARGET.validate_json(self._sealer.open(sealed, _context(organization_id, name)))

    def shown(self, organization_id: str, name: str) -> Mapping[str, JsonValue]:
        """The public part of a preset. Raises NotFoundError."""
        return self._kept(organization_id, name).public

    def list(self, organization_id: str) -> dict[str, Mapping[str, JsonValue]]:
        """The public parts of an organization's presets, sorted by name."""
        kept = cast("dict[bytes, bytes]", self._redis.hgetall(_key(organization_id)))
        return {
            name.decode(): _Kept.model_validate_json(value).public for name, value in sorted(kept.items())
        }

    def delete(self, organization_id: str, name: str) -> None:
        """Delete a preset. Raises NotFoundError."""
        if not self._redis.hdel(_key(organization_id), name):
            raise _not_found(name)

    def _kept(self, organization_id: str, name: str) -> _Kept:
        value = self._redis.hget(_key(organization_id), name)
        if value is None:
            raise _not_found(name)
        return _Kept.model_validate_json(cast("bytes", value))


def _key(organization_id: str) -> str:
    return f"farm:storage_presets:{organization_id}"


def _context(organization_id: str, name: str) -> str:
    # Neither organization ids nor preset names contain a slash.
    return f"the storage preset {organization_id}/{name}"


def _not_found(name: str) -> NotFoundError:
    return NotFoundError(f"there is no storage preset {name}")
