"""Texts with secrets as they lie in Redis: sealed, and recognizable as such.

Version 0.1 kept them in the clear. Those are read as they are, and sealed when they are written again.
"""

from typing import Final

from recording_farm.farm.credentials.sealing import Sealer

_SEALED: Final = "sealed:"


def seal_text(sealer: Sealer, text: str, context: str) -> str:
    """Seal a text for `context`, unless it is sealed already."""
    return text if text.startswith(_SEALED) else f"{_SEALED}{sealer.seal(text, context)}"


def open_text(sealer: Sealer, text: str, context: str) -> str:
    """The text that was sealed for `context`, or one that never was.

    Raises SettingsError when it was sealed with another key or for another context.
    """
    return sealer.open(text.removeprefix(_SEALED), context) if text.startswith(_SEALED) else text
