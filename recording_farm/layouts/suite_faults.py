"""Faults of a suite, in words for the person who writes it: pydantic speaks of inputs, strings and tuples."""

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic_core import ErrorDetails

NAME: Final = (
    "must be 1 to 100 letters, digits, dots, dashes and underscores, and start with a letter or digit"
)

WORDS: Final[Mapping[str, str]] = {
    "missing": "is required",
    "bool_parsing": "must be true or false",
    "dataclass_type": "must be a CSS selector or a box {x: 0, y: 0, width: 10, height: 10}",
    "date_from_datetime_parsing": "must be a time such as 2026-01-15T10:00:00Z",
    "datetime_from_date_parsing": "must be a time such as 2026-01-15T10:00:00Z",
    "datetime_parsing": "must be a time such as 2026-01-15T10:00:00Z",
    "datetime_type": "must be a time such as 2026-01-15T10:00:00Z",
    "timezone_aware": "needs a time zone, such as 2026-01-15T10:00:00Z",
    "dict_type": "must be a mapping of fields",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "list_type": "must be a list",
    "model_attributes_type": "must be a mapping of fields",
    "model_type": "must be a mapping of fields",
    "string_pattern_mismatch": NAME,
    "string_too_long": NAME,
    "string_too_short": "must not be empty",
    "string_type": "must be text",
    "too_short": "must have at least one entry",
    "tuple_type": "must be a list",
}


def own_faults(faults: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """The faults without those that follow from others.

    A list whose entries are all bad is also too short for pydantic.
    """
    places = [fault["loc"] for fault in faults]

    def follows(fault: ErrorDetails) -> bool:
        place = fault["loc"]
        return fault["type"] == "too_short" and any(
            len(other) > len(place) and other[: len(place)] == place for other in places
        )

    return [fault for fault in faults if not follows(fault)]


def in_words(fault: ErrorDetails, known: Mapping[bool, Sequence[str]]) -> str:
    """One fault; `known` are the fields of a suite (False) and of a state (True)."""
    context = fault.get("ctx", {})
    match fault["type"]:
        case "extra_forbidden":
            location = fault["loc"]
            is_box = location[0] == "masks" or "masks" in location[2:-1]
            fields = ("x", "y", "width", "height") if is_box else known[location[0] == "states"]
            return f"unknown field; there are {', '.join(fields)}"
        case "unexpected_keyword_argument":
            return "unknown field; there are x, y, width, height"
        case "literal_error":
            return f"must be {context['expected']}"
        case "greater_than_equal":
            return f"must be {context['ge']:g} or more"
        case "less_than_equal":
            return f"must be {context['le']:g} or less"
        case "model_type" | "model_attributes_type" if not fault["loc"]:
            return "a suite is a mapping with a list of states"
        case kind if kind in WORDS:
            return WORDS[kind]
    return fault["msg"].removeprefix("Value error, ")
