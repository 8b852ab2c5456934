"""A gate: a FIFO before which ffmpeg waits, loaded and ready, until it is opened."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path


class Gate:
    """One gate, used once: `reached` tells that ffmpeg stands before it, `open` lets it through."""

    def __init__(self, path: Path) -> None:
        """Make the FIFO; raises FileExistsError if the path is taken."""
        os.mkfifo(path, 0o600)
        self._path = path
        self._end: int | None = None
        self._meeting = asyncio.create_task(asyncio.to_thread(os.open, path, os.O_WRONLY))

    async def reached(self) -> None:
        """Wait until ffmpeg has opened its end. Put a time-out around it."""
        self._end = await asyncio.shield(self._meeting)

    def open(self) -> None:
        """Let ffmpeg go on: it reads the end of an empty file."""
        if self._end is None:
            raise RuntimeError(f"{self._path} was opened before ffmpeg had reached it")
        os.close(self._end)
        self._end = None

    async def remove(self) -> None:
        """Take the gate away, also if ffmpeg never came."""
        # A reader of our own releases the thread that still waits for one.
        with suppress(FileNotFoundError):
            reader = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                end = await self._meeting
            finally:
                os.close(reader)
            if self._end is not None:
                os.close(end)
                self._end = None
            self._path.unlink()
