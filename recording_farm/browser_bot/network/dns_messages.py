"""DNS messages (RFC 1035): reads the question of a query, and writes the answer to it."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from recording_farm.browser_bot.network.host_names import IpAddress

_HEADER: Final = struct.Struct("!6H")
_RESPONSE, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x0100, 0x0080
_NO_SUCH_NAME: Final = 3
_IN: Final = 1
_TYPES: Final = {1: 4, 28: 6}
"""A and AAAA with their version of IP."""

_TTL: Final = 60
_MAX_ANSWERS: Final = 16


@dataclass(frozen=True)
class Query:
    """A query with one question: its id, name in lower case, and the version of IP that it asks for.

    The version is None if it asks for something other than addresses.
    """

    number: int
    flags: int
    name: str
    version: int | None
    question: bytes


def parse_query(message: bytes) -> Query | None:
    """Parse a query; None if it is not one with exactly one question."""
    try:
        number, flags, questions, _, _, _ = _HEADER.unpack_from(message)
        if flags & (_RESPONSE | 0x7800) or questions != 1:
            return None
        labels, offset = [], _HEADER.size
        while length := message[offset]:
            if length > 63:
                return None
            labels.append(message[offset + 1 : offset + 1 + length].decode("ascii").lower())
            offset += 1 + length
        kind, scope = struct.unpack_from("!HH", message, offset + 1)
    except (struct.error, IndexError, UnicodeDecodeError):
        return None
    version = _TYPES.get(kind) if scope == _IN else None
    return Query(number, flags, ".".join(labels), version, message[_HEADER.size : offset + 5])


def answer_to(query: Query, addresses: Sequence[IpAddress]) -> bytes:
    """Return the answer with those of a name's `addresses` that the query asks for."""
    wanted = [ip for ip in addresses if ip.version == query.version][:_MAX_ANSWERS]
    kind = 1 if query.version == 4 else 28
    code = 0 if addresses or query.version is None else _NO_SUCH_NAME
    flags = _RESPONSE | _RECURSION_AVAILABLE | (query.flags & _RECURSION_DESIRED) | code
    header = _HEADER.pack(query.number, flags, 1, len(wanted), 0, 0)
    # 0xc00c points to the question's name.
    records = (struct.pack("!HHHIH", 0xC00C, kind, _IN, _TTL, len(ip.packed)) + ip.packed for ip in wanted)
    return header + query.question + b"".join(records)
