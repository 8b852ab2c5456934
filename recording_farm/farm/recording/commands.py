"""Commands from the API to a running recording (stop, pause, resume), through one Redis stream per recording.

Key
    farm:orders:{id}    stream: entries with the field `order`, in the order they were sent; also a channel

A command in a stream arrives even if the worker was cut off when it was sent. The channel is for a Redis that
rejects writes, because it is full or a replica: it rejects commands flagged `write` or `denyoom` (see COMMAND
INFO), and PUBLISH is neither, so a recording can still be stopped.
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
    """A command for a running recording."""

    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"


def commands_key(recording_id: UUID | str) -> str:
    """The key of a recording's stream of commands."""
    return f"farm:orders:{str(recording_id).lower()}"


def send_command(client: redis.Redis, recording_id: UUID | str, command: Command) -> bool:
    """Send a command to a recording; commands are read in the order they were sent.

    False when Redis rejects writes: the running recorder has received the command, a later one will not.
    Raises redis.RedisError when Redis cannot be reached, or rejects writes and no recorder received it.
    """
    key = commands_key(recording_id)
    try:
        with client.pipeline() as pipeline:
            pipeline.xadd(key, {"order": command.value})
            pipeline.expire(key, _KEPT_SECONDS)
            pipeline.execute()
    except redis.ResponseError:
        if not client.publish(key, command.value):
            raise
        return False
    return True


async def read_commands(client: redis.asyncio.Redis, recording_id: UUID | str) -> AsyncIterator[Command]:
    """All commands of a recording from the first one, then each new one; never ends by itself.

    `client` comes from `farm.db.clients.connect_async`, so that cancelling the reader always works. While
    Redis is away it waits and retries, and no command is lost. A command may come twice (the API retried
    after a lost answer), so a command that changes nothing must be harmless.
    """
    received: asyncio.Queue[Command | BaseException] = asyncio.Queue()
    key = commands_key(recording_id)

    def ended(reading: asyncio.Task[None]) -> None:
        if not reading.cancelled() and (error := reading.exception()) is not None:
            received.put_nowait(error)

    readings = [
        asyncio.create_task(_read_stream(client, key, received.put_nowait), name=f"stream of {recording_id}"),
        asyncio.create_task(
            _read_channel(client, key, received.put_nowait), name=f"channel of {recording_id}"
        ),
    ]
    for reading in readings:
        reading.add_done_callback(ended)
    try:
        while True:
            command = await received.get()
            if isinstance(command, BaseException):
                raise command
            yield command
    finally:
        for reading in readings:
            reading.cancel()
        await asyncio.gather(*readings, return_exceptions=True)


Receive = Callable[[Command], None]


async def _read_stream(client: redis.asyncio.Redis, key: str, receive: Receive) -> None:
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
            _receive(key, fields.get(b"order"), receive)


async def _read_channel(client: redis.asyncio.Redis, key: str, receive: Receive) -> None:
    outage = Outage(f"the channel {key} cannot be subscribed to")
    while True:
        try:
            async with client.pubsub() as channel:
                while True:
                    async with in_time():
                        await channel.subscribe(key)
                        _receive_message(key, await channel.get_message(timeout=None), receive)
                    outage.recovered()
                    while (message := await channel.get_message(timeout=_QUIET_SECONDS)) is not None:
                        _receive_message(key, message, receive)
        except (redis.RedisError, OSError, TimeoutError) as error:
            await asyncio.sleep(outage.failed(error))


def _receive_message(key: str, message: dict[str, Any] | None, receive: Receive) -> None:
    if message is not None and message["type"] == "message":
        _receive(key, message["data"], receive)


def _receive(key: str, text: bytes | None, receive: Receive) -> None:
    try:
        receive(Command((text or b"").decode()))
    except ValueError:
        logger.warning("%s: dropping an unknown command: %r", key, text)
