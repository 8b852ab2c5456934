"""docs/troubleshooting.md has every code that the farm has, with its meaning and its remedy."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from recording_farm.api.error_types import ERROR_TYPES
from recording_farm.farm.cli.doctor import CHECKS
from recording_farm.farm.cli.doctor_help import HELP
from recording_farm.farm.recording.explanations import FAILURES, FINDINGS, STOP_REASONS, STORAGE
from recording_farm.farm.recording.findings import Finding
from recording_farm.farm.recording.model import NODE_SHUT_DOWN, STOPPED_BEFORE_START, ReasonKind
from recording_farm.farm.spool.set_aside import NODE_LOST
from testkit.troubleshooting import PAGE, page

SOURCE = Path(__file__).parents[2] / "recording_farm"
CODE = re.compile("[a-z]+(_[a-z]+)*")


def calls_of(*names: str) -> Iterator[ast.Call]:
    for file in [*SOURCE.glob("api/**/*.py"), *SOURCE.glob("farm/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                yield node


def codes_of(*names: str) -> set[str]:
    """The literal codes in all calls of these functions, wherever they stand among the parameters."""
    given = [
        value for call in calls_of(*names) for value in (*call.args, *(word.value for word in call.keywords))
    ]
    texts = {each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    return {text for text in texts if CODE.fullmatch(text)}


def codes_in_tables(folder: str) -> set[str]:
    """The codes in tables of reasons: tuples of a code and a message."""
    return {
        first.value
        for file in (SOURCE / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Tuple)
        and len(node.elts) in {2, 3}
        and isinstance(first := node.elts[0], ast.Constant)
        and isinstance(first.value, str)
        and CODE.fullmatch(first.value)
        and isinstance(second := node.elts[1], ast.Constant)
        and isinstance(second.value, str)
        and " " in second.value
    }


def test_page_should_be_current() -> None:
    present = PAGE.read_text()
    assert present == page(present), "run: python -m testkit.troubleshooting"


def test_every_type_of_an_error_should_be_explained() -> None:
    told = codes_of("error_response", "error_answer")
    assert {"internal_error", "not_ready"} <= told
    assert told <= ERROR_TYPES.keys()


def test_every_code_of_a_recording_should_be_explained() -> None:
    constants = {NODE_LOST, NODE_SHUT_DOWN, STOPPED_BEFORE_START}
    told = codes_of("Failure") | codes_in_tables("farm/jobs") | constants
    assert {"recorder_died", "no_free_slot"} <= told
    assert told == FAILURES.keys()
    assert set(ReasonKind) == STOP_REASONS.keys()
    assert set(Finding) == FINDINGS.keys()


def test_every_code_of_a_storage_should_be_explained() -> None:
    told = codes_of("StorageError", "AnswerError", "TransferError") | codes_in_tables("farm/storage/backends")
    assert {"wrong_region", "bad_tags", "damaged"} <= told
    assert told == STORAGE.keys()


@pytest.mark.parametrize("name", [name for name, _, _ in CHECKS])
def test_every_line_of_doctor_should_be_explained(name: str) -> None:
    assert all(HELP[name])
