"""What the monitor decides, look by look."""

from dataclasses import dataclass, replace
from itertools import count

import pytest

from recording_farm.browser_bot.page.probe import PageState
from recording_farm.browser_bot.stage.audio import SinkInput
from recording_farm.browser_bot.stage.box import Resource
from recording_farm.farm.recorder.monitor import (
    MAX_REJOINS,
    REST_SECONDS,
    FindingEnded,
    FindingStarted,
    Limits,
    Monitor,
    Observation,
    Remedy,
)
from recording_farm.farm.recording.findings import Count, Finding, Tally

LIMITS = Limits(least_disk=100, empty_seconds=60)
PAGE = PageState(online=True, drawn=True, speaking=False, moving=False, tracks=0, unsettled=0, connected=0)
PLAYS = (SinkInput(1, "stage", runs=True),)
ELSEWHERE = (SinkInput(1, "other", runs=True),)
CORKED = (SinkInput(1, "stage", runs=False),)
WELL = Observation(
    0, free_disk=200, memory=900, page=PAGE, sound=PLAYS, still=False, black=False
)  # fmt: skip


@dataclass
class Looks:
    """A monitor and its clock: a look each second."""

    monitor: Monitor
    now: float = 0.0

    def observe(
        self, seconds: float = 1, page: PageState = PAGE, **other: object
    ) -> list[FindingStarted | FindingEnded]:
        changes: list[FindingStarted | FindingEnded] = []
        for _ in range(round(seconds)):
            self.now += 1
            changes += self.monitor.observe(replace(WELL, at=self.now, page=page, **other))  # type: ignore[arg-type]
        return changes


@pytest.fixture
def looks() -> Looks:
    looks = Looks(Monitor(LIMITS))
    assert looks.observe() == []
    return looks


def test_nothing_the_matter_should_be_nothing_found(looks: Looks) -> None:
    assert looks.observe(100) == []
    assert looks.monitor.present == set()
    assert looks.monitor.tally == Tally({}, 900)


def test_what_cannot_be_seen_should_be_nothing_found() -> None:
    monitor = Monitor(LIMITS)
    assert [change for at in range(100) for change in monitor.observe(Observation(at))] == []


def test_window_that_was_taken_off_should_be_kept_as_evidence(looks: Looks) -> None:
    assert looks.observe(1, foreign_window=True, covered=False) == [
        FindingStarted(Finding.FOREIGN_WINDOW, Remedy.EVIDENCE)
    ]
    assert looks.observe(1, foreign_window=False, covered=False) == [FindingEnded(Finding.FOREIGN_WINDOW, 1)]
    # Windows of a page that makes one after the other are one finding for a while.
    assert looks.observe(10, foreign_window=True, covered=False) == []


def test_window_that_stays_should_cost_the_stage_once(looks: Looks) -> None:
    assert looks.observe(2, foreign_window=True, covered=True) == [
        FindingStarted(Finding.FOREIGN_WINDOW, Remedy.EVIDENCE),
        FindingStarted(Finding.COVERED_PICTURE, Remedy.NEW_STAGE),
    ]
    assert looks.observe(1, foreign_window=False, covered=False) == [
        FindingEnded(Finding.FOREIGN_WINDOW, 2),
        FindingEnded(Finding.COVERED_PICTURE, 2),
    ]
    assert looks.observe(2, foreign_window=False, covered=True) == [
        FindingStarted(Finding.COVERED_PICTURE, Remedy.NOTE)
    ]


def test_finding_should_be_reported_once_when_it_begins_and_once_when_it_ends(looks: Looks) -> None:
    offline = replace(PAGE, online=False)
    assert looks.observe(7, offline) == [FindingStarted(Finding.PAGE_OFFLINE, Remedy.NOTE)]
    assert looks.monitor.present == {Finding.PAGE_OFFLINE}
    assert looks.observe(7) == [FindingEnded(Finding.PAGE_OFFLINE, 7)]
    looks.observe(2, offline)
    assert looks.monitor.tally.findings == {Finding.PAGE_OFFLINE: Count(2, 9)}


def test_sound_elsewhere_should_be_brought_back_at_once(looks: Looks) -> None:
    assert looks.observe(1, sound=ELSEWHERE) == [FindingStarted(Finding.SOUND_ELSEWHERE, Remedy.MOVE_BACK)]


@pytest.mark.parametrize("sound", [(), CORKED])
def test_missing_sound_should_want_a_new_stage_after_five_seconds_and_only_once(
    looks: Looks, sound: tuple[SinkInput, ...]
) -> None:
    speaking = replace(PAGE, speaking=True)
    assert looks.observe(4, speaking, sound=sound) == []
    # A pause between two sentences is no sound.
    assert looks.observe(10, sound=sound) == []
    assert looks.observe(1, speaking, sound=sound) == [FindingStarted(Finding.NO_SOUND, Remedy.NEW_STAGE)]
    assert looks.observe(1, sound=PLAYS) == [FindingEnded(Finding.NO_SOUND, 5)]
    assert looks.observe(5, speaking, sound=sound) == [FindingStarted(Finding.NO_SOUND, Remedy.NOTE)]


def test_silence_should_not_be_missing_sound(looks: Looks) -> None:
    assert looks.observe(100, sound=()) == []
    speaking = replace(PAGE, speaking=True)
    assert looks.observe(100, speaking) == []
    assert (
        looks.observe(4, speaking, sound=())
        + looks.observe(1, speaking)
        + looks.observe(4, speaking, sound=())
        == []
    )


def test_frozen_picture_should_be_a_break_and_a_still_one_nothing(looks: Looks) -> None:
    undrawn = replace(PAGE, drawn=False)
    assert looks.observe(3600, still=True) == []
    assert looks.observe(100, undrawn) == []
    assert looks.observe(9, undrawn, still=True) == []
    assert looks.observe(5, undrawn, still=True) == [
        FindingStarted(Finding.FROZEN_PICTURE, Remedy.FAIL_STAGE)
    ]


def test_still_picture_of_a_video_that_moves_should_want_a_new_stage_once(looks: Looks) -> None:
    moving = replace(PAGE, moving=True)
    assert looks.observe(100, moving) == []
    # A shared slide, and a camera that is covered now and then.
    assert (
        looks.observe(100, still=True) + looks.observe(9, moving, still=True) + looks.observe(1, still=True)
        == []
    )
    assert looks.observe(12, moving, still=True) == [FindingStarted(Finding.FROZEN_VIDEO, Remedy.NEW_STAGE)]
    assert looks.observe(1, moving) == [FindingEnded(Finding.FROZEN_VIDEO, 12)]
    assert looks.observe(12, moving, still=True) == [FindingStarted(Finding.FROZEN_VIDEO, Remedy.NOTE)]


def test_black_picture_should_leave_evidence_and_not_each_minute(looks: Looks) -> None:
    assert looks.observe(9, black=True) == []
    assert looks.observe(5, black=True) == [FindingStarted(Finding.BLACK_PICTURE, Remedy.EVIDENCE)]
    assert looks.observe(1) == [FindingEnded(Finding.BLACK_PICTURE, 14)]
    assert looks.observe(60, black=True) == []
    assert looks.observe(1) == []
    looks.now += REST_SECONDS
    assert looks.observe(20, black=True) == [FindingStarted(Finding.BLACK_PICTURE, Remedy.EVIDENCE)]


def test_disk_below_its_limit_should_end_the_recording(looks: Looks) -> None:
    assert looks.observe(5, free_disk=99) == [FindingStarted(Finding.DISK_FULL, Remedy.END)]


def test_disk_should_be_left_for_cutting_what_is_recorded(looks: Looks) -> None:
    assert looks.observe(space_for_cuts=100) == []
    assert looks.observe(space_for_cuts=101) == [FindingStarted(Finding.DISK_FULL, Remedy.END)]


def test_encoder_that_does_not_keep_up_should_be_noted_until_one_does(looks: Looks) -> None:
    assert looks.observe(1, encoder_slow=True) == [FindingStarted(Finding.ENCODER_SLOW, Remedy.NOTE)]
    # Of the next take it is not known at first.
    assert looks.observe(10, encoder_slow=None) == []
    assert looks.observe(3, encoder_slow=True) == []
    assert looks.observe(1, encoder_slow=False) == [FindingEnded(Finding.ENCODER_SLOW, 4)]
    assert looks.monitor.tally.findings == {Finding.ENCODER_SLOW: Count(1, 4)}


@pytest.mark.parametrize(
    ("limit", "finding"),
    [
        (Resource.MEMORY, Finding.MEMORY),
        (Resource.DISK, Finding.STAGE_DISK),
        (Resource.TASKS, Finding.STAGE_TASKS),
    ],
)
def test_broken_limit_of_a_stage_should_be_noted_until_the_next_stage_is_seen(
    looks: Looks, limit: Resource, finding: Finding
) -> None:
    assert looks.observe(1, broken_limit=limit) == [FindingStarted(finding, Remedy.NOTE)]
    assert looks.observe(1) == [FindingEnded(finding, 1)]
    assert looks.observe(1, broken_limit=limit) == [FindingStarted(finding, Remedy.NOTE)]


def test_most_memory_that_was_seen_should_be_kept(looks: Looks) -> None:
    looks.observe(1, memory=1001)
    looks.observe(1, memory=500)
    assert looks.monitor.tally.peak_memory == 1001


def test_limits_of_zero_should_be_none() -> None:
    looks = Looks(Monitor(Limits()))
    with_peers = replace(PAGE, tracks=2)
    assert looks.observe(1, with_peers) + looks.observe(1000, memory=1 << 50, free_disk=0) == []


def test_meeting_should_be_empty_a_minute_after_all_have_left(looks: Looks) -> None:
    assert looks.observe(10, replace(PAGE, tracks=2)) == []
    assert looks.observe(59) == []
    assert looks.observe(1) == [FindingStarted(Finding.MEETING_EMPTY, Remedy.END)]


def test_meeting_to_which_somebody_comes_back_should_not_be_empty(looks: Looks) -> None:
    peers = replace(PAGE, tracks=2)
    for _ in count(0, 1):
        assert looks.observe(1, peers) + looks.observe(50) == []
        if looks.now > 300:
            break


def test_page_that_never_had_anybody_should_not_be_empty(looks: Looks) -> None:
    assert looks.observe(1000) == []
    assert looks.observe(1000, replace(PAGE, unsettled=1)) == []


@pytest.mark.parametrize("trouble", [{"unsettled": 1}, {"online": False}])
def test_network_that_is_gone_should_not_look_like_everybody_left(
    looks: Looks, trouble: dict[str, int]
) -> None:
    assert looks.observe(1, replace(PAGE, tracks=2)) == []
    changes = looks.observe(1000, replace(PAGE, **trouble))  # type: ignore[arg-type]
    assert Finding.MEETING_EMPTY not in {change.finding for change in changes}


def test_machine_that_stood_still_should_not_count(looks: Looks) -> None:
    looks.observe(1, replace(PAGE, tracks=2))
    for _ in range(5):
        looks.now += 1000
        assert looks.observe(1) == []
    assert looks.observe(49) == []
    assert looks.observe(1) == [FindingStarted(Finding.MEETING_EMPTY, Remedy.END)]


def test_recorder_that_goes_on_should_count_on() -> None:
    looks = Looks(Monitor(LIMITS, Tally({Finding.NO_SOUND: Count(1, 5)}, 7000)))
    speaking = replace(PAGE, speaking=True)
    looks.observe()
    assert looks.observe(5, speaking, sound=()) == [FindingStarted(Finding.NO_SOUND, Remedy.NOTE)]
    assert looks.monitor.tally == Tally({Finding.NO_SOUND: Count(2, 10)}, 7000)


def test_recorder_that_goes_on_when_all_have_left_should_find_the_meeting_empty() -> None:
    before = Looks(Monitor(LIMITS))
    assert before.observe(1, replace(PAGE, tracks=2)) == []
    looks = Looks(Monitor(LIMITS, before.monitor.tally))
    looks.observe()
    assert looks.observe(60) == [FindingStarted(Finding.MEETING_EMPTY, Remedy.END)]


TOGETHER = replace(PAGE, tracks=2, connected=1)
CUT_OFF = [FindingStarted(Finding.PAGE_CUT_OFF, Remedy.REJOIN)]


def test_page_that_lost_its_connections_should_be_reloaded_after_ten_seconds(looks: Looks) -> None:
    assert looks.observe(5, TOGETHER) + looks.observe(9) == []
    assert looks.observe(1) == CUT_OFF
    looks.monitor.page_loaded()
    assert looks.observe(1) == [FindingEnded(Finding.PAGE_CUT_OFF, 10)]
    assert looks.observe(100, TOGETHER) == []
    assert looks.observe(10) == CUT_OFF


def test_connections_that_come_back_in_time_should_leave_the_page_alone(looks: Looks) -> None:
    looks.observe(5, TOGETHER)
    for _ in range(10):
        # Tracks of a connection that does not live any more say nothing.
        assert looks.observe(9, replace(PAGE, tracks=2, unsettled=1)) + looks.observe(1, TOGETHER) == []


def test_page_should_be_left_alone_while_it_is_offline_or_before_anybody_was_there(looks: Looks) -> None:
    assert looks.observe(100) == []
    looks.observe(5, TOGETHER)
    changes = looks.observe(100, replace(PAGE, online=False))
    assert [change.finding for change in changes] == [Finding.PAGE_OFFLINE]


def test_meeting_that_all_have_left_should_not_be_cut_off_while_its_server_is_connected(
    looks: Looks,
) -> None:
    looks.observe(5, TOGETHER)
    assert looks.observe(100, replace(PAGE, connected=1)) == [
        FindingStarted(Finding.MEETING_EMPTY, Remedy.END)
    ]


def test_empty_meeting_should_end_when_it_would_have_although_the_page_is_reloaded(looks: Looks) -> None:
    looks.observe(5, TOGETHER)
    assert looks.observe(10) == CUT_OFF
    looks.monitor.page_loaded()
    assert looks.observe(49) == [FindingEnded(Finding.PAGE_CUT_OFF, 10)]
    assert looks.observe(1) == [FindingStarted(Finding.MEETING_EMPTY, Remedy.END)]


def test_page_should_be_reloaded_three_times_in_vain_and_a_minute_apart() -> None:
    looks = Looks(Monitor(Limits()))
    looks.observe(5, TOGETHER)
    times = []
    for _ in range(1000):
        if CUT_OFF[0] in looks.observe():
            times.append(looks.now)
            looks.monitor.page_loaded()
    assert times == [15, 75, 135]
    # Until somebody is there again.
    looks.observe(5, TOGETHER)
    assert looks.observe(10) == CUT_OFF


def test_page_should_not_be_reloaded_for_ever() -> None:
    looks = Looks(Monitor(Limits()))
    remedies = []
    for _ in range(20):
        looks.observe(100, TOGETHER)
        remedies += [change.remedy for change in looks.observe(11) if isinstance(change, FindingStarted)]
        looks.monitor.page_loaded()
    assert remedies == [Remedy.REJOIN] * MAX_REJOINS + [Remedy.NOTE] * (20 - MAX_REJOINS)


def test_blank_page_should_be_reloaded_if_somebody_was_there(looks: Looks) -> None:
    assert looks.observe(100, blank=True) == []
    looks.observe(5, TOGETHER)
    assert looks.observe(19, TOGETHER, blank=True) + looks.observe(1, TOGETHER, blank=False) == []
    assert looks.observe(20, TOGETHER, blank=True) == [FindingStarted(Finding.BLANK_PICTURE, Remedy.REJOIN)]
    looks.monitor.page_loaded()
    # What is blank by design is loaded anew every five minutes at the most.
    changes = looks.observe(REST_SECONDS - 2, TOGETHER, blank=True)
    assert changes == [FindingEnded(Finding.BLANK_PICTURE, 20)]


def test_nobody_should_count_as_gone_while_the_server_cannot_be_reached(looks: Looks) -> None:
    looks.observe(5, TOGETHER)
    assert looks.observe(1000, reachable=False) == CUT_OFF
    assert looks.observe(60, reachable=None) == [FindingStarted(Finding.MEETING_EMPTY, Remedy.END)]
