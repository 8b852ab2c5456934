"""Feeds over a real Redis: slow followers, damaged entries, and Redis away for a while."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from recording_farm.farm.db.clients import connect, connect_async
from recording_farm.farm.db.embedded import embedded_redis
from recording_farm.farm.db.streams import BEGINNING
from recording_farm.farm.errors import RedisUnavailableError
from recording_farm.farm.recording.changes import events_key
from recording_farm.farm.recording.feeds import Change, Feed, Feeds
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.recording.records import Records
from testkit.farm import Farm
from testkit.recordings import new_recording
from testkit.settings import settings_with

SECONDS = 15.0


def meeting_of(recording: Recording) -> str:
    return recording.meeting_id


@asynccontextmanager
async def feed_of(address: str) -> AsyncIterator[Feed]:
    async with connect_async(address) as client, Feeds(client, 10).feed("acme", meeting_of) as feed:
        yield feed


async def never() -> None:
    await asyncio.Event().wait()


async def take(changes: AsyncIterator[Change], count: int) -> list[str | None]:
    async with asyncio.timeout(SECONDS):
        return [(await anext(changes)).text for _ in range(count)]


async def test_slow_follower_should_get_every_change_in_order(redis_address: str, farm: Farm) -> None:
    meetings = [f"m{number}" for number in range(450)]
    async with feed_of(redis_address) as feed:
        slow = feed.follow(None, never)
        quick = feed.follow(None, never)
        farm.add(meeting_id=meetings[0])
        assert await take(slow, 1) == meetings[:1]
        for meeting in meetings[1:]:
            farm.add(meeting_id=meeting)
        # The feed keeps only the last of them in memory.
        assert await take(quick, len(meetings)) == meetings
        assert await take(slow, len(meetings) - 1) == meetings[1:]


async def test_follower_should_end_when_it_is_stopped(redis_address: str) -> None:
    async with feed_of(redis_address) as feed:
        stopped = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, stopped.set)
        async with asyncio.timeout(SECONDS):
            assert [change async for change in feed.follow(None, stopped.wait)] == []


async def test_damaged_change_should_be_a_gap(redis_address: str, farm: Farm) -> None:
    async with feed_of(redis_address) as feed:
        live = feed.follow(None, never)
        farm.redis.xadd(events_key("acme"), {"recording": "{}"})
        farm.redis.xadd(events_key("acme"), {"other": "x"})
        farm.add(meeting_id="whole")
        assert await take(live, 3) == [None, None, "whole"]
        assert await take(feed.follow(BEGINNING, never), 3) == [None, None, "whole"]


async def test_feed_should_go_on_after_redis_was_away_and_tell_what_was_lost(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, None)
    key = events_key("acme")
    async with connect_async(settings.redis_address) as client, AsyncExitStack() as stack:
        feeds = Feeds(client, 1)
        with pytest.raises(RedisUnavailableError):
            await stack.enter_async_context(feeds.feed("acme", meeting_of))
        with embedded_redis(settings), connect(settings.redis_address) as sender:
            feed = await stack.enter_async_context(feeds.feed("acme", meeting_of))
            changes = feed.follow(None, never)
            Records(sender).add(new_recording(meeting_id="first"))
            assert await take(changes, 1) == ["first"]
        coming = asyncio.create_task(take(changes, 1))
        await asyncio.sleep(1)
        assert not coming.done()
        with embedded_redis(settings), connect(settings.redis_address) as sender:
            Records(sender).add(new_recording(meeting_id="second"))
            assert await coming == ["second"]
        with embedded_redis(settings), connect(settings.redis_address) as sender:
            # More than the stream keeps, all at once.
            copy = new_recording(meeting_id="last").model_dump_json()
            with sender.pipeline() as pipeline:
                for _ in range(3):
                    pipeline.xadd(key, {"recording": copy}, maxlen=1, approximate=False)
                pipeline.execute()
            assert await take(changes, 2) == [None, "last"]
