"""The dependencies of the API's handlers; created once when the app starts."""

from dataclasses import dataclass
from typing import cast

import redis
from redis.asyncio import Redis as AsyncRedis
from starlette.requests import HTTPConnection

from recording_farm.api.meeting.rooms import Rooms
from recording_farm.api.services.participant_tokens import ParticipantTokens
from recording_farm.api.services.rate_limit import RateLimits
from recording_farm.api.services.redis_watch import RedisWatch
from recording_farm.api.services.sessions import Sessions
from recording_farm.api.services.store_watch import StoreWatch
from recording_farm.api.services.turns import Turns
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.api_keys import ApiKeys
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.recording.defaults import RecordingConfigs
from recording_farm.farm.recording.feeds import Feeds
from recording_farm.farm.recording.links import Links
from recording_farm.farm.recording.quotas import Quotas
from recording_farm.farm.recording.records import Records
from recording_farm.farm.storage.presets import StoragePresets
from recording_farm.farm.storage.store import Store
from recording_farm.farm.webhooks.deliveries import Deliveries
from recording_farm.farm.webhooks.log import WebhookLog
from recording_farm.farm.webhooks.registry import Webhooks
from recording_farm.farm.webhooks.signature import SigningKey


@dataclass(frozen=True)
class Context:
    """The shared dependencies of all handlers."""

    settings: Settings
    keys: ApiKeys
    participant_tokens: ParticipantTokens
    rate_limits: RateLimits
    sessions: Sessions
    link_secret: bytes
    store: Store
    store_watch: StoreWatch
    redis_watch: RedisWatch
    links: Links
    sealer: Sealer
    redis: redis.Redis
    """For non-blocking commands; called in threads."""
    waiting_redis: AsyncRedis
    """For blocking reads, such as streams of changes."""
    records: Records
    quotas: Quotas
    recording_configs: RecordingConfigs
    storage_presets: StoragePresets
    feeds: Feeds
    webhooks: Webhooks
    deliveries: Deliveries
    webhook_log: WebhookLog
    signing_key: SigningKey
    rooms: Rooms
    drawings: Turns
    """Limits concurrent drawing of watermarks, which starts a process each."""
    storage_checks: Turns
    """Limits concurrent checks of storage, which start a process each."""
    evidence_downloads: Turns
    """Limits concurrent zips of evidence, which need temporary files on this machine."""
    downloads: Turns
    """Limits concurrent downloads of files, which have a connection and an open file each."""
    file_reads: Turns
    """Limits concurrent reads for downloads, which have a thread each."""


def context_of(connection: HTTPConnection) -> Context:
    """The context of the app that handles a request or a WebSocket."""
    return cast("Context", connection.app.state.context)
