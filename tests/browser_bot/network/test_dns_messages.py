"""DNS messages: queries are parsed, and answers can be read by the system's resolver."""

import struct
from ipaddress import ip_address

import pytest

from recording_farm.browser_bot.network.dns_messages import answer_to, parse_query
from recording_farm.browser_bot.network.host_names import IpAddress

A, AAAA, HTTPS = 1, 28, 65
ADDRESSES: list[IpAddress] = [ip_address("192.0.2.7"), ip_address("2001:db8::7"), ip_address("192.0.2.8")]


def query(name: str = "turn.Example.com", kind: int = A, flags: int = 0x0100, questions: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", 7, flags, questions, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


@pytest.mark.parametrize(("kind", "version"), [(A, 4), (AAAA, 6), (HTTPS, None)])
def test_query_should_be_parsed(kind: int, version: int | None) -> None:
    parsed = parse_query(query(kind=kind) + b"additional records")
    assert parsed is not None
    assert (parsed.number, parsed.name, parsed.version) == (7, "turn.example.com", version)
    assert parsed.question == query(kind=kind)[12:]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        query()[:20],
        query(flags=0x8100),
        query(flags=0x2800),
        query(questions=2),
        query().replace(b"\x04turn", b"\xc0\x0cxxx"),
        query().replace(b"turn", b"t\xffrn"),
        bytes.fromhex("000100002112a442") + bytes(12),
    ],
    ids=["empty", "cut", "answer", "update", "two questions", "pointer", "not ASCII", "STUN"],
)
def test_other_messages_should_be_refused(message: bytes) -> None:
    assert parse_query(message) is None


def test_answer_should_have_the_addresses_of_the_version_that_was_asked_for() -> None:
    parsed = parse_query(query())
    assert parsed is not None
    answer = answer_to(parsed, ADDRESSES)
    assert struct.unpack_from("!6H", answer) == (7, 0x8180, 1, 2, 0, 0)
    assert answer.endswith(ADDRESSES[2].packed)
    assert ADDRESSES[0].packed in answer
    assert ADDRESSES[1].packed not in answer


@pytest.mark.parametrize(
    ("kind", "addresses", "code"), [(A, [], 3), (A, ADDRESSES[1:2], 0), (AAAA, [], 3), (HTTPS, [], 0)]
)
def test_answer_without_addresses_should_say_whether_the_name_exists(
    kind: int, addresses: list[IpAddress], code: int
) -> None:
    parsed = parse_query(query(kind=kind))
    assert parsed is not None
    assert struct.unpack_from("!6H", answer_to(parsed, addresses)) == (7, 0x8180 | code, 1, 0, 0, 0)
