"""Compares the shared settings of this API with those of the farm's other processes, in the background."""

import asyncio
from contextlib import suppress

import redis

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.telemetry.shared_settings import PUBLISH_SECONDS, SharedSettings, shared_values
from recording_farm.farm.webhooks.signature import SigningKey


async def watch_shared_settings(settings: Settings, signing_key: SigningKey, client: redis.Redis) -> None:
    """Publish and compare until cancelled; others report an outage of Redis."""
    name = f"api on {settings.node}, port {settings.port}"
    # Not in Starlette's thread pool: a store on a network file system may hang.
    values = await asyncio.to_thread(shared_values, settings, signing_key.public_pem)
    shared = SharedSettings(client, name, values)
    is_published = False
    try:
        while True:
            is_published = await asyncio.to_thread(_publish, shared)
            await asyncio.sleep(PUBLISH_SECONDS)
    finally:
        if is_published:
            with suppress(redis.RedisError):
                await asyncio.to_thread(shared.withdraw)


def _publish(shared: SharedSettings) -> bool:
    try:
        shared.publish()
    except redis.RedisError:
        return False
    return True
