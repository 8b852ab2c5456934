import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import redis

from recording_farm.farm.db.clients import connect, connect_async
from recording_farm.farm.db.embedded import embedded_redis
from recording_farm.farm.recording.commands import Command, commands_key, read_commands, send_command
from testkit.settings import settings_with


async def take(orders: AsyncIterator[Command], count: int) -> list[Command]:
    async with asyncio.timeout(20):
        return [await anext(orders) for _ in range(count)]


async def test_orders_should_arrive_in_order_from_the_first_one_on(
    redis_client: redis.Redis, redis_address: str
) -> None:
    recording_id = uuid4()
    send_command(redis_client, recording_id, Command.PAUSE)
    send_command(redis_client, recording_id, Command.RESUME)
    send_command(redis_client, uuid4(), Command.STOP)
    async with connect_async(redis_address) as client:
        orders = read_commands(client, recording_id)
        assert await take(orders, 2) == [Command.PAUSE, Command.RESUME]
        coming = asyncio.create_task(take(orders, 1))
        await asyncio.sleep(0.05)
        assert not coming.done()
        send_command(redis_client, recording_id, Command.STOP)
        assert await coming == [Command.STOP]


def test_orders_should_not_be_kept_for_ever(redis_client: redis.Redis) -> None:
    send_command(redis_client, "a", Command.STOP)
    assert 24 * 3600 < int(str(redis_client.ttl(commands_key("a")))) <= 25 * 3600


async def test_reading_should_end_when_it_is_cancelled_at_any_moment(
    redis_client: redis.Redis, redis_address: str
) -> None:
    async def read(recording_id: UUID) -> None:
        async with connect_async(redis_address) as client:
            async for _order in read_commands(client, recording_id):
                pass

    for number in range(100):
        recording_id = uuid4()
        reading = asyncio.create_task(read(recording_id))
        await asyncio.sleep(0.005)
        await asyncio.to_thread(send_command, redis_client, recording_id, Command.STOP)
        await asyncio.sleep(
            number / 50_000
        )  # up to 2 ms: the reader takes the order and asks for the next one
        reading.cancel()
        _, still_reading = await asyncio.wait([reading], timeout=3)
        assert not still_reading
        assert reading.cancelled()


async def test_order_that_is_none_should_be_passed_over(
    redis_client: redis.Redis, redis_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis_client.xadd(commands_key("a"), {"order": "explode"})
    redis_client.xadd(commands_key("a"), {"color": "red"})
    send_command(redis_client, "a", Command.STOP)
    async with connect_async(redis_address) as client:
        assert await take(read_commands(client, "a"), 1) == [Command.STOP]
    assert "explode" in caplog.text


async def test_orders_should_survive_a_restart_of_redis(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, None)
    async with connect_async(settings.redis_address) as client:
        orders = read_commands(client, "a")
        with embedded_redis(settings), connect(settings.redis_address) as sender:
            send_command(sender, "a", Command.PAUSE)
            assert await take(orders, 1) == [Command.PAUSE]
        coming = asyncio.create_task(take(orders, 1))
        await asyncio.sleep(1)
        assert not coming.done()
        with embedded_redis(settings), connect(settings.redis_address) as sender:
            send_command(sender, "a", Command.STOP)
            assert await coming == [Command.STOP]
