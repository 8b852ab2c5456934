"""The project's own suite: the layouts of the built-in meeting."""

from pathlib import Path

import pytest

from recording_farm.layouts.check import Browser, Outcome, check, judge
from recording_farm.layouts.meetings import prints_start, served_meetings
from recording_farm.layouts.render import open_renderer
from recording_farm.layouts.report import write_report
from recording_farm.layouts.suite import State, load_suite

MEETING = Path(__file__).parent / "meeting"
SUITE = load_suite(MEETING)
# Each loads a meeting again, with real peer connections.
RUNS = 5


SOME = ("spotlight", "meeting-grid-4", "meeting-whiteboard")
"""Of the synthetic meeting and of that for people; the others are variations of these."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "states",
    [
        pytest.param(SUITE.chosen(SOME), id="some"),
        pytest.param(SUITE.states, id="all", marks=pytest.mark.long),
    ],
)
async def test_built_in_meeting_should_look_as_designed(tmp_path: Path, states: tuple[State, ...]) -> None:
    checked = await check(MEETING, SUITE, states, Browser(), jobs=2)

    wrong = [f"{each.state.name}: {each.message}" for each in checked if each.outcome is not Outcome.SAME]
    assert wrong == [], f"see {write_report(tmp_path, 'The built-in meeting', checked)}"
    assert [each.state for each in checked] == list(states)
    assert [each.warnings for each in checked] == [()] * len(states)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["spotlight"])
async def test_meeting_should_look_the_same_run_after_run(name: str, tmp_path: Path) -> None:
    (state,) = SUITE.chosen([name])
    async with served_meetings() as meetings, open_renderer(state.viewport, SUITE.time) as renderer:
        for _ in range(RUNS):
            checked = judge(MEETING, state, await renderer.picture(state, state.address(MEETING, meetings)))
            assert checked.outcome is Outcome.SAME, write_report(tmp_path, name, [checked])


@pytest.mark.parametrize(
    ("page", "prints"),
    [
        ("weekly?state=grid-4", True),
        ("weekly?layout=grid&state=screen", True),
        ("layouts?demo&layout=grid", True),
        ("demo", True),
        ("weekly", False),
        ("weekly?layout=grid", False),
        ("weekly?estate=grid-4", False),
        ("weekly?layout=grid#state=grid-4", False),
    ],
)
def test_lobby_should_be_distinguished_from_pages_that_print_the_signal(page: str, prints: bool) -> None:
    assert prints_start(page) is prints


async def test_lobby_that_is_waited_for_should_fail_at_once(tmp_path: Path) -> None:
    lobby = State(name="lobby", meeting="weekly?layout=grid", contract="console")

    (checked,) = await check(tmp_path, SUITE, [lobby], Browser(), jobs=1)

    assert checked.outcome is Outcome.FAILED
    assert "never prints START_RECORDING" in checked.message
