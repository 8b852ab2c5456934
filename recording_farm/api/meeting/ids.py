"""Random meeting ids: nobody guesses one, and people can read one aloud."""

import secrets
from typing import Final

_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz"
"""Without i, l and o, which people confuse with digits."""

_GROUPS: Final = 3
_GROUP_LETTERS: Final = 4


def new_meeting_id() -> str:
    """A new id such as `kdwz-hrap-mfqt`: 12 random letters, about 54 bits."""
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(_GROUP_LETTERS)) for _ in range(_GROUPS))
    return "-".join(groups)
