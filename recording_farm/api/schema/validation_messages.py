"""Turns pydantic's errors into messages for clients: the field, and the values it accepts.

Pydantic reports errors for every variant of a union. These messages report one variant only: the one with
the `type` that was sent, or else the one that shares the most fields with the request. No text of pydantic
reaches a client; `tests/api/schema/test_validation_messages.py` checks that.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

_MAX_SHOWN: Final = 5
"""Problems in a message; the rest are counted."""

_MAX_READ: Final = 200
"""Problems that are read: a hostile request has a hundred thousand."""

_MAX_NAME: Final = 100
"""Characters of a field's name in a message."""

_MAX_FIELDS: Final = 12
"""Known fields that are listed when a field is unknown and no known one is similar."""

_TYPE: Final = "type"
"""The field that selects the variant of a union."""

_BUILT_IN: Final = frozenset(get_args(ErrorType)) - {"value_error"}
"""Kinds of errors with texts of pydantic's own; all other texts are the farm's."""

_Step = str | int
_Path = tuple[_Step, ...]
_Schema = dict[str, Any]


@dataclass(frozen=True)
class _Problem:
    path: _Path
    """The place in the request."""
    variants: tuple[tuple[int, str], ...]
    """The variants of unions along the path: the number of steps before each, and its name."""
    kind: str
    message: str
    context: Mapping[str, Any]


def problems_of(error: ValidationError, sent: Any, model: type[BaseModel]) -> str:
    """A message about the problems of `sent`, which failed to validate as `model`."""
    every = error.errors(include_url=False, include_input=False)
    found = [_problem(details, sent) for details in every[:_MAX_READ]]
    shown = _without_guessed(_meant(found, sent), model, sent)
    sentences = list(dict.fromkeys(_sentence(problem, model, sent) for problem in shown))
    more = len(sentences) - _MAX_SHOWN
    return "; ".join(sentences[:_MAX_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _problem(details: ErrorDetails, sent: Any) -> _Problem:
    path: list[_Step] = []
    variants: list[tuple[int, str]] = []
    value, location = sent, details["loc"]
    for number, step in enumerate(location):
        if _has(value, step):
            value = value[step]
        elif number == len(location) - 1 and details["type"] == "missing":
            pass
        else:
            variants.append((len(path), str(step)))
            continue
        path.append(step)
    return _Problem(tuple(path), tuple(variants), details["type"], details["msg"], details.get("ctx", {}))


# Which variant the client meant


def _meant(problems: Sequence[_Problem], sent: Any) -> list[_Problem]:
    """The problems without those of variants that the client did not mean."""
    unions = {(depth, problem.path[:depth]) for problem in problems for depth, _ in problem.variants}
    kept = list(problems)
    for depth, place in sorted(unions, key=lambda union: union[0]):
        variants: dict[str, list[_Problem]] = {}
        for problem in kept:
            variant = _variant_at(problem, depth, place)
            if variant is not None:
                variants.setdefault(variant, []).append(problem)
        if len(variants) > 1:
            value = _value_at(sent, place)
            meant = _chosen(variants, depth, place, value)
            of_variants = {id(problem) for each in variants.values() for problem in each}
            kept = [problem for problem in kept if id(problem) not in of_variants] + meant
    return kept


def _chosen(variants: Mapping[str, list[_Problem]], depth: int, place: _Path, value: Any) -> list[_Problem]:
    """The problems to report of a union's variants."""
    every = [problem for each in variants.values() for problem in each]
    kinds = {problem.kind for problem in every}
    if all(problem.path == place for problem in every) and kinds <= _TYPES.keys() and len(kinds) > 1:
        types = " or ".join(dict.fromkeys(_TYPES[problem.kind] for problem in every))
        return [_Problem(place, (), "types_of_variants", "", {"types": types})]
    if value == {}:
        return [_nothing_meant(variants, place)]
    return _nearest(variants, depth, value)


_TYPES: Final = {
    "dict_type": "an object",
    "list_type": "a list",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "string_type": "text",
}
"""What a value must be, when no variant of a union accepts its type."""


def _nothing_meant(variants: Mapping[str, Sequence[_Problem]], place: _Path) -> _Problem:
    """The problem of an empty object, which could be any variant."""
    needed = [" with ".join(str(problem.path[-1]) for problem in each) for each in variants.values()]
    return _Problem(place, (), "variant_missing", "", {"fields": ", ".join(needed)})


def _nearest(variants: Mapping[str, list[_Problem]], depth: int, value: Any) -> list[_Problem]:
    return min(variants.values(), key=lambda each: _distance(each, depth, value))


def _variant_at(problem: _Problem, depth: int, place: _Path) -> str | None:
    if problem.path[:depth] != place:
        return None
    return next((name for at, name in problem.variants if at == depth), None)


def _distance(problems: Sequence[_Problem], depth: int, value: Any) -> tuple[int, ...]:
    """How far the value is from a variant with these problems; the smallest is the nearest."""
    own = [problem for problem in problems if len(problem.path) == depth + 1]
    unknown = [problem for problem in own if problem.kind == "extra_forbidden"]
    missing = [problem for problem in own if problem.kind == "missing"]
    has_type = isinstance(value, dict) and _TYPE in value
    wrong_type = [problem for problem in own if has_type and problem.path[-1] == _TYPE]
    no_type = [problem for problem in wrong_type if problem.kind == "extra_forbidden"]
    return len(wrong_type), len(no_type), len(unknown), len(missing), len(problems)


def _without_guessed(problems: Sequence[_Problem], model: type[BaseModel], sent: Any) -> list[_Problem]:
    """The problems without fields that are missing only because they are misspelled or of an unknown kind."""
    unknown = [problem for problem in problems if problem.kind == "extra_forbidden"]
    meant = {(*problem.path[:-1], _alike(problem, model, sent)) for problem in unknown}
    strange = {problem.path[:-1] for problem in unknown if problem.variants}
    return [
        problem
        for problem in problems
        if problem.kind != "missing" or (problem.path not in meant and problem.path[:-1] not in strange)
    ]


# The messages


_MESSAGES: Final = {
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is too large",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "missing": "is required",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
    "string_type": "must be text",
    "string_unicode": "must be valid UTF-8",
}
"""Kinds whose message depends on nothing else."""

_OTHERWISE: Final = "has a value that is not allowed"
"""For kinds of errors that no model of the API raises today."""


def _sentence(problem: _Problem, model: type[BaseModel], sent: Any) -> str:
    path, message = problem.path, _message(problem, model, sent)
    if problem.kind.startswith("union_tag_"):
        path = (*path, _TYPE)
    field = ".".join(str(step)[:_MAX_NAME] for step in path)
    return f'"{field or "body"}": {message}'


def _message(problem: _Problem, model: type[BaseModel], sent: Any) -> str:
    context, value = problem.context, _value_at(sent, problem.path)
    match problem.kind:
        case "extra_forbidden":
            return _unknown(problem, model, sent)
        case "enum":
            return f"must be {_listed(str(context['expected']))}{_not(value)}"
        case "literal_error":
            # The value is not shown unless it is a type: it may be a secret in the wrong place.
            expected = _listed(str(context["expected"])) or "empty"
            return f"must be {expected}{_not(value) if problem.path[-1] == _TYPE else ''}"
        case "union_tag_invalid":
            given = _value_at(sent, (*problem.path, _TYPE))
            return f"must be {_listed(str(context['expected_tags']))}{_not(given)}"
        case "union_tag_not_found":
            nodes = _nodes(model, (*problem.path, _TYPE), sent)
            return f"is required, must be {_listed(', '.join(str(node['const']) for node in nodes))}"
        case "variant_missing":
            return f"must have {_listed(str(context['fields']))}"
        case "types_of_variants":
            return f"must be {context['types']}"
        case "greater_than_equal" | "less_than_equal" | "greater_than" | "less_than":
            return _range(problem, model, sent)
        case "multiple_of":
            return f"must be a multiple of {context['multiple_of']}"
        case "too_short" | "string_too_short" | "too_long" | "string_too_long":
            return _length(problem, value)
        case "string_pattern_mismatch":
            return _characters(str(context["pattern"])) or _OTHERWISE
        case kind if kind.startswith("datetime_"):
            return "must be a time that exists, with its zone, such as 2026-01-31T09:00:00Z"
        case kind if kind in _BUILT_IN:
            return _MESSAGES.get(kind, _OTHERWISE)
        case _:
            return problem.message.removeprefix("Value error, ")


def _length(problem: _Problem, value: Any) -> str:
    # Pydantic calls the characters of a secret items.
    is_text = isinstance(value, str) or problem.kind.startswith("string")
    unit, context = ("character" if is_text else "item"), problem.context
    if problem.kind.endswith("too_short"):
        least = context["min_length"]
        return "must not be empty" if least == 1 else f"must have at least {_counted(least, unit)}"
    given = "" if is_text else f", not {len(value)}"
    return f"must have at most {_counted(context['max_length'], unit)}{given}"


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _unknown(problem: _Problem, model: type[BaseModel], sent: Any) -> str:
    fields = _fields(problem, model, sent)
    if problem.path[-1] in fields:
        # In another variant.
        others = _value_at(sent, problem.path[:-1]).keys() - {problem.path[-1]}
        return f"cannot be combined with {_listed(', '.join(sorted(map(str, others))))}"
    alike = _alike(problem, model, sent)
    if alike is not None:
        return f"unknown field, did you mean {alike}?"
    if not fields or len(fields) > _MAX_FIELDS:
        return "unknown field"
    return f"unknown field, known here: {', '.join(fields)}"


def _alike(problem: _Problem, model: type[BaseModel], sent: Any) -> str | None:
    """The known field that an unknown one probably misspells."""
    sent_name = str(problem.path[-1])[:_MAX_NAME]
    name = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", sent_name).lower()
    return next(iter(get_close_matches(name, _fields(problem, model, sent), 1, 0.75)), None)


def _fields(problem: _Problem, model: type[BaseModel], sent: Any) -> list[str]:
    nodes = _nodes(model, problem.path[:-1], sent)
    return sorted({name for node in nodes for name in node.get("properties", {})})


def _characters(pattern: str) -> str | None:
    """What a pattern of allowed characters accepts, in words; None for a pattern of another kind."""
    found = re.fullmatch(r"\^\[([^\]\\^]+)\](?:\{(\d+),(\d+)\}|[+*])\$", pattern)
    if found is None:
        return None
    allowed, names = found[1], []
    for part, name in (("A-Za-z", "ASCII letters"), ("0-9", "digits"), (" ", "spaces")):
        if part in allowed:
            names.append(name)
            allowed = allowed.replace(part, "", 1)
    if re.search(r"[^-]-[^-]", allowed):
        return None
    names += [f"any of {' '.join(allowed)}" if allowed[1:] else allowed] if allowed else []
    length = f"{found[2]} to {found[3]} " if found[2] else ""
    return f"must be {length}{_listed(', '.join(names))}"


def _range(problem: _Problem, model: type[BaseModel], sent: Any) -> str:
    for node in _nodes(model, problem.path, sent):
        if "minimum" in node and "maximum" in node:
            return f"must be {node['minimum']} to {node['maximum']}"
    (limit,) = problem.context.values()
    words = {
        "greater_than_equal": "at least",
        "greater_than": "more than",
        "less_than_equal": "at most",
        "less_than": "less than",
    }
    return f"must be {words[problem.kind]} {limit}"


def _listed(text: str) -> str:
    """`'a', 'b' or 'c'`, or a list with commas alone, as people write it."""
    names = [name for name in re.split(r", | or ", text.replace("'", "")) if name]
    return " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _not(value: Any) -> str:
    return f", not {value}" if isinstance(value, str) and re.fullmatch(r"[\w.-]{1,40}", value) else ""


def _value_at(sent: Any, path: _Path) -> Any:
    for step in path:
        if not _has(sent, step):
            return None
        sent = sent[step]
    return sent


def _has(value: Any, step: _Step) -> bool:
    if isinstance(step, int):
        return isinstance(value, list) and step < len(value)
    return isinstance(value, dict) and step in value


# What a model accepts


@lru_cache(maxsize=64)
def _schema(model: type[BaseModel]) -> _Schema:
    return model.model_json_schema(mode="validation")


def _nodes(model: type[BaseModel], path: _Path, sent: Any) -> list[_Schema]:
    """The schemas of a place in the request, one for each variant that has the type that was sent."""
    root = _schema(model)
    definitions = root.get("$defs", {})
    nodes = list(_flat(root, definitions, sent))
    for number, step in enumerate(path):
        value = _value_at(sent, path[: number + 1])
        below = [_below(node, step) for node in nodes]
        nodes = [each for node in below if node is not None for each in _flat(node, definitions, value)]
    return nodes


def _below(node: _Schema, step: _Step) -> _Schema | None:
    if isinstance(step, int):
        return node.get("items") or None
    found = node.get("properties", {}).get(step) or node.get("additionalProperties")
    return found if isinstance(found, dict) else None


def _flat(node: _Schema, definitions: Mapping[str, _Schema], value: Any) -> Iterator[_Schema]:
    """The schema with references and choices resolved; only the choices that `value` can match."""
    if "$ref" in node:
        yield from _flat(definitions[node["$ref"].rpartition("/")[2]], definitions, value)
        return
    choices = node.get("anyOf") or node.get("oneOf") if "properties" not in node else None
    if not choices:
        if _may_be(node, value):
            yield node
        return
    for choice in choices:
        yield from _flat(choice, definitions, value)


def _may_be(node: _Schema, value: Any) -> bool:
    wanted = node.get("properties", {}).get(_TYPE, {}).get("const")
    given = value.get(_TYPE) if isinstance(value, dict) else None
    return wanted is None or given is None or wanted == given
