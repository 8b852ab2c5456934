"""Synchronizes API keys between this API's data directory and Redis."""

import asyncio
import logging
import sys
from typing import Final

import redis
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from recording_farm.api.context import Context
from recording_farm.farm.credentials.api_keys import sync_api_keys
from recording_farm.farm.credentials.shared_api_keys import VERSION_KEY
from recording_farm.farm.db.clients import in_time
from recording_farm.farm.errors import FarmError

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5
"""Interval of the check; for this long, a key revoked at another API may still be accepted."""


async def watch_keys(context: Context) -> None:
    """Keep the API keys of the data directory and of Redis in sync, until cancelled."""
    seen, complaint = None, ""
    while True:
        try:
            async with in_time():
                version = await context.waiting_redis.get(VERSION_KEY)
            if (context.keys.file_version(), version) != seen:
                exchanged = await run_in_threadpool(sync_api_keys, context.settings, context.redis)
                seen = exchanged.file, exchanged.redis
                print_first_key(exchanged.made)
            complaint = ""
        except (redis.RedisError, FarmError, OSError, ValidationError) as error:
            if complaint != str(error):
                complaint = str(error)
                logger.error("API keys cannot be synchronized with Redis: %s", error)
        await asyncio.sleep(LOOK_SECONDS)


def print_first_key(credentials: str | None) -> None:
    """Print the credentials that the first start created, if any."""
    if credentials is not None:
        organization, _, key = credentials.partition(":")
        print(
            f"first API key, shown only this once: organization {organization}, key {key}",
            file=sys.stderr,
            flush=True,
        )
