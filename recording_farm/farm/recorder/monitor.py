"""The monitor of what is recorded: decides from what is seen of it each second what is the matter.

All of it is here in one table of rules. A look that comes late, because the machine stood still, says nothing
of the time before: of the time between two looks no more counts than two of them should take.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from recording_farm.browser_bot.page.probe import PageState
from recording_farm.browser_bot.stage.sound import SINK, SinkInput
from recording_farm.farm.recording.findings import Count, Finding, Tally

LOOK_SECONDS: Final = 1.0
MAX_SECONDS: Final = 2 * LOOK_SECONDS
UNHEARD_SECONDS: Final = 5.0
"""People pause when they speak; what counts is how long they were heard with nothing playing all the
while."""

STILL_SECONDS: Final = 10.0
COVERED_SECONDS: Final = 2.0
"""A window is taken off within some ms, if it can be."""

CUT_OFF_SECONDS: Final = 10.0
"""Pages that lose their connections get them back by themselves within some seconds, most of the time."""

BLANK_SECONDS: Final = 20.0
REJOIN_REST_SECONDS: Final = 60.0
"""A page that lost its meeting again and again is loaded anew no more often than this."""

MAX_REJOINS: Final = 10
VAIN_REJOINS: Final = 3
"""Loading it anew so often without anybody being there shows that all have left."""

REST_SECONDS: Final = 300.0
"""A cure that does not last is not tried again before this."""


class Remedy(Enum):
    """What is done about a finding."""

    NOTE = auto()
    """Nothing, besides telling of it; so it is with all of them."""
    EVIDENCE = auto()
    """What there is to see of it is kept."""
    BRING_BACK = auto()
    """What plays elsewhere is moved to the sink that is recorded."""
    REJOIN = auto()
    """The page is loaded anew and joined, in the same take."""
    NEW_STAGE = auto()
    """A new take on a new stage; it does not count as a break."""
    BREAK = auto()
    """The same as of a stage that has died."""
    END = auto()
    """The recording ends properly."""


@dataclass(frozen=True)
class Limits:
    """What a recording may come to: free disk and memory in bytes, and how long nobody may be there, in s.

    0 is any.
    """

    least_disk: int = 0
    most_memory: int = 0
    empty_seconds: float = 0


NO_LIMITS: Final = Limits()


@dataclass(frozen=True)
class Seen:
    """One look, at a time of the monotonic clock in s. None is what could not be seen, or is not looked at.

    `still`, `black` and `blank` are of the picture; `still` since the look before. Memory and free disk in
    bytes, and `room_for_cuts`: what of the disk is needed to cut what this node has recorded. For slowness
    the encoder has a watchdog of its own, which begins a cheaper take as long as there is one. `reachable`:
    whether the page's server can be reached; it is looked at while the page is cut off. `foreign_window`: a
    window besides the page's own was on the display since the look before; `covered`: one is there now.
    """

    at: float
    free_disk: int | None = None
    room_for_cuts: int = 0
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


@dataclass(frozen=True)
class Began:
    """A finding has begun, and what is to be done."""

    finding: Finding
    remedy: Remedy


@dataclass(frozen=True)
class Ended:
    """A finding is over, after so many seconds."""

    finding: Finding
    seconds: float


@dataclass(frozen=True)
class _Rule:
    """When something is the matter: true for so long in a row. What cannot be told leaves it as it is.

    The first `times` in a recording it may have another remedy than later; between two times there is a rest.
    """

    finding: Finding
    holds: Callable[[Seen], bool | None]
    remedy: Remedy
    seconds: float = 0
    later: Remedy | None = None
    times: int = 1
    rest: float = 0


@dataclass
class _Course:
    """How it stands with a rule: since how long it holds, and when the finding began."""

    held: float = 0.0
    present: bool = False
    began: float | None = None


class Monitor:
    """Looks at one recording, in order, and says what begins and what ends."""

    def __init__(self, limits: Limits, tally: Tally | None = None) -> None:
        """Begin with what was found before, by a recorder that died."""
        self._limits = limits
        self._tally = tally or Tally()
        self._at: float | None = None
        self._rejoins_left = 0
        self._was_loaded = False
        self._rules = self._table()
        self._courses = {rule.finding: _Course() for rule in self._rules}

    @property
    def tally(self) -> Tally:
        """What was found so far."""
        return self._tally

    @property
    def present(self) -> set[Finding]:
        """What is the matter now."""
        return {finding for finding, course in self._courses.items() if course.present}

    def page_loaded(self) -> None:
        """The page is loaded anew: what it was found to lack it may have now."""
        self._rejoins_left = max(0, self._rejoins_left - 1)
        self._was_loaded = True

    def see(self, seen: Seen) -> list[Began | Ended]:
        """What has begun and what is over."""
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
            _Rule(Finding.SOUND_ELSEWHERE, _plays_elsewhere, Remedy.BRING_BACK),
            _Rule(Finding.NO_SOUND, _is_unheard, Remedy.NEW_STAGE, UNHEARD_SECONDS, later=Remedy.NOTE),
            _Rule(Finding.FROZEN_PICTURE, _is_frozen, Remedy.BREAK, STILL_SECONDS),
            # Once: a page may lay over its video what nobody sees from outside, and do so again.
            _Rule(Finding.FROZEN_VIDEO, _is_stuck, Remedy.NEW_STAGE, STILL_SECONDS, later=Remedy.NOTE),
            # It was taken off at once.
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
        ]  # fmt: skip
        if limits.least_disk:
            rules.append(_Rule(Finding.DISK_FULL, self._is_disk_full, Remedy.END))
        if limits.most_memory:
            rules.append(
                _Rule(
                    Finding.MEMORY,
                    lambda seen: None if seen.memory is None else seen.memory > limits.most_memory,
                    Remedy.NEW_STAGE,
                    rest=REST_SECONDS,
                )
            )
        if limits.empty_seconds:
            rules.append(_Rule(Finding.MEETING_EMPTY, self._is_empty, Remedy.END, limits.empty_seconds))
        return rules

    def _is_disk_full(self, seen: Seen) -> bool | None:
        """Whether going on would leave too little to cut what is recorded, and the reserve besides."""
        if seen.free_disk is None:
            return None
        return seen.free_disk < self._limits.least_disk + seen.room_for_cuts

    def _is_empty(self, seen: Seen) -> bool | None:
        """Whether all have left: nobody sends anything, after somebody did, and nothing is on its way.

        What is on its way may be somebody coming back, after the network was gone for instance.
        """
        if seen.page is None:
            return None
        if seen.page.tracks or not self._tally.had_company:
            return False
        if seen.page.unsettled or not seen.page.online or seen.reachable is False:
            return None
        return True

    def _is_cut_off(self, seen: Seen) -> bool | None:
        """Whether the page has lost the meeting in which somebody was.

        Of a server in the middle (an SFU) a connection lives on when all have left; where browsers are
        connected with each other, none does, and the page is loaded anew in vain.
        """
        if self._was_loaded:
            return False
        if seen.page is None or not seen.page.online:
            return None
        return self._rejoins_left > 0 and not seen.page.connected

    def _is_blank(self, seen: Seen) -> bool | None:
        if self._was_loaded:
            return False
        return None if seen.blank is None else seen.blank and self._rejoins_left > 0

    def _change(self, rule: _Rule, seen: Seen, passed: float) -> Began | Ended | None:
        course = self._courses[rule.finding]
        match rule.holds(seen):
            case None:
                return None
            case False:
                held, course.held = course.held, 0.0
                if not course.present:
                    return None
                course.present = False
                return Ended(rule.finding, round(held, 1))
            case True:
                course.held += passed
                if course.present:
                    self._count(rule.finding, 0, passed)
                elif course.held >= rule.seconds and self._is_rested(rule, seen.at):
                    return self._begin(rule, seen.at)
        return None

    def _is_rested(self, rule: _Rule, at: float) -> bool:
        began = self._courses[rule.finding].began
        return began is None or at - began >= rule.rest

    def _begin(self, rule: _Rule, at: float) -> Began:
        course = self._courses[rule.finding]
        course.present, course.began = True, at
        before = self._tally.findings.get(rule.finding, Count())
        self._count(rule.finding, 1, course.held)
        return Began(rule.finding, rule.later if rule.later and before.times >= rule.times else rule.remedy)

    def _count(self, finding: Finding, times: int, seconds: float) -> None:
        before = self._tally.findings.get(finding, Count())
        count = Count(before.times + times, before.seconds + seconds)
        self._tally = replace(self._tally, findings={**self._tally.findings, finding: count})


def _plays_elsewhere(seen: Seen) -> bool | None:
    return None if seen.sound is None else any(each.sink != SINK for each in seen.sound)


def _is_offline(seen: Seen) -> bool | None:
    return None if seen.page is None else not seen.page.online


def _is_unheard(seen: Seen) -> bool | None:
    if seen.sound is None:
        return None
    if any(each.runs for each in seen.sound):
        return False
    # While nobody speaks there is nothing to be missed.
    return True if seen.page is not None and seen.page.speaking else None


def _is_frozen(seen: Seen) -> bool | None:
    """Whether the picture stands still although it need not.

    A picture may well stand still: a shared slide does, for an hour. But then the compositor goes on.
    """
    if seen.still is None or seen.page is None:
        return None
    return seen.still and not seen.page.drawn


def _is_stuck(seen: Seen) -> bool | None:
    """Whether the picture stands still although the browser draws and a video that is in sight moves.

    It may lie under another window, or what is drawn does not come to the display. The video of a shared
    slide goes on, too, but does not move.
    """
    if seen.still is None or seen.page is None:
        return None
    return seen.still and seen.page.drawn and seen.page.moving
