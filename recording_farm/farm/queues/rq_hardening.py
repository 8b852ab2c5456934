"""RQ without code from Redis: jobs are JSON, and nothing in Redis names a function or a URL.

RQ uses pickle wherever it gets no serializer, imports the functions and callbacks that a job names, and sends
the webhooks that a job names. Importing this module closes all three for the process. Every module that uses
jobs imports it, through `farm.queues.jobs`.
"""

import json
import logging
import pickletools
from typing import Any, Final, NoReturn

import rq.job
from rq.job import Job
from rq.serializers import DefaultSerializer
from rq.webhook import Webhook

from recording_farm.farm.errors import FarmError

logger = logging.getLogger(__name__)

MAX_BYTES: Final = 64 << 10
"""The longest data, metadata or result of a job that is read; the farm's own are below 1 KiB."""

_PICKLE: Final = b"\x80"
"""The first byte of a pickle; no JSON begins with it."""


class UnreadableJobError(FarmError):
    """Data in Redis that is not a job of the farm."""


class JsonSerializer:
    """RQ's serializer of jobs, metadata and results. It also reads what version 0.1 pickled."""

    @staticmethod
    def dumps(value: Any) -> bytes:
        """Serialize `value`. Raises TypeError if JSON has no form of it."""
        return json.dumps(value).encode()

    @staticmethod
    def loads(data: bytes) -> Any:
        """Parse `data`. Raises UnreadableJobError."""
        if len(data) > MAX_BYTES:
            raise UnreadableJobError(f"{len(data)} bytes are too many")
        try:
            return read_plain_pickle(data) if data.startswith(_PICKLE) else _as_job(json.loads(data))
        except (UnreadableJobError, ValueError, RecursionError) as error:
            raise UnreadableJobError(f"neither JSON nor a plain pickle: {error}") from None


def _as_job(value: Any) -> Any:
    """RQ's name, instance, arguments and keyword arguments, with tuples where RQ has them; else the value."""
    match value:
        case [name, instance, [*arguments], {**keywords}]:
            return name, instance, tuple(arguments), keywords
    return value


_MARK: Final = object()
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES: Final = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BININT", "BININT1", "BININT2"})
_TUPLES: Final = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_plain_pickle(data: bytes) -> Any:
    """The value of a pickle of texts, numbers, tuples and dicts: jobs of version 0.1, until 0.2.

    `pickletools` disassembles it and runs nothing. An instruction that names a class or a function raises
    UnreadableJobError, as does any other that version 0.1 never wrote.
    """
    stack: list[Any] = []
    memo: list[Any] = []
    try:
        for instruction, argument, _ in pickletools.genops(data):
            if instruction.name == "STOP":
                (value,) = stack
                return value
            _step(instruction.name, argument, stack, memo)
    except (IndexError, TypeError, AttributeError) as error:
        raise UnreadableJobError(f"a broken pickle: {error}") from None
    raise UnreadableJobError("a pickle without an end")


def _step(name: str, argument: Any, stack: list[Any], memo: list[Any]) -> None:
    if name in {"PROTO", "FRAME"}:
        return
    if name in _VALUES:
        stack.append(argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name == "MEMOIZE":
        memo.append(stack[-1])
    elif name == "BINGET":
        stack.append(memo[argument])
    elif name == "MARK":
        stack.append(_MARK)
    elif name == "EMPTY_DICT":
        stack.append({})
    elif name in _TUPLES:
        at = len(stack) - _TUPLES[name]
        stack[at:] = [tuple(stack[at:])]
    elif name == "TUPLE":
        stack.append(tuple(_since_mark(stack)))
    elif name == "SETITEM":
        key, value = stack[-2:]
        del stack[-2:]
        stack[-1][key] = value
    elif name == "SETITEMS":
        items = _since_mark(stack)
        stack[-1].update(zip(items[::2], items[1::2], strict=True))
    else:
        raise UnreadableJobError(f"a pickle with {name}")


def _since_mark(stack: list[Any]) -> list[Any]:
    at = max(place for place, value in enumerate(stack) if value is _MARK)
    items = stack[at + 1 :]
    del stack[at:]
    return items


def _import_nothing(name: str) -> NoReturn:
    raise UnreadableJobError(f"{name!r} is named in Redis and not called")


def _send_nothing(_: Webhook, job: Job, **__: object) -> None:
    logger.error("job %s names a webhook of RQ, which is not sent", job.id)


DefaultSerializer.dumps = JsonSerializer.dumps
DefaultSerializer.loads = JsonSerializer.loads
rq.job.import_attribute = _import_nothing  # type: ignore[attr-defined]
Webhook.send = _send_nothing  # type: ignore[method-assign, assignment]
