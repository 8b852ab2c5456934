"""Whether the worker of this node was told to end and waits for its recordings.

The slots are told, and the process that beats has to say it to the others. Between them is a file, in the
directory that a worker empties when it starts; a slot that begins to work takes it away as well.
"""

from contextlib import suppress
from pathlib import Path

from recording_farm.farm.config.settings import Settings


def note_draining(settings: Settings) -> None:
    """Note that this node begins no more recordings, because it ends."""
    with suppress(OSError):  # a full disk must not keep a slot from ending
        settings.live_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        _note(settings).touch()


def forget_draining(settings: Settings) -> None:
    """Note that it works."""
    with suppress(OSError):
        _note(settings).unlink(missing_ok=True)


def is_draining(settings: Settings) -> bool:
    """Whether this node was told to end."""
    return _note(settings).exists()


def _note(settings: Settings) -> Path:
    return settings.live_dir / "draining"
