"""Keys that were made or revoked elsewhere: how this API comes to know of them, and Redis of its own."""

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
"""Between two looks; so long a key that was revoked at another API may open something still."""


async def watch_keys(context: Context) -> None:
    """Keep the API keys of the data directory and those of Redis the same; never ends by itself."""
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
                logger.error("API keys made and revoked elsewhere are not known here: %s", error)
        await asyncio.sleep(LOOK_SECONDS)


def print_first_key(credentials: str | None) -> None:
    """Print the credentials that were made on a first start, if there are any."""
    if credentials is not None:
        organization, _, key = credentials.partition(":")
        print(
            f"first API key, shown only this once: organization {organization}, key {key}",
            file=sys.stderr,
            flush=True,
        )
