import asyncio
import os
import signal
from itertools import pairwise
from typing import Any

import pytest

from recording_farm.browser_bot.stage import compositor
from recording_farm.browser_bot.stage.compositor import (
    CONFIRM_FRAMES,
    Depth,
    DepthDetector,
    Frame,
    parse_frames,
    trace_depth,
)
from recording_farm.browser_bot.stage.stage import open_stage
from testkit.machine.processes import below, words_of

PERIOD = 33_333
ANIMATED = (
    "<body><script>let n=0;(function f(){document.body.textContent=n++;requestAnimationFrame(f)})()</script>"
)


def slice_end(phase: str, number: int, time: int, **reporter: Any) -> dict[str, Any]:
    """One end of a frame's slice as Chromium traces it."""
    return {
        "name": "PipelineReporter",
        "ph": phase,
        "pid": 7,
        "id2": {"local": hex(number)},
        "ts": time,
        "args": {"frame_reporter": reporter} if reporter else {},
    }


def frames(first: int, *periods: int) -> list[Frame]:
    """Frames one after the other from place `first`, each shown so many periods after its time."""
    return [Frame((first + i) * PERIOD, (first + i + p) * PERIOD + 5_000) for i, p in enumerate(periods)]


def test_frame_should_last_from_its_time_to_its_showing() -> None:
    events = [
        slice_end("b", 1, 33_333, state="STATE_PRESENTED_ALL"),
        slice_end("b", 2, 66_666, state="STATE_PRESENTED_ALL"),
        slice_end("e", 1, 72_000),
        slice_end("e", 2, 105_000),
    ]
    assert parse_frames(reversed(events)) == [Frame(33_333, 72_000), Frame(66_666, 105_000)]


def test_dropped_and_forked_frames_should_not_count() -> None:
    events = [
        slice_end("b", 1, 0, state="STATE_DROPPED"),
        slice_end("b", 2, 0, state="STATE_PRESENTED_ALL", frame_type="FORKED"),
        slice_end("e", 1, 5_000),
        slice_end("e", 2, 5_000),
        {"name": "Other", "ph": "b", "ts": 1},
        slice_end("b", 3, 9_000, state="STATE_PRESENTED_ALL"),
    ]
    assert parse_frames(events) == []


def test_first_depth_should_be_reported_at_once() -> None:
    assert DepthDetector(30).feed(frames(0, 2)) == [Depth(2 * PERIOD + 5_000, 2)]


def test_change_should_be_dated_from_its_first_frame_once_it_has_held() -> None:
    watch = DepthDetector(30)
    watch.feed(frames(0, 0, 0, 0))
    assert watch.feed(frames(3, *[1] * (CONFIRM_FRAMES - 1))) == []
    assert watch.feed(frames(2 + CONFIRM_FRAMES, 1, 1)) == [Depth(4 * PERIOD + 5_000, 1)]


def test_frames_that_come_late_now_and_then_should_change_nothing() -> None:
    watch = DepthDetector(30)
    watch.feed(frames(0, 1))
    assert watch.feed(frames(1, *[2, 1, 2, 2, 1, 0] * 20)) == []


def test_script_that_kept_its_page_waiting_should_not_pass_for_a_queue() -> None:
    watch = DepthDetector(30)
    watch.feed(frames(0, 1))
    assert watch.feed(frames(1, *[30] * 50)) == []


@pytest.mark.long
async def test_depth_of_a_page_that_moves_should_follow_a_stall() -> None:
    over = asyncio.Event()
    found: list[Depth] = []

    async def watch() -> None:
        found.extend([depth async for depth in trace_depth(stage.browser, 30, over)])

    async with open_stage(640, 360, 30) as stage:
        await stage.browser.page.set_content(ANIMATED)
        watching = asyncio.create_task(watch())
        await asyncio.sleep(1.5)
        gpu = _gpu_process()
        # Chance decides what a stall leaves; in some of many it is another depth than before.
        for _ in range(8):
            os.kill(gpu, signal.SIGSTOP)
            await asyncio.sleep(0.1)
            os.kill(gpu, signal.SIGCONT)
            await asyncio.sleep(0.6)
        over.set()
        await asyncio.wait_for(watching, 5)
    assert found
    assert all(0 <= depth.periods <= 4 for depth in found)
    assert all(a.since_us < b.since_us and a.periods != b.periods for a, b in pairwise(found))


@pytest.mark.long
async def test_browser_that_hung_for_a_while_should_be_watched_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compositor, "TRACE_TIMEOUT", 0.5)
    monkeypatch.setattr(compositor, "CHUNK_SECONDS", 0.3)
    over = asyncio.Event()
    found: list[Depth] = []

    async def watch() -> None:
        found.extend([depth async for depth in trace_depth(stage.browser, 30, over)])

    async with open_stage(640, 360, 30) as stage:
        main = next(
            child
            for child in below()
            if "chrom" in child.name() and not any("--type=" in word for word in words_of(child))
        )
        main.suspend()
        watching = asyncio.create_task(watch())
        await asyncio.sleep(1.5)
        main.resume()
        await stage.browser.page.set_content(ANIMATED)
        await asyncio.sleep(3)
        over.set()
        await asyncio.wait_for(watching, 5)
    assert found
    assert "cannot trace the compositor" in caplog.text


async def test_page_that_cannot_be_watched_should_tell_nothing() -> None:
    over = asyncio.Event()
    async with open_stage(640, 360, 30) as stage:
        await stage.browser.page.close()
        asyncio.get_running_loop().call_later(0.5, over.set)
        assert [depth async for depth in trace_depth(stage.browser, 30, over)] == []


def _gpu_process() -> int:
    return below(word="--type=gpu-process")[0].pid
