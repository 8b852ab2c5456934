"""A gate: a FIFO before which ffmpeg waits, loaded and ready, until it is opened."""

import asyncio
import errno
import os
from pathlib import Path

POLL_SECONDS = 0.002


class Gate:
    """One gate, used once: `reached` tells that ffmpeg stands before it, `open` lets it through."""

    def __init__(self, path: Path) -> None:
        """Make the FIFO; raises FileExistsError if the path is taken."""
        os.mkfifo(path, 0o600)
        self._path = path
        self._end: int | None = None

    async def reached(self) -> None:
        """Wait until ffmpeg has opened its end. Put a time-out around it."""
        # Not in a thread that blocks in open(2): the event loop could not close before it.
        while self._end is None:
            try:
                self._end = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # there is no reader yet (fifo(7))
                    raise
                await asyncio.sleep(POLL_SECONDS)

    def open(self) -> None:
        """Release ffmpeg: it reads the end of an empty file."""
        if self._end is None:
            raise RuntimeError(f"{self._path} was opened before ffmpeg had reached it")
        os.close(self._end)
        self._end = None

    def remove(self) -> None:
        """Take the gate away, also if ffmpeg never came."""
        if self._end is not None:
            os.close(self._end)
            self._end = None
        self._path.unlink(missing_ok=True)
