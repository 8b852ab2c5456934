"""Sets superseded takes aside: those of a recording that another node finished, or that was given up.

Takes that cannot be cut into a file are set aside too. They are stored in the data directory, in
`superseded/{id}`: as one playable file if they can be joined, else as they are. They are not served, and
FARM_RETENTION expires them.
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
from recording_farm.farm.spool.record_copy import recorded_by
from recording_farm.farm.spool.spool import Spool

logger = logging.getLogger(__name__)

NODE_LOST: Final = "node_lost"
"""Error code of a recording whose node did not come back in time."""


def is_superseded(recording: Recording, settings: Settings) -> bool:
    """Whether this node's takes of an ended recording will never become its file."""
    if recording.status not in FINAL:
        return False
    if recording.node not in {None, settings.node}:
        return True
    given_up = recording.error is not None and recording.error.code == NODE_LOST
    return recording.status is Status.ERRORED and given_up


def has_recorded(spool: Spool, settings: Settings) -> bool:
    """Whether this node recorded into a spool, and not another node that shares its data directory."""
    keeper = recorded_by(spool.directory)
    return bool(spool.takes()) if keeper is None else keeper == settings.node


def set_aside(recording: Recording, spool: Spool, settings: Settings) -> Path | None:
    """Set the takes of a spool aside and clear it; returns their directory, None if there were none.

    May be called again after a crash. Raises OSError when the disk fails.
    """
    directory = settings.superseded_dir / str(recording.id)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        if spool.takes():
            spool.cut(directory / recording.output_file_name, recording.meeting_id)
        else:
            _move(Outbox.of(spool).directory.glob("[!.]*"), directory)
    except (CutError, OSError) as error:
        logger.warning("the takes of %s cannot be cut and are kept as they are: %s", recording.id, error)
        (directory / recording.output_file_name).unlink(missing_ok=True)
        _move(spool.directory.glob("take-*"), directory)
    spool.remove()
    if not any(directory.iterdir()):
        directory.rmdir()
        return None
    return directory


def _move(files: Iterable[Path], directory: Path) -> None:
    for file in files:
        shutil.move(file, directory / file.name)
