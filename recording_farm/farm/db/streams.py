"""What reading Redis streams needs besides the client."""

from typing import Any, NamedTuple


class EntryId(NamedTuple):
    """The id of an entry of a stream; entries are in the order of their ids."""

    milliseconds: int
    number: int

    @classmethod
    def parse(cls, text: str) -> "EntryId":
        """The id that is written `milliseconds-number` or `milliseconds`. Raises ValueError."""
        milliseconds, _, number = text.partition("-")
        return cls(int(milliseconds), int(number or 0))

    def __str__(self) -> str:
        """The id as Redis writes it."""
        return f"{self.milliseconds}-{self.number}"


BEGINNING = EntryId(0, 0)
"""Before every entry."""


def entries(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries in the answer to a read of one stream.

    Redis answers with a list or a map of streams, depending on the protocol.
    """
    if not answer:
        return []
    if isinstance(answer, dict):
        (batches,) = answer.values()
        return [entry for batch in batches for entry in batch] if isinstance(batches[0], list) else batches
    ((_, found),) = answer
    return list(found)
