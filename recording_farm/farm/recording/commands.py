"""Orders: what the API tells a running recording, through one Redis stream per recording.

Key
    farm:orders:{id}    stream: entries with the field `order`, in the order they were given; a channel, too

A stream, so that an order given while the worker is cut off arrives when it is back. The channel is for a
Redis that takes no writes, because it is full or a replica: it refuses commands flagged `write` or `denyoom`
(COMMAND INFO tells), and PUBLISH is neither, so a recording can be stopped all the same.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import redis
import redis.asyncio

from recording_farm.farm.db.clients import in_time
from recording_farm.farm.db.faults import Outage
from recording_farm.farm.db.streams import entries

logger = logging.getLogger(__name__)

_KEPT_SECONDS: Final = 25 * 3600
"""An hour longer than the longest recording."""

_BLOCK_MILLISECONDS: Final = 2000
"""How long one read waits in Redis."""

_READ_SECONDS: Final = 5.0
"""How long one read may take altogether before the connection counts as dead."""

_QUIET_SECONDS: Final = 20.0
"""How long a channel may be silent before it is subscribed to again, which shows a dead connection."""


class Command(StrEnum):
    """What a running recording can be told."""

    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"


def orders_key(recording_id: UUID | str) -> str:
    """The key of a recording's stream of orders."""
    return f"farm:orders:{str(recording_id).lower()}"


def send_order(client: redis.Redis, recording_id: UUID | str, order: Command) -> bool:
    """Give an order to a recording; it is read now or later, in the order given.

    False when Redis takes no writes: the recorder that runs has heard it, and none that comes later will.
    Raises redis.RedisError when Redis cannot be reached, or when it takes no writes and nobody has heard it.
    """
    key = orders_key(recording_id)
    try:
        with client.pipeline() as pipeline:
            pipeline.xadd(key, {"order": order.value})
            pipeline.expire(key, _KEPT_SECONDS)
            pipeline.execute()
    except redis.ResponseError:
        if not client.publish(key, order.value):
            raise
        return False
    return True


async def read_commands(client: redis.asyncio.Redis, recording_id: UUID | str) -> AsyncIterator[Command]:
    """All orders of a recording from the first one on, then each new one as it comes; never ends by itself.

    `client` comes from `farm.db.clients.connect_async`, so that cancelling the reader always works.
    While Redis is away it waits and tries again, and nothing given in between is lost. An order may come
    twice (the API tried again after a lost answer), so one that changes nothing must be harmless.
    """
    news: asyncio.Queue[Command | BaseException] = asyncio.Queue()
    key = orders_key(recording_id)

    def ended(reading: asyncio.Task[None]) -> None:
        if not reading.cancelled() and (error := reading.exception()) is not None:
            news.put_nowait(error)

    readings = [
        asyncio.create_task(_read_stream(client, key, news.put_nowait), name=f"orders of {recording_id}"),
        asyncio.create_task(_read_channel(client, key, news.put_nowait), name=f"channel of {recording_id}"),
    ]
    for reading in readings:
        reading.add_done_callback(ended)
    try:
        while True:
            order = await news.get()
            if isinstance(order, BaseException):
                raise order
            yield order
    finally:
        for reading in readings:
            reading.cancel()
        await asyncio.gather(*readings, return_exceptions=True)


Hear = Callable[[Command], None]


async def _read_stream(client: redis.asyncio.Redis, key: str, hear: Hear) -> None:
    last: bytes | str = "0"
    outage = Outage(f"{key} cannot be read")
    while True:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                answer = await client.xread({key: last}, block=_BLOCK_MILLISECONDS)
        except (redis.RedisError, OSError, TimeoutError) as error:
            await asyncio.sleep(outage.failed(error))
            continue
        outage.recovered()
        for entry_id, fields in entries(answer):
            last = entry_id
            _hear(key, fields.get(b"order"), hear)


async def _read_channel(client: redis.asyncio.Redis, key: str, hear: Hear) -> None:
    outage = Outage(f"the channel {key} cannot be listened to")
    while True:
        try:
            async with client.pubsub() as channel:
                while True:
                    async with in_time():
                        await channel.subscribe(key)
                        _hear_message(key, await channel.get_message(timeout=None), hear)
                    outage.recovered()
                    while (message := await channel.get_message(timeout=_QUIET_SECONDS)) is not None:
                        _hear_message(key, message, hear)
        except (redis.RedisError, OSError, TimeoutError) as error:
            await asyncio.sleep(outage.failed(error))


def _hear_message(key: str, message: dict[str, Any] | None, hear: Hear) -> None:
    if message is not None and message["type"] == "message":
        _hear(key, message["data"], hear)


def _hear(key: str, text: bytes | None, hear: Hear) -> None:
    try:
        hear(Command((text or b"").decode()))
    except ValueError:
        logger.warning("%s: an order that is none: %r", key, text)
