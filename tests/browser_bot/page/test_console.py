"""What a page prints, as text, and whether it is a signal."""

from typing import Any

import pytest

from recording_farm.browser_bot.page.console import (
    MAX_PARTS,
    MAX_TEXT,
    ConsoleMessage,
    argument_texts,
    exception_text,
    find_signal,
)

START = "START_RECORDING"


def printed(*values: Any) -> ConsoleMessage:
    """A call as the browser tells of it."""
    arguments = [
        value
        if isinstance(value, dict)
        else {"type": "string" if isinstance(value, str) else "number", "value": value}
        for value in values
    ]
    return ConsoleMessage("log", *argument_texts(arguments))


@pytest.mark.parametrize(
    "values",
    [
        [START],
        [f" {START}\n"],
        # As LiveKit's Egress: any argument.
        ["[rec]", START],
        [START, {"type": "object", "description": "Object"}],
        [1, START],
        # With styles and formats.
        [f"%c{START}", "color: red"],
        [f"%c[rec]%c {START}", "color: red", ""],
        ["%s: %s", "info", START],
        ["%sRECORDING", "START_"],
        # Of logging libraries.
        [f"[rec] {START}"],
        [f"12:30:01 INFO: {START}"],
        [f"[12:30] (room): {START}"],
        [f"app | {START}"],
    ],
)
def test_signal_should_be_heard(values: list[Any]) -> None:
    assert find_signal(printed(*values), (START, "END_RECORDING")) == (START, "")


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        [f"waiting for {START}"],
        [f"{START} comes soon"],
        [f"NOT_{START}"],
        [f"expected: {START}"],
        [f"mistrace:{START}"],
        [START.lower()],
        ["%s", f"not {START}"],
    ],
)
def test_what_only_mentions_a_signal_should_be_none(values: list[Any]) -> None:
    assert find_signal(printed(*values), (START,)) == ("", "")


def test_refusal_should_be_heard_with_its_reason() -> None:
    assert find_signal(printed("REFUSE: it is full"), (START,), ("REFUSE:",)) == ("REFUSE:", "it is full")
    assert find_signal(printed("REFUSE: %s", "it is full"), (START,), ("REFUSE:",)) == (
        "REFUSE:",
        "it is full",
    )


def test_line_should_be_as_a_console_shows_it() -> None:
    preview = {
        "type": "object",
        "description": "Object",
        "overflow": True,
        "properties": [{"name": "n", "type": "number", "value": "1"}],
    }
    thing = {"type": "object", "description": "Object", "preview": preview}
    numbers = preview | {"subtype": "array", "overflow": False}
    list_ = {"type": "object", "subtype": "array", "description": "Array(1)", "preview": numbers}
    rest = [
        {"type": "undefined"},
        {"type": "object", "subtype": "null", "value": None},
        {"type": "number", "unserializableValue": "-0"},
        {"type": "boolean", "value": True},
        {"type": "symbol", "description": "Symbol(s)"},
    ]
    assert printed("%d%% of %s %s", 5, thing).text == "5% of {n: 1, …} %s"
    assert printed(list_, *rest).text == "[1] undefined null -0 true Symbol(s)"


def test_what_a_stranger_prints_should_be_bounded() -> None:
    assert len(printed("x" * 10**7, "y").text) == MAX_TEXT
    assert len(printed(*range(10_000)).parts) == MAX_PARTS


def test_exception_should_be_reported_with_its_place() -> None:
    error = {"type": "object", "subtype": "error", "description": "Error: boo\n    at x (http://a/:1:2)"}
    assert exception_text({"text": "Uncaught", "exception": error}) == f"Uncaught {error['description']}"
    thrown = {"type": "string", "value": "boo"}
    place = {"url": "http://a/", "lineNumber": 4}
    assert exception_text({"text": "Uncaught (in promise)", "exception": thrown} | place) == (
        "Uncaught (in promise) boo (http://a/:5)"
    )
