"""Compares a suite's states with their baselines, and makes new baselines."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

from PIL.Image import Image as Picture

from recording_farm.layouts.comparison import Comparison, compare, compare_recorded
from recording_farm.layouts.errors import LayoutError, NothingToApproveError, RenderingFailedError
from recording_farm.layouts.frame import frame_at
from recording_farm.layouts.meetings import prints_start, served_meetings
from recording_farm.layouts.pictures import IDLE_MASKS, MADE_BY, WARNINGS, Box, paint, read_png, write_png
from recording_farm.layouts.render import Renderer, open_renderer
from recording_farm.layouts.suite import State, Suite, Viewport

BASELINES = "baseline"
ACTUAL = "actual"


class Outcome(StrEnum):
    """The result of a state."""

    SAME = "same"
    DIFFERENT = "different"
    NEW = "new"
    """It has no baseline yet."""
    FAILED = "failed"
    """There is no picture of it."""


@dataclass(frozen=True)
class Checked:
    """A state, its result, and its pictures."""

    state: State
    outcome: Outcome
    message: str
    """A line for people."""
    baseline: Picture | None = None
    actual: Picture | None = None
    comparison: Comparison | None = None
    idle_masks: tuple[str, ...] = ()
    """Selectors of its masks that match nothing on its page."""
    warnings: tuple[str, ...] = ()
    """Parts of its page that did not load."""

    def as_json(self) -> dict[str, Any]:
        """The state as `--json` prints it; boxes in pixels."""
        answer: dict[str, Any] = {
            "name": self.state.name,
            "outcome": self.outcome.value,
            "message": self.message,
            "idle_masks": list(self.idle_masks),
            "warnings": list(self.warnings),
        }
        if self.comparison is not None:
            answer |= {
                "pixels": self.comparison.pixels,
                "allowed": self.comparison.allowed,
                "not_counted": self.comparison.not_counted,
                "regions": [vars(region) for region in self.comparison.regions],
            }
        return answer


def baseline_file(directory: Path, name: str) -> Path:
    """Where the baseline of the state `name` is, for a suite in `directory`."""
    return directory / BASELINES / f"{name}.png"


@dataclass(frozen=True)
class Browser:
    """The browser that takes the pictures: by default the first one on PATH, with no further authorities."""

    chromium: Path | None = None
    authorities: Path | None = None


async def check(
    directory: Path,
    suite: Suite,
    states: Sequence[State],
    browser: Browser,
    *,
    jobs: int,
    report: Callable[[Checked], None] = lambda _: None,
) -> list[Checked]:
    """Picture each state and compare it, at most `jobs` at once; each job has a stage.

    `report` is called with each result as it comes; they are returned in the order of `states`. A state that
    cannot be pictured is FAILED and leaves the others to be checked. Raises RenderingFailedError when a stage
    does not start.
    """
    async with AsyncExitStack() as parts:
        meetings = ""
        if any(state.meeting is not None for state in states):
            meetings = await parts.enter_async_context(served_meetings())
        # Neighbors have one viewport, so that a job opens few stages.
        waiting = deque(sorted(states, key=lambda state: str(state.viewport)))
        results: dict[str, Checked] = {}

        async def work() -> None:
            async with _Stages(suite.time, browser) as stages:
                while waiting:
                    state = waiting.popleft()
                    results[state.name] = checked = await _check_one(directory, state, meetings, stages)
                    report(checked)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(jobs, len(states))):
                    group.create_task(work())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
    return [results[state.name] for state in states]


class _Stages:
    """A renderer for one viewport at a time."""

    def __init__(self, time: datetime, browser: Browser) -> None:
        self._time = time
        self._browser = browser
        self._open = AsyncExitStack()
        self._renderer: Renderer | None = None
        self._viewport: Viewport | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def renderer(self, viewport: Viewport) -> Renderer:
        """The renderer of this viewport, in place of the last one. Raises RenderingFailedError."""
        if self._renderer is None or viewport != self._viewport:
            self._renderer = None
            await self._open.aclose()
            self._renderer = await self._open.enter_async_context(
                open_renderer(
                    viewport,
                    self._time,
                    chromium=self._browser.chromium,
                    authorities=self._browser.authorities,
                )
            )
            self._viewport = viewport
        return self._renderer


async def _check_one(directory: Path, state: State, meetings: str, stages: _Stages) -> Checked:
    if state.contract == "console" and state.meeting is not None and not prints_start(state.meeting):
        return Checked(
            state,
            Outcome.FAILED,
            f"meeting {state.meeting} is the lobby, which never prints START_RECORDING; "
            "add state=grid-4 or demo to its query, or use `contract: plain`",
        )
    renderer = await stages.renderer(state.viewport)
    try:
        picture = await renderer.picture(state, state.address(directory, meetings))
    except RenderingFailedError as error:
        return Checked(state, Outcome.FAILED, error.message)
    return noted(await asyncio.to_thread(judge, directory, state, picture))


def check_recording(directory: Path, state: State, file: Path, at: Fraction) -> Checked:
    """Compare the frame at `at` seconds of a recording. Raises NoSuchFrameError."""
    frame = frame_at(file, at)
    paint(frame, tuple(mask for mask in state.masks if isinstance(mask, Box)))
    return judge(directory, state, frame, recorded=True)


def judge(directory: Path, state: State, picture: Picture, *, recorded: bool = False) -> Checked:
    """Compare a picture with its state's baseline.

    A recorded one may differ where the baseline is masked, and by what lossy encoding does.
    """
    try:
        baseline = read_png(baseline_file(directory, state.name))
    except LayoutError as error:
        return Checked(state, Outcome.FAILED, error.message, actual=picture)
    if baseline is None:
        return Checked(
            state, Outcome.NEW, "no baseline yet; look at the picture, then approve it", actual=picture
        )
    if recorded:
        comparison = compare_recorded(baseline, picture, state.threshold, state.tolerance)
    else:
        comparison = compare(baseline, picture, state.threshold, state.tolerance)
    outcome = Outcome.SAME if comparison.same else Outcome.DIFFERENT
    return Checked(state, outcome, _in_words(comparison, baseline, picture), baseline, picture, comparison)


def noted(checked: Checked) -> Checked:
    """The same with its page's warnings and its idle masks, which the message names too."""
    if checked.actual is None:
        return checked
    idle = tuple(checked.actual.info.get(IDLE_MASKS, ()))
    message = checked.message
    if idle:
        message += f"; masked nothing: {', '.join(map(repr, idle))}"
    warnings = tuple(checked.actual.info.get(WARNINGS, ()))
    return replace(checked, message=message, idle_masks=idle, warnings=warnings)


def useless_masks(checked: Sequence[Checked]) -> list[str]:
    """Selectors that match nothing in any pictured state that has them: they must be mistakes."""
    pictured = [each for each in checked if each.actual is not None and IDLE_MASKS in each.actual.info]
    idle = dict.fromkeys(mask for each in pictured for mask in each.idle_masks)
    used = {mask for each in pictured for mask in each.state.masks if mask not in each.idle_masks}
    return [mask for mask in idle if mask not in used]


def _in_words(comparison: Comparison, baseline: Picture, actual: Picture) -> str:
    if baseline.size != actual.size:
        (width, height), (instead_width, instead_height) = actual.size, baseline.size
        return f"it is {width}x{height} and its baseline {instead_width}x{instead_height}"
    if not comparison.pixels:
        if comparison.not_counted:
            return f"no pixel differs above the threshold; {comparison.not_counted} differ within it"
        return "no pixel differs"
    where = "; ".join(map(str, comparison.regions[:3]))
    more = ", …" if len(comparison.regions) > 3 else ""
    allowed = f", {comparison.allowed} may" if comparison.allowed else ""
    made_by, before = (picture.info.get(MADE_BY, "") for picture in (actual, baseline))
    other = f"; the baseline is from {before}, this is {made_by}" if before and before != made_by else ""
    if comparison.same or not made_by:
        other = ""
    return f"{comparison.pixels} pixels differ{allowed}: {where}{more}{other}"


def keep_actual(report: Path, checked: Sequence[Checked]) -> None:
    """Save the pictures of different and new states in `report`, for approval, and delete older ones."""
    directory = report / ACTUAL
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.png"):
        old.unlink()
    for each in checked:
        if each.actual is not None and each.outcome is not Outcome.SAME:
            write_png(each.actual, directory / f"{each.state.name}.png")


def approve(directory: Path, report: Path, states: Sequence[State]) -> list[str]:
    """Make the pictures that the last check saved in `report` the baselines of these states.

    Nothing is pictured again: the report showed exactly these. Returns the names of the approved states.
    Raises NothingToApproveError when there is no picture of them, LayoutError when one cannot be read.
    """
    approved = []
    for state in states:
        kept = report / ACTUAL / f"{state.name}.png"
        picture = read_png(kept)
        if picture is not None:
            write_png(picture, baseline_file(directory, state.name))
            kept.unlink()
            approved.append(state.name)
    if not approved:
        raise NothingToApproveError(
            f"the last check saved no new picture in {report / ACTUAL}; run check first"
        )
    return approved
