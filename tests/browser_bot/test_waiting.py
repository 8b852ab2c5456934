"""The first of several things is waited for; the others are ended, and what is wrong with them is told."""

import asyncio
import logging
from collections.abc import Awaitable

import pytest

from recording_farm.browser_bot.waiting import first_done, first_of


class Waiter:
    """Something to wait for that never comes, and how it ended."""

    def __init__(self, error: Exception | None = None) -> None:
        """`error` is what it raises when it is cancelled, after a moment."""
        self._error = error
        self.began = asyncio.Event()
        self.ended = False

    async def wait(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            self.ended = True
            if self._error is not None:
                raise self._error


async def value(result: str) -> str:
    return result


async def failing(error: Exception) -> str:
    raise error


async def test_first_should_be_named_and_the_others_ended() -> None:
    others = Waiter(), Waiter()
    assert await first_of(one=others[0].wait(), now=asyncio.sleep(0.01), two=others[1].wait()) == "now"
    assert [other.ended for other in others] == [True, True]


@pytest.mark.parametrize("names", [("a", "b", "c"), ("c", "b", "a")])
async def test_of_what_comes_together_the_first_named_should_win(names: tuple[str, ...]) -> None:
    assert await first_of(**{name: value(name) for name in names}) == names[0]


async def test_result_of_the_first_should_be_kept() -> None:
    assert (await first_done(Waiter().wait(), value("here"))).result() == "here"
    task = asyncio.ensure_future(value("here"))
    assert await first_of(task=task, other=Waiter().wait()) == "task"
    assert task.result() == "here"


async def test_error_of_the_first_should_be_raised_when_the_others_have_ended() -> None:
    other = Waiter()
    with pytest.raises(ZeroDivisionError, match="boo"):
        await first_of(other=other.wait(), failing=failing(ZeroDivisionError("boo")))
    assert other.ended


async def test_error_of_the_first_should_be_in_what_is_returned() -> None:
    first = await first_done(failing(ZeroDivisionError("boo")))
    assert isinstance(first.exception(), ZeroDivisionError)


async def waiting_for(*waiters: Waiter) -> None:
    await first_of(**{str(number): waiter.wait() for number, waiter in enumerate(waiters)})


async def test_all_should_be_ended_when_the_wait_is_cancelled() -> None:
    waiters = Waiter(), Waiter()
    task = asyncio.ensure_future(waiting_for(*waiters))
    await asyncio.gather(*(waiter.began.wait() for waiter in waiters))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [waiter.ended for waiter in waiters] == [True, True]


async def test_all_should_be_ended_when_the_wait_is_cancelled_twice() -> None:
    waiters = Waiter(), Waiter()
    task = asyncio.ensure_future(waiting_for(*waiters))
    await asyncio.gather(*(waiter.began.wait() for waiter in waiters))
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(asyncio.all_tasks()) == 1


async def test_all_should_be_ended_when_time_is_up() -> None:
    other = Waiter()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await first_of(other=other.wait())
    assert other.ended


async def test_what_is_shielded_should_go_on() -> None:
    later = asyncio.Event()
    going_on = asyncio.ensure_future(later.wait())
    assert await first_of(shielded=asyncio.shield(going_on), now=asyncio.sleep(0)) == "now"
    assert not going_on.done()
    later.set()
    assert await going_on


@pytest.mark.parametrize("is_together", [True, False])
async def test_error_of_what_is_not_the_first_should_be_logged(
    caplog: pytest.LogCaptureFixture, is_together: bool
) -> None:
    caplog.set_level(logging.INFO, "recording_farm.browser_bot.waiting")
    error = ZeroDivisionError("boo")
    other: Awaitable[object] = failing(error) if is_together else Waiter(error).wait()
    assert await first_of(now=value("here") if is_together else asyncio.sleep(0.01), other=other) == "now"
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error


async def test_others_that_end_as_told_should_not_be_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "recording_farm.browser_bot.waiting")
    await first_of(other=Waiter().wait(), done=value("too"), now=asyncio.sleep(0.01))
    assert not caplog.records
