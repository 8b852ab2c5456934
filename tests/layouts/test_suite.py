import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recording_farm.layouts.errors import BadSuiteError
from recording_farm.layouts.meetings import prints_start
from recording_farm.layouts.pictures import Box
from recording_farm.layouts.suite import (
    MAX_BYTES,
    State,
    Tolerance,
    Viewport,
    load_suite,
    read_suite,
    state_of,
)

DOCS = Path(__file__).parents[2] / "docs" / "layouts.md"
GOOD = b"""
viewport: 720x1280
masks: [video]
tolerance: 0.5%
states:
  - name: grid
    meeting: weekly?layout=grid
    script: hide()
  - name: lobby
    url: pages/lobby.html?dark
    viewport: 640x360
    masks:
      - {x: 1, y: 2, width: 3, height: 4}
    tolerance: 20
"""


def complaint(text: str) -> str:
    with pytest.raises(BadSuiteError) as caught:
        read_suite(text.encode(), "suite.yaml")
    return caught.value.message


def test_states_should_have_what_the_suite_says_where_they_say_nothing() -> None:
    suite = read_suite(GOOD, "suite.yaml")

    grid, lobby = suite.states
    assert (grid.viewport, grid.masks, grid.tolerance) == (
        Viewport(720, 1280),
        ("video",),
        Tolerance(0, 0.005),
    )
    assert lobby.viewport == Viewport(640, 360)
    assert lobby.masks == (Box(1, 2, 3, 4),)
    assert lobby.tolerance.of(1_000_000) == 20
    assert suite.time == datetime(2026, 1, 15, 10, tzinfo=UTC)


def test_addresses_should_be_of_the_meeting_or_beside_the_suite(tmp_path: Path) -> None:
    grid, lobby = read_suite(GOOD, "suite.yaml").states

    assert grid.address(tmp_path, "http://127.0.0.1:1/meet/") == "http://127.0.0.1:1/meet/weekly?layout=grid"
    assert lobby.address(tmp_path, "") == f"file://{tmp_path}/pages/lobby.html?dark"
    remote = State(name="a", url="https://meet.example.com/a?b")
    assert remote.address(tmp_path, "") == "https://meet.example.com/a?b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "suite.yaml:1: a suite is a mapping with a list of states"),
        ("- a", "suite.yaml:1: a suite is a mapping with a list of states"),
        ("states: []", "suite.yaml:1: states: must have at least one entry"),
        ("states:\n - name: a\n   url: [", "suite.yaml:3: "),
        (
            "states:\n - name: a\n   url: a.html\n   color: red",
            "suite.yaml:4: states.0.color: unknown field; there are viewport, contract",
        ),
        (
            "states:\n - name: a\n   url: a.html\n - name: b\n   url: b.html\n   viewport: 1x1",
            "suite.yaml:6: states.1.viewport: width and height must be even, from 16 to 1920",
        ),
        ("states:\n - url: a.html", "suite.yaml:2: states.0.name: is required"),
        ("states:\n - name: a", "suite.yaml:2: states.0: a state needs either url or meeting"),
        ("states:\n - {name: a, url: a, meeting: b}", "suite.yaml:2: states.0: a state needs either"),
        (
            "states:\n - name: a\n   url: javascript:x",
            "suite.yaml:2: states.0: url must be http, https or file",
        ),
        ("states:\n - {name: a, url: a}\n - {name: A, url: b}", "several states are named a"),
        (
            "viewport: wide\nstates:\n - {name: a, url: a}",
            "suite.yaml:1: viewport: must be a size like 1280x720",
        ),
        ("tolerance: 101%\nstates:\n - {name: a, url: a}", "suite.yaml:1: tolerance: must be a number"),
        ("tolerance: -3\nstates:\n - {name: a, url: a}", "suite.yaml:1: tolerance: must be a number"),
        ("threshold: 2\nstates:\n - {name: a, url: a}", "suite.yaml:1: threshold: must be 1 or less"),
        ("time: 2026-01-15\nstates:\n - {name: a, url: a}", "suite.yaml:1: time: needs a time zone"),
        (
            "masks:\n - video\n - {x: 0, y: 0, width: 0, height: 1}\nstates:\n - {name: a, url: a}",
            "suite.yaml:3: masks.1.width: must be 1 or more",
        ),
        (
            "masks: [4]\nstates:\n - {name: a, url: a}",
            "suite.yaml:1: masks.0: must be a CSS selector or a box",
        ),
        ("masks: [{x: 0}]\nstates:\n - {name: a, url: a}", "suite.yaml:1: masks.0.y: is required"),
        (
            "contract: sdk\nstates:\n - {name: a, url: a}",
            "suite.yaml:1: contract: must be 'plain' or 'console'",
        ),
        ("states:\n - {name: a, url: 'http://[x'}", "suite.yaml:2: states.0: url is not a valid address"),
        ("x: !!python/object/apply:os.system [id]", "suite.yaml:1: could not determine a constructor"),
        ("\x00", "suite.yaml: not valid YAML"),
    ],
)
def test_fault_should_be_reported_with_its_line_and_field(text: str, expected: str) -> None:
    assert expected in complaint(text)


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "a b", "<b>", "-rf", "", "a\\n", "é", "a" * 101])
def test_name_that_is_no_plain_file_name_should_be_refused(name: str) -> None:
    assert "suite.yaml:2: states.0.name: must be 1 to 100 letters" in complaint(
        f'states:\n - {{url: a, name: "{name}"}}'
    )


def test_all_faults_should_be_reported_at_once_but_not_hundreds() -> None:
    states = "\n".join(f" - {{name: s{number}}}" for number in range(200))

    lines = complaint(f"states:\n{states}").splitlines()

    assert len(lines) == 10
    assert lines[9].startswith("suite.yaml:11: ")


def test_fault_should_be_reported_without_what_follows_from_it_and_in_plain_words() -> None:
    told = complaint("colr: red\nstates:\n - {name: a b, url: a}\n - name: b\n   urk: c\n")

    assert "at least" not in told
    assert len(told.splitlines()) == 3
    assert not re.search("Input|String|Tuple|validation|Extra", told)


def test_fields_of_the_fixture_should_be_reported_without_a_line() -> None:
    with pytest.raises(BadSuiteError) as caught:
        state_of({"name": "a", "url": "a", "viewport": "1x1", "mask": []})
    first, second = caught.value.message.splitlines()
    assert first == "viewport: width and height must be even, from 16 to 1920"
    assert second.startswith("mask: unknown field; there are ")


def test_suite_in_the_docs_should_be_one() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    suite = read_suite(example.encode(), "layouts.md")
    assert len(suite.states) >= 3
    meetings = [state for state in suite.states if state.meeting is not None]
    assert meetings
    assert all(
        prints_start(state.meeting) for state in meetings if state.meeting and state.contract == "console"
    )


def test_unknown_states_should_be_refused() -> None:
    suite = read_suite(GOOD, "suite.yaml")

    assert [state.name for state in suite.chosen(["lobby"])] == ["lobby"]
    assert len(suite.chosen([])) == 2
    with pytest.raises(BadSuiteError, match="no state garden"):
        suite.chosen(["lobby", "garden"])


def test_suite_that_is_not_there_or_too_large_should_be_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSuiteError, match=r"suite\.yaml cannot be read: No such file"):
        load_suite(tmp_path)
    (tmp_path / "suite.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(BadSuiteError, match="more than"):
        load_suite(tmp_path)


def test_page_should_be_shown_without_secrets() -> None:
    state = State(name="a", url="https://user:pass@meet.example.com/room?token=secret#secret")

    assert str(state) == "https://meet.example.com/room"
