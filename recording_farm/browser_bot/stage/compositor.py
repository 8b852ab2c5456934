"""The latency of Chromium's compositor: frame periods from a page's drawing to the display.

Between the time that a page draws a frame for and its showing on the display lie none, one or two periods.
Chance decides which when the page starts, and so it stays until something stalls, a process that gets no
processor for 100 ms for instance (measured: 0, 1 or 2 in runs of one page, the same in all frames between two
stalls). Frames then wait in queues that are as full as they were once filled: the page's before the display
compositor, and that one's before the display. Chromium itself reckons with one period, when it fits video to
sound for instance. So in a recording the picture would be a period too early or too late against its sound,
from the start or from a stall on, unless the difference is known.

Chromium's trace has it: a `PipelineReporter` slice lasts from the time a frame is for to its showing, both in
µs of CLOCK_MONOTONIC. A trace that runs all the time costs 1 % of a core, and its reading, in long pieces,
as much again (measured).
"""

import asyncio
import base64
import json
import logging
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from playwright.async_api import CDPSession
from playwright.async_api import Error as PlaywrightError

from recording_farm.browser_bot.stage.browser import Browser

logger = logging.getLogger(__name__)

FIRST_SECONDS = 0.5
"""The first piece of the trace is short, so that a take is soon safe against a crash of the recorder."""

PIECE_SECONDS = 10.0
TRACE_TIMEOUT = 5.0
HOLD = 10
"""A depth counts once it has held for so many frames. Pages whose scripts are slow come late now and then; to
follow them frame by frame would spoil the cadence of all that moves beside them."""

DEEPEST = 4
"""Deeper is no queue of frames but a script that kept its page waiting."""

CATEGORY = "disabled-by-default-devtools.timeline.frame"
"""The one category that has the slices and hardly anything else."""


@dataclass(frozen=True)
class Frame:
    """A frame with something new of the page's script: what time it was for and when it was shown (µs)."""

    due_us: int
    shown_us: int


@dataclass(frozen=True)
class Depth:
    """From `since_us` on, in µs of CLOCK_MONOTONIC, frames are shown `periods` after their time."""

    since_us: int
    periods: int


class DepthWatch:
    """Finds in a stream of frames where the depth has changed for good."""

    def __init__(self, fps: int) -> None:
        """Begin with no depth known."""
        self._fps = fps
        self._known: int | None = None
        self._run: list[Depth] = []

    def feed(self, frames: Iterable[Frame]) -> list[Depth]:
        """Take the next frames, in order; the changes that they make certain."""
        changes = []
        for frame in frames:
            depth = Depth(frame.shown_us, (frame.shown_us - frame.due_us) * self._fps // 1_000_000)
            if depth.periods > DEEPEST or depth.periods == self._known:
                self._run.clear()
                continue
            if self._run and self._run[0].periods != depth.periods:
                self._run.clear()
            self._run.append(depth)
            if len(self._run) == HOLD or self._known is None:
                changes.append(self._run[0])
                self._known = depth.periods
                self._run.clear()
        return changes


async def depths(browser: Browser, fps: int, over: asyncio.Event) -> AsyncIterator[Depth]:
    """Watch the page until `over` is set; yields the depth at first and each change, some seconds late.

    Of a page that shows nothing new, or while the browser cannot be traced, nothing is yielded.
    """
    watch = DepthWatch(fps)
    seconds = FIRST_SECONDS
    while not over.is_set():
        try:
            async with _session(browser) as session:
                while not over.is_set():
                    for depth in watch.feed(await _trace(session, seconds, over)):
                        logger.info("frames are shown %d periods after their time", depth.periods)
                        yield depth
                    seconds = PIECE_SECONDS
        except (PlaywrightError, TimeoutError, ValueError, KeyError, zlib.error) as error:
            # A recording without it is still a recording; and a browser that hung may come back.
            logger.warning("the compositor cannot be watched just now: %r", error)
            await _until(over, PIECE_SECONDS)


@asynccontextmanager
async def _session(browser: Browser) -> AsyncIterator[CDPSession]:
    """A session of its own with the page; a trace that still runs in it ends with it."""
    async with asyncio.timeout(TRACE_TIMEOUT):
        session = await browser.context.new_cdp_session(browser.page)
    try:
        yield session
    finally:
        async with asyncio.timeout(TRACE_TIMEOUT):
            await session.detach()


async def _until(over: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await over.wait()
    except TimeoutError:
        pass


async def _trace(session: CDPSession, seconds: float, over: asyncio.Event) -> list[Frame]:
    """Trace for some seconds, or until it is over."""
    complete: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def finish(message: Mapping[str, Any]) -> None:
        if not complete.done():
            complete.set_result(message["stream"])

    session.once("Tracing.tracingComplete", finish)
    configuration = {"includedCategories": [CATEGORY], "excludedCategories": ["*"]}
    async with asyncio.timeout(TRACE_TIMEOUT):
        await session.send(
            "Tracing.start",
            {
                "transferMode": "ReturnAsStream",
                "streamCompression": "gzip",
                "traceConfig": configuration,
            },
        )
    await _until(over, seconds)
    async with asyncio.timeout(TRACE_TIMEOUT):
        await session.send("Tracing.end")
        trace = await _read(session, await complete)
    return await asyncio.to_thread(lambda: frames_of(json.loads(zlib.decompress(trace, 31))["traceEvents"]))


async def _read(session: CDPSession, stream: str) -> bytes:
    parts = []
    while True:
        part = await session.send("IO.read", {"handle": stream, "size": 1 << 20})
        parts.append(base64.b64decode(part["data"]))
        if part["eof"]:
            break
    await session.send("IO.close", {"handle": stream})
    return b"".join(parts)


def frames_of(events: Iterable[Mapping[str, Any]]) -> list[Frame]:
    """The frames in a trace, as they were shown."""
    begun: dict[tuple[int, str], int] = {}
    frames = []
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
            frames.append(Frame(begun.pop(frame), event["ts"]))
    return frames
