"""Orders: what the API tells a running recording, through one Redis stream per recording.

Key
    farm:orders:{id}    stream: entries with the field `order`, in the order they were given

A stream and not a channel, so that an order given while the worker is cut off arrives when it is back.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Final
from uuid import UUID

import redis
import redis.asyncio

from farm.streams import entries

_LOG = logging.getLogger(__name__)

_KEPT_SECONDS: Final = 25 * 3600
"""An hour longer than the longest recording."""

_BLOCK_MILLISECONDS: Final = 2000
"""How long one read waits in Redis."""

_READ_SECONDS: Final = 5.0
"""How long one read may take altogether before the connection counts as dead."""

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
"""Seconds between tries while Redis is away."""


class Order(StrEnum):
    """What a running recording can be told."""

    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"


def orders_key(recording_id: UUID | str) -> str:
    """The key of a recording's stream of orders."""
    return f"farm:orders:{str(recording_id).lower()}"


def send_order(client: redis.Redis, recording_id: UUID | str, order: Order) -> None:
    """Give an order to a recording; it is read now or later, in the order given.

    Raises redis.RedisError when Redis cannot be reached.
    """
    key = orders_key(recording_id)
    with client.pipeline() as pipeline:
        pipeline.xadd(key, {"order": order.value})
        pipeline.expire(key, _KEPT_SECONDS)
        pipeline.execute()


async def read_orders(client: redis.asyncio.Redis, recording_id: UUID | str) -> AsyncIterator[Order]:
    """All orders of a recording from the first one on, then each new one as it comes; never ends by itself.

    `client` comes from `farm.redis_clients.connect_async`, so that cancelling the reader always works.
    While Redis is away it waits and tries again, and nothing given in between is lost. An order may come
    twice (the API tried again after a lost answer), so one that changes nothing must be harmless.
    """
    key = orders_key(recording_id)
    last: bytes | str = "0"
    pause = _FIRST_PAUSE
    while True:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                answer = await client.xread({key: last}, block=_BLOCK_MILLISECONDS)
        except (redis.RedisError, OSError, TimeoutError) as error:
            _LOG.warning("recording %s: orders cannot be read, trying again: %r", recording_id, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            continue
        pause = _FIRST_PAUSE
        for entry_id, fields in entries(answer):
            last = entry_id
            order = _order(fields)
            if order is None:
                _LOG.warning("recording %s: an order that is none: %s", recording_id, fields)
            else:
                yield order


def _order(fields: dict[bytes, bytes]) -> Order | None:
    try:
        return Order(fields[b"order"].decode())
    except (KeyError, ValueError):
        return None
