"""Holding a suite's states against their baselines, and taking new baselines."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL.Image import Image as Picture

from recording_farm.layouts.comparison import Comparison, compare, compare_recorded
from recording_farm.layouts.errors import LayoutError, NothingToApproveError, RenderingFailedError
from recording_farm.layouts.frame import frame_at
from recording_farm.layouts.meetings import served_meetings
from recording_farm.layouts.pictures import IDLE_MASKS, MADE_BY, Box, paint, read_png, write_png
from recording_farm.layouts.render import open_renderer
from recording_farm.layouts.suite import State, Suite

BASELINES = "baseline"
ACTUAL = "actual"


class Outcome(StrEnum):
    """What came of a state."""

    SAME = "same"
    DIFFERENT = "different"
    NEW = "new"
    """It has no baseline yet."""
    FAILED = "failed"
    """There is no picture of it."""


@dataclass(frozen=True)
class Checked:
    """A state, what came of it, and the pictures there are."""

    state: State
    outcome: Outcome
    message: str
    """A line for people."""
    baseline: Picture | None = None
    actual: Picture | None = None
    comparison: Comparison | None = None
    idle_masks: tuple[str, ...] = ()
    """Selectors of its masks that have found nothing on its page."""

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints of it; boxes in pixels."""
        said: dict[str, Any] = {
            "name": self.state.name,
            "outcome": self.outcome.value,
            "message": self.message,
            "idle_masks": list(self.idle_masks),
        }
        if self.comparison is not None:
            said |= {
                "pixels": self.comparison.pixels,
                "allowed": self.comparison.allowed,
                "regions": [vars(region) for region in self.comparison.regions],
            }
        return said


def baseline_file(directory: Path, name: str) -> Path:
    """Where the baseline of the state `name` is, for a suite in `directory`."""
    return directory / BASELINES / f"{name}.png"


async def check(
    directory: Path,
    suite: Suite,
    states: Sequence[State],
    *,
    chromium: Path | None = None,
    authorities: Path | None = None,
) -> AsyncIterator[Checked]:
    """Picture each state and compare it: one stage for all of the same viewport, one state after the other.

    A state that cannot be pictured is told as FAILED and leaves the others to be checked. Raises
    RenderingFailedError when a stage does not come up.
    """
    async with AsyncExitStack() as parts:
        meetings = ""
        if any(state.meeting is not None for state in states):
            meetings = await parts.enter_async_context(served_meetings())
        by_viewport = sorted(states, key=lambda state: str(state.viewport))
        for viewport, group in groupby(by_viewport, key=lambda state: state.viewport):
            async with open_renderer(
                viewport, suite.time, chromium=chromium, authorities=authorities
            ) as renderer:
                for state in group:
                    try:
                        picture = await renderer.picture(state, state.address(directory, meetings))
                    except RenderingFailedError as error:
                        yield Checked(state, Outcome.FAILED, error.message)
                    else:
                        yield noted(await asyncio.to_thread(judge, directory, state, picture))


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
        return Checked(state, Outcome.NEW, "it has no baseline; look at it, then approve it", actual=picture)
    if recorded:
        comparison = compare_recorded(baseline, picture, state.threshold, state.tolerance)
    else:
        comparison = compare(baseline, picture, state.threshold, state.tolerance)
    outcome = Outcome.SAME if comparison.same else Outcome.DIFFERENT
    return Checked(state, outcome, _in_words(comparison, baseline, picture), baseline, picture, comparison)


def noted(checked: Checked) -> Checked:
    """The same with the masks that have found nothing, also in its message."""
    idle = () if checked.actual is None else checked.actual.info.get(IDLE_MASKS, ())
    if not idle:
        return checked
    named = ", ".join(map(repr, idle))
    return replace(checked, message=f"{checked.message}; masked nothing: {named}", idle_masks=tuple(idle))


def useless_masks(checked: Sequence[Checked]) -> list[str]:
    """Selectors that mask nothing in any state that has them and was pictured: they are written wrong."""
    pictured = [each for each in checked if each.actual is not None and IDLE_MASKS in each.actual.info]
    idle = dict.fromkeys(mask for each in pictured for mask in each.idle_masks)
    used = {mask for each in pictured for mask in each.state.masks if mask not in each.idle_masks}
    return [mask for mask in idle if mask not in used]


def _in_words(comparison: Comparison, baseline: Picture, actual: Picture) -> str:
    if baseline.size != actual.size:
        (width, height), (instead_width, instead_height) = actual.size, baseline.size
        return f"it is {width}x{height} and its baseline {instead_width}x{instead_height}"
    if not comparison.pixels:
        return "no pixel differs"
    where = "; ".join(map(str, comparison.regions[:3]))
    more = ", …" if len(comparison.regions) > 3 else ""
    allowed = f", {comparison.allowed} may" if comparison.allowed else ""
    made_by, before = (picture.info.get(MADE_BY, "") for picture in (actual, baseline))
    other = f"; its baseline was made by {before}, this by {made_by}" if before and before != made_by else ""
    if comparison.same or not made_by:
        other = ""
    return f"{comparison.pixels} pixels differ{allowed}: {where}{more}{other}"


def keep_actual(report: Path, checked: Sequence[Checked]) -> None:
    """Keep the pictures of what differs or is new in `report`, for approval, and no older ones."""
    directory = report / ACTUAL
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.png"):
        old.unlink()
    for each in checked:
        if each.actual is not None and each.outcome is not Outcome.SAME:
            write_png(each.actual, directory / f"{each.state.name}.png")


def approve(directory: Path, report: Path, states: Sequence[State]) -> list[str]:
    """Make what the last check kept in `report` the baselines of these states; returns their names.

    What is approved is what the report showed: nothing is pictured again. Raises NothingToApproveError when
    it kept nothing of them, LayoutError when a picture cannot be read.
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
            f"the last check kept no new picture in {report / ACTUAL}; run check first"
        )
    return approved
