"""What is wrong with a request, in words: the field, and what it may be.

Of a union pydantic tells what is wrong with every variant. Here only the variant counts that was meant: the
one that has the `type` which was sent, and else the one with the most of the fields that were sent.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_MAX: Final = 5
"""Problems that are told; whoever has more begins with these."""

_MAX_READ: Final = 200
"""Problems that are looked at: a hostile request has a hundred thousand."""

_MAX_NAME: Final = 100
"""Characters of a field's name that are told."""

_MAX_FIELDS: Final = 12
"""Fields that are named where one is unknown and none is alike."""

_TYPE: Final = "type"
"""The field that says which variant is meant."""

_Step = str | int
_Path = tuple[_Step, ...]
_Schema = dict[str, Any]


@dataclass(frozen=True)
class _Problem:
    path: _Path
    """Where it is in what was sent."""
    variants: tuple[tuple[int, str], ...]
    """The variants of unions on the way: behind how many steps of the path, and which."""
    kind: str
    message: str
    context: Mapping[str, Any]


def problems_of(error: ValidationError, sent: Any, model: type[BaseModel]) -> str:
    """One sentence about what is wrong with `sent`, which is no `model`."""
    every = error.errors(include_url=False, include_input=False)
    found = [_problem(details, sent) for details in every[:_MAX_READ]]
    told = _without_guessed(_meant(found, sent), model, sent)
    sentences = list(dict.fromkeys(_sentence(problem, model, sent) for problem in told))
    more = len(sentences) - _MAX
    return "; ".join(sentences[:_MAX]) + (f"; and {more} more" if more > 0 else "")


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


# Which variant was meant


def _meant(problems: Sequence[_Problem], sent: Any) -> list[_Problem]:
    """Without those of variants that were not meant."""
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
            meant = [_nothing_meant(variants, place)] if value == {} else _nearest(variants, depth, value)
            of_variants = {id(problem) for each in variants.values() for problem in each}
            kept = [problem for problem in kept if id(problem) not in of_variants] + meant
    return kept


def _nothing_meant(variants: Mapping[str, Sequence[_Problem]], place: _Path) -> _Problem:
    """The problem of an empty object, of which nobody knows which variant it is to be."""
    needed = [" with ".join(str(problem.path[-1]) for problem in each) for each in variants.values()]
    return _Problem(place, (), "variant_missing", "", {"fields": ", ".join(needed)})


def _nearest(variants: Mapping[str, list[_Problem]], depth: int, value: Any) -> list[_Problem]:
    return min(variants.values(), key=lambda each: _distance(each, depth, value))


def _variant_at(problem: _Problem, depth: int, place: _Path) -> str | None:
    if problem.path[:depth] != place:
        return None
    return next((name for at, name in problem.variants if at == depth), None)


def _distance(problems: Sequence[_Problem], depth: int, value: Any) -> tuple[int, ...]:
    """How far what was sent is from a variant with these problems."""
    own = [problem for problem in problems if len(problem.path) == depth + 1]
    unknown = [problem for problem in own if problem.kind == "extra_forbidden"]
    missing = [problem for problem in own if problem.kind == "missing"]
    has_type = isinstance(value, dict) and _TYPE in value
    wrong_type = [problem for problem in own if has_type and problem.path[-1] == _TYPE]
    no_type = [problem for problem in wrong_type if problem.kind == "extra_forbidden"]
    return len(wrong_type), len(no_type), len(unknown), len(missing), len(problems)


def _without_guessed(problems: Sequence[_Problem], model: type[BaseModel], sent: Any) -> list[_Problem]:
    """Without a field's being missing where it seems to be there misspelled, or when its kind is unknown."""
    unknown = [problem for problem in problems if problem.kind == "extra_forbidden"]
    meant = {(*problem.path[:-1], _alike(problem, model, sent)) for problem in unknown}
    strange = {problem.path[:-1] for problem in unknown if problem.variants}
    return [
        problem
        for problem in problems
        if problem.kind != "missing" or (problem.path not in meant and problem.path[:-1] not in strange)
    ]


# In words


_SHOULD: Final = re.compile(r"^(Input|String|Value|List|Dictionary|Tuple|Number) should ")
_WORDS: Final = {
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "list_type": "must be a list",
    "missing": "is required",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
    "string_type": "must be text",
}


def _sentence(problem: _Problem, model: type[BaseModel], sent: Any) -> str:
    path, words = problem.path, _words(problem, model, sent)
    if problem.kind.startswith("union_tag_"):
        path = (*path, _TYPE)
    field = ".".join(str(step)[:_MAX_NAME] for step in path)
    return f'"{field or "body"}": {words}'


def _words(problem: _Problem, model: type[BaseModel], sent: Any) -> str:
    match problem.kind:
        case "extra_forbidden":
            return _unknown(problem, model, sent)
        case "enum":
            return f"must be {_listed(str(problem.context['expected']))}{_not(_value_at(sent, problem.path))}"
        case "literal_error":
            # What was sent is not told: it may be a secret in the wrong place.
            expected = _listed(str(problem.context["expected"])) or "empty"
            is_type = problem.path[-1] == _TYPE
            return f"must be {expected}{_not(_value_at(sent, problem.path)) if is_type else ''}"
        case "union_tag_invalid":
            given = _value_at(sent, (*problem.path, _TYPE))
            return f"must be {_listed(str(problem.context['expected_tags']))}{_not(given)}"
        case "union_tag_not_found":
            nodes = _nodes(model, (*problem.path, _TYPE), sent)
            return f"is required: {_listed(', '.join(str(node['const']) for node in nodes))}"
        case "variant_missing":
            return f"must have {_listed(str(problem.context['fields']))}"
        case "greater_than_equal" | "less_than_equal":
            return _range(problem, model, sent)
        case "too_short" | "string_too_short" if problem.context.get("min_length") == 1:
            return "must not be empty"
        case "too_long" if isinstance(_value_at(sent, problem.path), str):
            # Pydantic counts the items of a secret.
            return f"must have at most {problem.context['max_length']} characters"
        case "string_pattern_mismatch" if words := _characters(str(problem.context["pattern"])):
            return words
        case kind if kind in _WORDS:
            return _WORDS[kind]
        case _:
            message = problem.message.removeprefix("Value error, ").replace(" after validation", "")
            return _SHOULD.sub("must ", message)


def _unknown(problem: _Problem, model: type[BaseModel], sent: Any) -> str:
    fields = _fields(problem, model, sent)
    if problem.path[-1] in fields:
        # In another variant.
        others = _value_at(sent, problem.path[:-1]).keys() - {problem.path[-1]}
        return f"cannot be given together with {_listed(', '.join(sorted(map(str, others))))}"
    alike = _alike(problem, model, sent)
    if alike is not None:
        return f"is not a field this farm knows; did you mean {alike}?"
    if len(fields) > _MAX_FIELDS:
        return "is not a field this farm knows"
    return f"is not a field this farm knows; there may be {_listed(', '.join(fields))}"


def _alike(problem: _Problem, model: type[BaseModel], sent: Any) -> str | None:
    """The field that was probably meant by an unknown one."""
    sent_name = str(problem.path[-1])[:_MAX_NAME]
    name = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", sent_name).lower()
    return next(iter(get_close_matches(name, _fields(problem, model, sent), 1, 0.75)), None)


def _fields(problem: _Problem, model: type[BaseModel], sent: Any) -> list[str]:
    nodes = _nodes(model, problem.path[:-1], sent)
    return sorted({name for node in nodes for name in node.get("properties", {})})


def _characters(pattern: str) -> str | None:
    """A pattern that allows certain characters, in words; None if it is of another kind."""
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
    return _SHOULD.sub("must ", problem.message)


def _listed(text: str) -> str:
    """`'a', 'b' or 'c'`, or with commas alone, as it is read."""
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


# What a model allows


@lru_cache(maxsize=64)
def _schema(model: type[BaseModel]) -> _Schema:
    return model.model_json_schema(mode="validation")


def _nodes(model: type[BaseModel], path: _Path, sent: Any) -> list[_Schema]:
    """The schemas of a place in what is sent: one of each variant that has the type which was sent."""
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
    """A schema without references and choices; of choices those that `value` may be."""
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
