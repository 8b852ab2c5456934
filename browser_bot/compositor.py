"""How many frame periods Chromium's compositor takes to show what a page has drawn.

Between the time that a page draws a frame for and its showing on the display lie none, one or two periods.
Chance decides which when the page starts, and so it stays as long as nothing stalls (measured: 0, 1 or 2 in
runs of one page, the same in all frames of a run): frames wait in a queue that is as full as it was once
filled. Chromium itself reckons with one period, when it fits video to sound for instance. So in a recording
the picture would be a period too early or too late against its sound, unless the difference is known.

Chromium's trace has it: a `PipelineReporter` slice lasts from the time a frame is for to its showing.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from statistics import median_low
from typing import Any

from playwright.async_api import Error as PlaywrightError

from browser_bot.browser import Browser

logger = logging.getLogger(__name__)

EXPECTED = 1
PERIODS_WATCHED = 6
TRACE_TIMEOUT = 2.0
# The one category that has the slices and hardly anything else.
CATEGORY = "disabled-by-default-devtools.timeline.frame"


async def periods_to_show(browser: Browser, fps: int) -> int:
    """Watch the page for a few frames; whole periods from a frame's time to its showing, most often.

    Of a page that shows nothing new then, or cannot be traced, it is taken to be what Chromium expects.
    """
    try:
        async with asyncio.timeout(TRACE_TIMEOUT):
            events = await _trace(browser, PERIODS_WATCHED / fps)
    except (PlaywrightError, TimeoutError) as error:
        logger.warning("the compositor cannot be watched: %s", error)
        return EXPECTED
    shown = [latency * fps // 1_000_000 for latency in latencies_us(events)]
    logger.info("frames are shown after so many periods: %s", shown)
    return median_low(shown) if shown else EXPECTED


async def _trace(browser: Browser, seconds: float) -> list[Mapping[str, Any]]:
    session = await browser.context.new_cdp_session(browser.page)
    events: list[Mapping[str, Any]] = []
    complete = asyncio.Event()
    session.on("Tracing.dataCollected", lambda message: events.extend(message["value"]))
    session.on("Tracing.tracingComplete", lambda _: complete.set())
    try:
        configuration = {"includedCategories": [CATEGORY], "excludedCategories": ["*"]}
        await session.send("Tracing.start", {"transferMode": "ReportEvents", "traceConfig": configuration})
        await asyncio.sleep(seconds)
        await session.send("Tracing.end")
        await complete.wait()
    finally:
        await session.detach()
    return events


def latencies_us(events: Iterable[Mapping[str, Any]]) -> list[int]:
    """From a trace, how long each frame with something new of the page's script took to be shown."""
    begun: dict[tuple[int, str], int] = {}
    latencies = []
    for event in sorted(events, key=lambda event: event.get("ts", 0)):
        if event.get("name") != "PipelineReporter":
            continue
        frame = event["pid"], str(event.get("id2"))
        if event["ph"] == "b":
            reporter = event.get("args", {}).get("frame_reporter", {})
            # A forked slice is the part of a frame that could be shown before the script's was ready.
            if reporter.get("state") == "STATE_PRESENTED_ALL" and "frame_type" not in reporter:
                begun[frame] = event["ts"]
        elif frame in begun:
            latencies.append(event["ts"] - begun.pop(frame))
    return latencies
