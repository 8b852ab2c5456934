"""Parsing of Redis stream ids and replies."""

from typing import Any, NamedTuple


class EntryId(NamedTuple):
    """The id of a stream entry; ids sort in the order of their entries."""

    milliseconds: int
    number: int

    @classmethod
    def parse(cls, text: str) -> "EntryId":
        """Parse `milliseconds-number` or `milliseconds`. Raises ValueError."""
        milliseconds, _, number = text.partition("-")
        return cls(int(milliseconds), int(number or 0))

    def __str__(self) -> str:
        """The id as Redis writes it."""
        return f"{self.milliseconds}-{self.number}"


BEGINNING = EntryId(0, 0)
"""Before every entry."""


def entries(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries in the reply to a read of one stream.

    The reply is a list or a map of streams, depending on the protocol version.
    """
    if not answer:
        return []
    if isinstance(answer, dict):
        (batches,) = answer.values()
        return [entry for batch in batches for entry in batch] if isinstance(batches[0], list) else batches
    ((_, found),) = answer
    return list(found)
