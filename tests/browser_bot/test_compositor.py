from typing import Any

from browser_bot.compositor import latencies_us, periods_to_show
from browser_bot.stage import open_stage

ANIMATED = (
    "<body><script>let n=0;(function f(){document.body.textContent=n++;requestAnimationFrame(f)})()</script>"
)


def frame(phase: str, number: int, time: int, **reporter: Any) -> dict[str, Any]:
    """One end of a frame's slice as Chromium traces it."""
    return {
        "name": "PipelineReporter",
        "ph": phase,
        "pid": 7,
        "id2": {"local": hex(number)},
        "ts": time,
        "args": {"frame_reporter": reporter} if reporter else {},
    }


def test_latency_should_be_from_the_frames_time_to_its_showing() -> None:
    events = [
        frame("b", 1, 33_333, state="STATE_PRESENTED_ALL"),
        frame("b", 2, 66_666, state="STATE_PRESENTED_ALL"),
        frame("e", 1, 72_000),
        frame("e", 2, 105_000),
    ]
    assert latencies_us(reversed(events)) == [38_667, 38_334]


def test_dropped_and_forked_frames_should_not_count() -> None:
    events = [
        frame("b", 1, 0, state="STATE_DROPPED"),
        frame("b", 2, 0, state="STATE_PRESENTED_ALL", frame_type="FORKED"),
        frame("e", 1, 5_000),
        frame("e", 2, 5_000),
        {"name": "Other", "ph": "b", "ts": 1},
        frame("b", 3, 9_000, state="STATE_PRESENTED_ALL"),
    ]
    assert latencies_us(events) == []


async def test_page_that_moves_should_be_shown_within_a_few_periods() -> None:
    async with open_stage(640, 360, 30) as stage:
        await stage.browser.page.set_content(ANIMATED)
        assert 0 <= await periods_to_show(stage.browser, 30) <= 6


async def test_page_that_cannot_be_watched_should_be_taken_as_chromium_expects() -> None:
    async with open_stage(640, 360, 30) as stage:
        await stage.browser.page.close()
        assert await periods_to_show(stage.browser, 30) == 1
