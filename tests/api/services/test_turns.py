"""Who may do what the API does little of at a time."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from recording_farm.api.http_errors import BusyError, TooManyDownloadsError
from recording_farm.api.services.turns import Turns


class Scene:
    """Organizations that take turns; a turn lasts until it is ended."""

    def __init__(self, turns: Turns) -> None:
        self.began: list[str] = []
        self._turns = turns
        self._tasks: list[asyncio.Task[None]] = []
        self._ends: dict[str, asyncio.Event] = {}

    async def ask(self, *names: str) -> None:
        for name in names:
            self._ends[name] = asyncio.Event()
            self._tasks.append(asyncio.create_task(self._take(name)))
        await self.settle()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self.settle()

    async def cancel(self, name: str) -> None:
        task = self._tasks[list(self._ends).index(name)]
        task.cancel()
        await self.settle()

    async def _take(self, name: str) -> None:
        async with self._turns.taken(name.rstrip("0123456789")):
            self.began.append(name)
            await self._ends[name].wait()

    @staticmethod
    async def settle() -> None:
        for _ in range(20):
            await asyncio.sleep(0)


async def test_organization_should_leave_a_turn_for_the_next_one() -> None:
    scene = Scene(Turns(4, 8, BusyError))
    await scene.ask(*(f"umbra{n}" for n in range(8)))
    assert scene.began == ["umbra0", "umbra1"]
    await scene.ask("acme0", "initech0")
    assert scene.began[2:] == ["acme0", "initech0"]


async def test_those_that_wait_should_go_by_what_their_organization_uses() -> None:
    scene = Scene(Turns(1, 8, BusyError))
    await scene.ask("umbra0", "umbra1", "umbra2", "umbra3", "acme0", "initech0", "acme1")
    for name in ("umbra0", "umbra1", "acme0", "initech0", "umbra2", "acme1"):
        await scene.end(name)
    # Organizations take turns, whoever has asked most.
    assert scene.began == ["umbra0", "umbra1", "acme0", "initech0", "umbra2", "acme1", "umbra3"]


async def test_request_of_an_organization_with_many_that_wait_should_be_refused() -> None:
    turns = Turns(1, 2, BusyError)
    scene = Scene(turns)
    await scene.ask("umbra0", "umbra1", "umbra2")
    with pytest.raises(BusyError):
        async with turns.taken("umbra"):
            pass
    await scene.ask("acme0")
    await scene.end("umbra0")
    await scene.end("umbra1")
    assert scene.began == ["umbra0", "umbra1", "acme0"]


async def test_request_that_is_given_up_should_free_its_place() -> None:
    scene = Scene(Turns(1, 2, BusyError))
    await scene.ask("umbra0", "umbra1", "umbra2")
    await scene.cancel("umbra1")
    await scene.end("umbra0")
    assert scene.began == ["umbra0", "umbra2"]
    await scene.cancel("umbra2")
    await scene.ask("acme0")
    assert scene.began[-1] == "acme0"


async def test_refusal_should_come_at_once_where_nobody_may_wait() -> None:
    turns = Turns(3, 0, TooManyDownloadsError)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(turns.taken("umbra"))
        with pytest.raises(TooManyDownloadsError):
            await stack.enter_async_context(turns.taken("umbra"))
        await stack.enter_async_context(turns.taken("acme"))
    async with turns.taken("umbra"):
        pass
