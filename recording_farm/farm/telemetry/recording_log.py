"""The log of one recording, in its evidence directory, besides the log of the process."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from recording_farm.farm.telemetry.logs import about

logger = logging.getLogger(__name__)

NOT_FOR_CLIENTS: Final = {"not_for_clients": True}
"""The `extra` of lines about the farm itself: clients can read the log of a recording."""


@contextmanager
def logging_to(directory: Path) -> Iterator[None]:
    """Write the lines that are logged meanwhile to `recorder.log` too; `directory` has the recording's id."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    handler = logging.FileHandler(directory / "recorder.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    handler.addFilter(lambda record: not hasattr(record, "not_for_clients"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with about(directory.name):
            yield
    except Exception:
        logger.exception("the job failed")
        raise
    finally:
        root.removeHandler(handler)
        handler.close()
