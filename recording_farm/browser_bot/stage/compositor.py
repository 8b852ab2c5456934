"""Measures the latency of Chromium's compositor: its depth, in frame periods from due time to display.

A frame is displayed zero, one or two periods after the time for which the page drew it. The depth is random
when the page starts, and constant until something stalls, such as a process that gets no CPU for 100 ms
(measured: 0, 1 or 2 in runs of one page, the same for all frames between two stalls). Frames wait in two
queues, the renderer's and the display compositor's, whose fill levels only change in a stall. Chromium itself
assumes one period, for instance to synchronize video to audio. So unless the depth is known, the video of a
recording is a period early or late against its audio, from the start or from a stall on.

Chromium's trace contains the depth: a `PipelineReporter` slice lasts from a frame's due time until it is
displayed, both in µs of CLOCK_MONOTONIC. Continuous tracing costs 1 % of a core, and reading the trace in
long chunks costs the same again (measured).
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
"""The first chunk of the trace is short, so that the depth is on disk soon if the recorder crashes."""

CHUNK_SECONDS = 10.0
TRACE_TIMEOUT = 5.0
CONFIRM_FRAMES = 10
"""A new depth counts after this many frames. Single frames of pages with slow scripts are late; following
each of them would spoil the cadence of everything else that moves."""

MAX_DEPTH = 4
"""A larger depth is not a queue of frames but a script that blocks its page."""

CATEGORY = "disabled-by-default-devtools.timeline.frame"
"""The category that contains the slices and hardly anything else."""


@dataclass(frozen=True)
class Frame:
    """A frame with an update by the page's script: its due time and its display time (µs)."""

    due_us: int
    shown_us: int


@dataclass(frozen=True)
class Depth:
    """From `since_us` on (CLOCK_MONOTONIC), frames are displayed `periods` periods after their due time."""

    since_us: int
    periods: int


class DepthDetector:
    """Detects lasting changes of the depth in a stream of frames."""

    def __init__(self, fps: int) -> None:
        """Start with an unknown depth."""
        self._fps = fps
        self._known: int | None = None
        self._run: list[Depth] = []

    def feed(self, frames: Iterable[Frame]) -> list[Depth]:
        """Add the next frames, in order, and return the changes that are certain now."""
        changes = []
        for frame in frames:
            depth = Depth(frame.shown_us, (frame.shown_us - frame.due_us) * self._fps // 1_000_000)
            if depth.periods > MAX_DEPTH or depth.periods == self._known:
                self._run.clear()
                continue
            if self._run and self._run[0].periods != depth.periods:
                self._run.clear()
            self._run.append(depth)
            if len(self._run) == CONFIRM_FRAMES or self._known is None:
                changes.append(self._run[0])
                self._known = depth.periods
                self._run.clear()
        return changes


async def trace_depth(browser: Browser, fps: int, over: asyncio.Event) -> AsyncIterator[Depth]:
    """Trace the page until `over` is set; yield the first depth and each change, some seconds late.

    Yields nothing while the page does not change or the browser cannot be traced.
    """
    watch = DepthDetector(fps)
    seconds = FIRST_SECONDS
    while not over.is_set():
        try:
            async with _session(browser) as session:
                while not over.is_set():
                    for depth in watch.feed(await _trace(session, seconds, over)):
                        logger.info("frames are displayed %d periods after their due time", depth.periods)
                        yield depth
                    seconds = CHUNK_SECONDS
        except (PlaywrightError, TimeoutError, ValueError, KeyError, zlib.error) as error:
            # The recording is still useful without it, and a hung browser may recover.
            logger.warning("cannot trace the compositor now: %r", error)
            await _until(over, CHUNK_SECONDS)


@asynccontextmanager
async def _session(browser: Browser) -> AsyncIterator[CDPSession]:
    """Open a separate session with the page; closing it ends a trace that is still running."""
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
    """Trace for `seconds` or until `over` is set, and return the frames."""
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
    return await asyncio.to_thread(
        lambda: parse_frames(json.loads(zlib.decompress(trace, 31))["traceEvents"])
    )


async def _read(session: CDPSession, stream: str) -> bytes:
    parts = []
    while True:
        part = await session.send("IO.read", {"handle": stream, "size": 1 << 20})
        parts.append(base64.b64decode(part["data"]))
        if part["eof"]:
            break
    await session.send("IO.close", {"handle": stream})
    return b"".join(parts)


def parse_frames(events: Iterable[Mapping[str, Any]]) -> list[Frame]:
    """Return the frames in a trace, in the order of display."""
    begun: dict[tuple[int, str], int] = {}
    frames = []
    for event in sorted(events, key=lambda event: event.get("ts", 0)):
        if event.get("name") != "PipelineReporter":
            continue
        frame = event["pid"], str(event.get("id2"))
        if event["ph"] == "b":
            reporter = event.get("args", {}).get("frame_reporter", {})
            # A slice with a frame_type is a fork: the part of a frame displayed before the script's part.
            if reporter.get("state") == "STATE_PRESENTED_ALL" and "frame_type" not in reporter:
                begun[frame] = event["ts"]
        elif frame in begun:
            frames.append(Frame(begun.pop(frame), event["ts"]))
    return frames
