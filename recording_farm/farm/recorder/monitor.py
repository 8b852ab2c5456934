"""The monitor: decides each second, from an observation of a recording, what is wrong with it.

It is one table of rules. An observation that comes late, because the machine stood still, says nothing about
the time before: between two observations at most two intervals count.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from recording_farm.browser_bot.page.probe import PageState
from recording_farm.browser_bot.stage.audio import SINK, SinkInput
from recording_farm.browser_bot.stage.box import Resource
from recording_farm.farm.recording.findings import Count, Finding, Tally

INTERVAL_SECONDS: Final = 1.0
MAX_SECONDS: Final = 2 * INTERVAL_SECONDS
UNHEARD_SECONDS: Final = 5.0
"""People pause when they speak, so only the time counts in which they speak while nothing plays."""

STILL_SECONDS: Final = 10.0
COVERED_SECONDS: Final = 2.0
"""A window is removed within some ms, if it can be."""

CUT_OFF_SECONDS: Final = 10.0
"""Most pages that lose their connections reconnect by themselves within some seconds."""

BLANK_SECONDS: Final = 20.0
REJOIN_REST_SECONDS: Final = 60.0
"""A page that loses its meeting again and again is reloaded at most this often."""

MAX_REJOINS: Final = 10
VAIN_REJOINS: Final = 3
"""After so many reloads without a participant, everybody has left."""

REST_SECONDS: Final = 300.0
"""A remedy that did not last is not tried again before this."""


class Remedy(Enum):
    """What the recorder does about a finding; it reports every one."""

    NOTE = auto()
    """Nothing else."""
    EVIDENCE = auto()
    """Keep evidence."""
    MOVE_BACK = auto()
    """Move streams that play elsewhere to the recorded sink."""
    REJOIN = auto()
    """Reload the page and join it, in the same take."""
    NEW_STAGE = auto()
    """Start a new take on a new stage; it does not count as a failure."""
    FAIL_STAGE = auto()
    """Treat the stage as one that has died."""
    END = auto()
    """End the recording properly."""


@dataclass(frozen=True)
class Limits:
    """Limits of a recording: least free disk in bytes, and how long it may be empty, in s.

    0 means no limit.
    """

    least_disk: int = 0
    empty_seconds: float = 0


NO_LIMITS: Final = Limits()


@dataclass(frozen=True)
class Observation:
    """An observation at `at`, of the monotonic clock in s. None is what is unknown or was not observed.

    `still`, `black` and `blank` describe the picture; `still` since the last observation. Memory and free
    disk are in bytes; `space_for_cuts` is the disk space that pending cuts of this node need. The encoder has
    a watchdog of its own for slowness, which starts cheaper takes as long as there are any. `reachable`:
    whether the page's server accepts connections; checked while the page is cut off. `foreign_window`: a
    window other than the page's was on the display since the last observation; `covered`: one is there now.
    `broken_limit`: the stage has ended, because the page broke this limit of it.
    """

    at: float
    free_disk: int | None = None
    space_for_cuts: int = 0
    memory: int | None = None
    page: PageState | None = None
    sound: tuple[SinkInput, ...] | None = None
    still: bool | None = None
    black: bool | None = None
    blank: bool | None = None
    reachable: bool | None = None
    encoder_slow: bool | None = None
    foreign_window: bool | None = None
    covered: bool | None = None
    broken_limit: Resource | None = None


@dataclass(frozen=True)
class FindingStarted:
    """A finding has started; its remedy."""

    finding: Finding
    remedy: Remedy


@dataclass(frozen=True)
class FindingEnded:
    """A finding has ended, after so many seconds."""

    finding: Finding
    seconds: float


@dataclass(frozen=True)
class _Rule:
    """A finding starts when `holds` was true for `seconds` in a row; None leaves it as it is.

    After `times` in a recording its remedy is `later`; two starts are at least `rest` seconds apart.
    """

    finding: Finding
    holds: Callable[[Observation], bool | None]
    remedy: Remedy
    seconds: float = 0
    later: Remedy | None = None
    times: int = 1
    rest: float = 0


@dataclass
class _State:
    """State of a rule: for how long it has held, and when its finding last started."""

    held: float = 0.0
    present: bool = False
    started: float | None = None


class Monitor:
    """Takes the observations of one recording, in order, and returns the findings that start and end."""

    def __init__(self, limits: Limits, tally: Tally | None = None) -> None:
        """`tally` is what an earlier recorder found before it died."""
        self._limits = limits
        self._tally = tally or Tally()
        self._at: float | None = None
        self._rejoins_left = 0
        self._was_loaded = False
        self._rules = self._table()
        self._states = {rule.finding: _State() for rule in self._rules}

    @property
    def tally(self) -> Tally:
        """All findings so far."""
        return self._tally

    @property
    def present(self) -> set[Finding]:
        """The findings that hold now."""
        return {finding for finding, state in self._states.items() if state.present}

    def page_loaded(self) -> None:
        """The page was reloaded, so what it lacked may be there now."""
        self._rejoins_left = max(0, self._rejoins_left - 1)
        self._was_loaded = True

    def observe(self, seen: Observation) -> list[FindingStarted | FindingEnded]:
        """The findings that start and end with an observation."""
        passed = min(seen.at - self._at, MAX_SECONDS) if self._at is not None else 0.0
        self._at = seen.at
        self._tally = replace(
            self._tally,
            peak_memory=max(self._tally.peak_memory, seen.memory or 0),
            had_company=self._tally.had_company or (seen.page is not None and seen.page.tracks > 0),
        )
        if seen.page is not None and seen.page.tracks and seen.page.connected:
            self._rejoins_left = VAIN_REJOINS
        changes = [self._change(rule, seen, passed) for rule in self._rules]
        self._was_loaded = False
        return [change for change in changes if change is not None]

    def _table(self) -> list[_Rule]:
        limits = self._limits
        rules = [
            _Rule(Finding.SOUND_ELSEWHERE, _plays_elsewhere, Remedy.MOVE_BACK),
            _Rule(Finding.NO_SOUND, _is_unheard, Remedy.NEW_STAGE, UNHEARD_SECONDS, later=Remedy.NOTE),
            _Rule(Finding.FROZEN_PICTURE, _is_frozen, Remedy.FAIL_STAGE, STILL_SECONDS),
            # Once: a page may cover its video in a way that is invisible from outside, again and again.
            _Rule(Finding.FROZEN_VIDEO, _is_stuck, Remedy.NEW_STAGE, STILL_SECONDS, later=Remedy.NOTE),
            # It was removed at once.
            _Rule(
                Finding.FOREIGN_WINDOW, lambda seen: seen.foreign_window, Remedy.EVIDENCE,
                rest=REST_SECONDS,
            ),
            _Rule(
                Finding.COVERED_PICTURE, lambda seen: seen.covered, Remedy.NEW_STAGE, COVERED_SECONDS,
                later=Remedy.NOTE,
            ),
            _Rule(
                Finding.BLACK_PICTURE, lambda seen: seen.black, Remedy.EVIDENCE, STILL_SECONDS,
                rest=REST_SECONDS,
            ),
            _Rule(
                Finding.BLANK_PICTURE, self._is_blank, Remedy.REJOIN, BLANK_SECONDS,
                later=Remedy.NOTE, times=MAX_REJOINS, rest=REST_SECONDS,
            ),
            _Rule(Finding.PAGE_OFFLINE, _is_offline, Remedy.NOTE),
            _Rule(
                Finding.PAGE_CUT_OFF, self._is_cut_off, Remedy.REJOIN, CUT_OFF_SECONDS,
                later=Remedy.NOTE, times=MAX_REJOINS, rest=REJOIN_REST_SECONDS,
            ),
            _Rule(Finding.ENCODER_SLOW, lambda seen: seen.encoder_slow, Remedy.NOTE),
            # The stage has ended by itself.
            _Rule(Finding.MEMORY, lambda seen: _has_broken(Resource.MEMORY, seen), Remedy.NOTE),
            _Rule(Finding.STAGE_DISK, lambda seen: _has_broken(Resource.DISK, seen), Remedy.NOTE),
            _Rule(Finding.STAGE_TASKS, lambda seen: _has_broken(Resource.TASKS, seen), Remedy.NOTE),
        ]  # fmt: skip
        if limits.least_disk:
            rules.append(_Rule(Finding.DISK_FULL, self._is_disk_full, Remedy.END))
        if limits.empty_seconds:
            rules.append(_Rule(Finding.MEETING_EMPTY, self._is_empty, Remedy.END, limits.empty_seconds))
        return rules

    def _is_disk_full(self, seen: Observation) -> bool | None:
        """Whether continuing would leave less than the reserve after the pending cuts."""
        if seen.free_disk is None:
            return None
        return seen.free_disk < self._limits.least_disk + seen.space_for_cuts

    def _is_empty(self, seen: Observation) -> bool | None:
        """Whether everybody has left: nobody sends, after somebody did, and no connection is being made.

        A connection that is being made may be somebody who comes back after a network outage.
        """
        if seen.page is None:
            return None
        if seen.page.tracks or not self._tally.had_company:
            return False
        if seen.page.unsettled or not seen.page.online or seen.reachable is False:
            return None
        return True

    def _is_cut_off(self, seen: Observation) -> bool | None:
        """Whether the page has lost a meeting that had participants.

        The connection to an SFU survives when everybody leaves. Between browsers none does, and the page is
        reloaded in vain.
        """
        if self._was_loaded:
            return False
        if seen.page is None or not seen.page.online:
            return None
        return self._rejoins_left > 0 and not seen.page.connected

    def _is_blank(self, seen: Observation) -> bool | None:
        if self._was_loaded:
            return False
        return None if seen.blank is None else seen.blank and self._rejoins_left > 0

    def _change(self, rule: _Rule, seen: Observation, passed: float) -> FindingStarted | FindingEnded | None:
        state = self._states[rule.finding]
        match rule.holds(seen):
            case None:
                return None
            case False:
                held, state.held = state.held, 0.0
                if not state.present:
                    return None
                state.present = False
                return FindingEnded(rule.finding, round(held, 1))
            case True:
                state.held += passed
                if state.present:
                    self._count(rule.finding, 0, passed)
                elif state.held >= rule.seconds and self._is_rested(rule, seen.at):
                    return self._start(rule, seen.at)
        return None

    def _is_rested(self, rule: _Rule, at: float) -> bool:
        started = self._states[rule.finding].started
        return started is None or at - started >= rule.rest

    def _start(self, rule: _Rule, at: float) -> FindingStarted:
        state = self._states[rule.finding]
        state.present, state.started = True, at
        before = self._tally.findings.get(rule.finding, Count())
        self._count(rule.finding, 1, state.held)
        return FindingStarted(
            rule.finding, rule.later if rule.later and before.times >= rule.times else rule.remedy
        )

    def _count(self, finding: Finding, times: int, seconds: float) -> None:
        before = self._tally.findings.get(finding, Count())
        count = Count(before.times + times, before.seconds + seconds)
        self._tally = replace(self._tally, findings={**self._tally.findings, finding: count})


def _has_broken(resource: Resource, seen: Observation) -> bool | None:
    if seen.broken_limit is not None:
        return seen.broken_limit is resource
    return None if seen.page is None else False


def _plays_elsewhere(seen: Observation) -> bool | None:
    return None if seen.sound is None else any(each.sink != SINK for each in seen.sound)


def _is_offline(seen: Observation) -> bool | None:
    return None if seen.page is None else not seen.page.online


def _is_unheard(seen: Observation) -> bool | None:
    if seen.sound is None:
        return None
    if any(each.runs for each in seen.sound):
        return False
    # While nobody speaks, nothing is missing.
    return True if seen.page is not None and seen.page.speaking else None


def _is_frozen(seen: Observation) -> bool | None:
    """Whether the picture stands still because the compositor does.

    A shared slide may stand still for an hour, but the compositor keeps running.
    """
    if seen.still is None or seen.page is None:
        return None
    return seen.still and not seen.page.drawn


def _is_stuck(seen: Observation) -> bool | None:
    """Whether the picture stands still although the browser draws and a visible video moves.

    A window may cover it, or frames do not reach the display. The video of a shared slide plays, but does
    not move.
    """
    if seen.still is None or seen.page is None:
        return None
    return seen.still and seen.page.drawn and seen.page.moving
