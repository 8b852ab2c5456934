"""What this node had recorded of a recording that others finished, or that was given up: it is set aside.

So are takes that no file can be made of. All of it lies in the data directory, in `left/{id}`: one playable
file if the takes can be joined, else the takes. Nobody is served it; it goes with FARM_RETENTION.
"""

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from recording_farm.encoder.errors import CutError
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.recording.model import FINAL, Recording, Status
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.record_copy import kept_by
from recording_farm.farm.spool.spool import Spool

logger = logging.getLogger(__name__)

NODE_LOST: Final = "node_lost"
"""The code of the failure of a recording whose node was waited for in vain."""


def is_superseded(recording: Recording, settings: Settings) -> bool:
    """Whether what this node has of an ended recording will never become its file."""
    if recording.status not in FINAL:
        return False
    if recording.node not in {None, settings.node}:
        return True
    given_up = recording.error is not None and recording.error.code == NODE_LOST
    return recording.status is Status.ERRORED and given_up


def has_recorded(spool: Spool, settings: Settings) -> bool:
    """Whether a spool holds what this node recorded, and not another one that shares its data directory."""
    keeper = kept_by(spool.directory)
    return bool(spool.takes()) if keeper is None else keeper == settings.node


def set_aside(recording: Recording, spool: Spool, settings: Settings) -> Path | None:
    """Set aside what is in a spool, and clear it; returns where it is now, None if there was nothing.

    May be called again after it was killed half-way. Raises OSError when the disk fails.
    """
    place = settings.left_dir / str(recording.id)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        if spool.takes():
            spool.cut(place / recording.output_file_name, recording.meeting_id)
        else:
            _move(Outbox.of(spool).directory.glob("[!.]*"), place)
    except (CutError, OSError) as error:
        logger.warning("the takes of %s cannot be joined and stay as they are: %s", recording.id, error)
        (place / recording.output_file_name).unlink(missing_ok=True)
        _move(spool.directory.glob("take-*"), place)
    spool.remove()
    if not any(place.iterdir()):
        place.rmdir()
        return None
    return place


def _move(files: Iterable[Path], place: Path) -> None:
    for file in files:
        shutil.move(file, place / file.name)
