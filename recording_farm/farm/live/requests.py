"""Requests from the API to a running recorder, for example for a frame, and their replies.

Keys
    farm:asked:{id}         list: requests, as JSON, with the token of the reply's key
    farm:answered:{token}   list of one: the reply, for some seconds
    farm:preview:{id}       hash: the files of a preview that has ended, for players that still show it

They go through Redis, because the API does not connect to nodes. Frames and previews are made on demand only.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from secrets import token_hex
from typing import Any, Final, cast
from uuid import UUID

import redis
import redis.asyncio

from recording_farm.farm.db.clients import in_time
from recording_farm.farm.errors import FarmError, NotFoundError, NothingLiveError

logger = logging.getLogger(__name__)

_KEPT_SECONDS: Final = 10
_MAX_WAITING: Final = 64
_BLOCK_SECONDS: Final = 2.0
_READ_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.5
_PREVIEW_SECONDS: Final = 30
"""TTL of a preview that has ended: players poll its playlist every few seconds."""
_AT_ONCE: Final = 4
"""Concurrent replies, so that no client can overload a recorder."""

_GOOD, _MISSING, _BAD = b"0", b"1", b"2"

Answer = Callable[[str], Awaitable[bytes]]
"""Answers one request. Raises NotFoundError or NothingLiveError."""


def _asked_key(recording_id: UUID | str) -> str:
    return f"farm:asked:{str(recording_id).lower()}"


def _answered_key(token: str) -> str:
    return f"farm:answered:{token}"


def _preview_key(recording_id: UUID | str) -> str:
    return f"farm:preview:{str(recording_id).lower()}"


async def save_preview(client: redis.asyncio.Redis, recording_id: UUID, files: Mapping[str, bytes]) -> None:
    """Save the files of a preview that has ended, by name. Redis errors are only logged."""
    key = _preview_key(recording_id)
    try:
        async with asyncio.timeout(_READ_SECONDS), client.pipeline() as pipeline:
            pipeline.hset(key, mapping=cast("Mapping[Any, Any]", files))
            pipeline.expire(key, _PREVIEW_SECONDS)
            await pipeline.execute()
    except (redis.RedisError, OSError, TimeoutError) as error:
        logger.warning("recording %s: the end of its preview cannot be saved: %r", recording_id, error)


async def saved_preview(client: redis.asyncio.Redis, recording_id: UUID, name: str) -> bytes | None:
    """A file of a preview that ended some seconds ago. Raises redis.RedisError."""
    async with in_time():
        return cast("bytes | None", await client.hget(_preview_key(recording_id), name))


async def ask(client: redis.asyncio.Redis, recording_id: UUID | str, what: str, seconds: float) -> bytes:
    """Send a request to a recording's recorder, and wait up to `seconds` for its reply.

    Raises NothingLiveError without a reply, NotFoundError, redis.RedisError.
    """
    token = token_hex(16)
    key = _asked_key(recording_id)
    try:
        async with asyncio.timeout(seconds + 1), client.pipeline() as pipeline:
            pipeline.rpush(key, json.dumps({"what": what, "token": token}))
            pipeline.ltrim(key, -_MAX_WAITING, -1)
            pipeline.expire(key, _KEPT_SECONDS)
            await pipeline.execute()
            answered = await client.blpop([_answered_key(token)], timeout=seconds)
    except TimeoutError as error:
        raise redis.TimeoutError(f"no answer within {seconds} s") from error
    if answered is None:
        raise NothingLiveError(f"recording {recording_id} does not answer; try again in a moment")
    reply = cast("bytes", answered[1])
    kind, content = reply[:1], reply[1:]
    if kind == _GOOD:
        return content
    raise (NotFoundError if kind == _MISSING else NothingLiveError)(content.decode())


async def answer_requests(client: redis.asyncio.Redis, recording_id: UUID, answer: Answer) -> None:
    """Answer requests to a recording until cancelled."""
    room = asyncio.Semaphore(_AT_ONCE)
    async with asyncio.TaskGroup() as tasks:
        while True:
            await room.acquire()
            asked = await _next(client, _asked_key(recording_id))
            task = tasks.create_task(_answer(client, recording_id, asked, answer))
            task.add_done_callback(lambda _: room.release())


async def _next(client: redis.asyncio.Redis, key: str) -> bytes:
    while True:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                found = await client.blpop([key], timeout=_BLOCK_SECONDS)
            if found is not None:
                return cast("bytes", found[1])
        except (redis.RedisError, OSError, TimeoutError) as error:
            logger.debug("live requests cannot be read: %r", error)
            await asyncio.sleep(_RETRY_SECONDS)


async def _answer(client: redis.asyncio.Redis, recording_id: UUID, asked: bytes, answer: Answer) -> None:
    try:
        request = json.loads(asked)
        what, token = str(request["what"]), str(request["token"])
    except (ValueError, KeyError, TypeError):
        logger.warning("recording %s: malformed live request", recording_id)
        return
    try:
        reply = _GOOD + await answer(what)
    except FarmError as error:
        reply = (_MISSING if isinstance(error, NotFoundError) else _BAD) + error.message.encode()
    except Exception:
        # A bug in the preview must not end the recording.
        logger.exception("recording %s: %s cannot be answered", recording_id, what)
        reply = _BAD + b"the recorder cannot show it; its log says more"
    try:
        async with asyncio.timeout(_READ_SECONDS), client.pipeline() as pipeline:
            pipeline.rpush(_answered_key(token), reply)
            pipeline.expire(_answered_key(token), _KEPT_SECONDS)
            await pipeline.execute()
    except (redis.RedisError, OSError, TimeoutError) as error:
        logger.debug("a reply cannot be sent: %r", error)
