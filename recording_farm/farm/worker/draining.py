"""Whether the worker of this node is draining: told to stop, and waiting for its recordings to end.

The slots receive the signal; the heartbeat process publishes the state. They share it as a marker file, which
a worker and a slot delete when they start.
"""

from contextlib import suppress
from pathlib import Path

from recording_farm.farm.config.settings import Settings


def mark_draining(settings: Settings) -> None:
    """Mark this node as draining: it accepts no more recordings."""
    with suppress(OSError):  # a full disk must not keep a slot from stopping
        settings.live_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        _marker(settings).touch()


def clear_draining(settings: Settings) -> None:
    """Mark this node as working."""
    with suppress(OSError):
        _marker(settings).unlink(missing_ok=True)


def is_draining(settings: Settings) -> bool:
    """Whether this node is draining."""
    return _marker(settings).exists()


def _marker(settings: Settings) -> Path:
    return settings.live_dir / "draining"
