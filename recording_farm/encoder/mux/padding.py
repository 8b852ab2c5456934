"""The size of a head: empty bytes behind the index fill it up."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Padding:
    """The head and the first `behind` bytes of the body together are a multiple of `multiple`."""

    multiple: int = 1
    behind: int = 0

    def of(self, size: int, least: int) -> int:
        """How many bytes are added to a head of `size` bytes: none, or at least `least`."""
        padding = -(size + self.behind) % self.multiple
        if 0 < padding < least:
            padding += -(-least // self.multiple) * self.multiple
        return padding


NO_PADDING = Padding()
