"""The log of one recording, in its evidence directory, besides the log of the process."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from recording_farm.farm.errors import FarmError
from recording_farm.farm.telemetry.logs import LineFormatter, about, escaped

logger = logging.getLogger(__name__)

NOT_FOR_CLIENTS: Final = {"not_for_clients": True}
"""The `extra` of lines about the farm itself: clients can read the log of a recording."""


class _ClientsFormatter(LineFormatter):
    """The format of a log that clients can read: without paths of the machine, also in errors."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name in logging
        """The error's type and the modules it came through; its text only if it is written for people."""
        kind, error, trace = ei
        words = f": {escaped(str(error))}" if isinstance(error, FarmError) else ""
        places = [
            f"{frame.f_globals.get('__name__')}:{line}"
            for frame, line in (() if trace is None else traceback.walk_tb(trace))
        ]
        return f"{kind.__name__}{words} ({' > '.join(places)})"


@contextmanager
def logging_to(directory: Path) -> Iterator[None]:
    """Write the lines that are logged meanwhile to `recorder.log` too; `directory` has the recording's id."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    handler = logging.FileHandler(directory / "recorder.log")
    handler.setFormatter(_ClientsFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
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
