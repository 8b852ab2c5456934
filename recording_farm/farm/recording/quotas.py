"""Quotas of organizations: by the settings for all of them, and by `farm quotas` for one.

Keys
    farm:quotas    hash: the values that are set for an organization, by its id, as JSON
"""

import json
from dataclasses import asdict, dataclass
from typing import Final, cast

import redis

from recording_farm.farm.config.settings import Settings

QUOTAS_KEY: Final = "farm:quotas"

MAX_WEIGHT: Final = 100


@dataclass(frozen=True)
class OwnQuota:
    """The values set for one organization; None where the settings apply. 0 is no limit."""

    queued: int | None = None
    running: int | None = None
    weight: int | None = None
    high_priority: bool | None = None


@dataclass(frozen=True)
class Quota:
    """The quota of an organization.

    `queued` and `running` are recordings, 0 without a limit. With twice the `weight` of another, an
    organization starts twice as many while both have recordings in the queue.
    """

    queued: int
    running: int
    weight: int
    high_priority: bool


class Quotas:
    """The quotas of all organizations. Every method raises redis.RedisError when Redis cannot be reached."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        """`client` must return bytes (see `farm.db.clients`)."""
        self._redis = client
        self._settings = settings

    def of(self, organization_id: str) -> Quota:
        """The quota of an organization."""
        return self._with_defaults(organization_id, self.own(organization_id))

    def own(self, organization_id: str) -> OwnQuota:
        """The values set for an organization alone."""
        return _read(cast("bytes | None", self._redis.hget(QUOTAS_KEY, organization_id)))

    def all(self) -> dict[str, Quota]:
        """The quotas of the organizations that have one of their own."""
        found = cast("dict[bytes, bytes]", self._redis.hgetall(QUOTAS_KEY))
        return {
            name.decode(): self._with_defaults(name.decode(), _read(text))
            for name, text in sorted(found.items())
        }

    def set(self, organization_id: str, own: OwnQuota) -> None:
        """Set the quota of an organization; it applies to the next start and the next free slot."""
        values = {name: value for name, value in asdict(own).items() if value is not None}
        if values:
            self._redis.hset(QUOTAS_KEY, organization_id, json.dumps(values))
        else:
            self._redis.hdel(QUOTAS_KEY, organization_id)

    def _with_defaults(self, organization_id: str, own: OwnQuota) -> Quota:
        settings = self._settings
        is_listed = organization_id in settings.high_priority_organizations
        return Quota(
            queued=settings.quota_queued if own.queued is None else own.queued,
            running=settings.quota_running if own.running is None else own.running,
            weight=own.weight or 1,
            high_priority=is_listed if own.high_priority is None else own.high_priority,
        )


def _read(text: bytes | None) -> OwnQuota:
    return OwnQuota(**json.loads(text)) if text else OwnQuota()
