"""A child process that follows the takes of a recording: started with a spec, read line by line, stopped.

Its failure never affects the recording: it shares only the files of takes with the encoder.
"""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from recording_farm.browser_bot.stage.programs import DIES_WITH_PARENT, child_environment, signal_group
from recording_farm.browser_bot.waiting import first_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

logger = logging.getLogger(__name__)

_MAX_LINE: Final = 1 << 16


class OutputProgram:
    """A child process; call `run` once."""

    def __init__(
        self,
        module: str,
        spec: "DataclassInstance",
        log: Path,
        heard: Callable[[Any], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Run `python -m module` with `spec` on stdin; `heard` gets each line of JSON, stderr goes to `log`.

        By default, its environment has no secrets of the farm.
        """
        self._environment = child_environment() if environment is None else dict(environment)
        self._module = module
        self._spec = spec
        self._log = log
        self._heard = heard
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Make it finish."""
        self._ending.set()

    async def run(self, end_seconds: float) -> int:
        """Run it until it exits; kill it `end_seconds` after `end`. Returns its exit code."""
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *DIES_WITH_PARENT,
                *(sys.executable, "-m", self._module),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
                process_group=0,
                limit=_MAX_LINE,
            )
        try:
            assert process.stdin is not None
            # The spec is small: it fits into the pipe's buffer.
            process.stdin.write(json.dumps(asdict(self._spec)).encode() + b"\n")
            return await self._until_it_ends(process, end_seconds)
        finally:
            signal_group(process.pid, signal.SIGKILL)
            await process.wait()

    async def _until_it_ends(self, process: asyncio.subprocess.Process, end_seconds: float) -> int:
        assert process.stdin is not None
        hearing = asyncio.create_task(self._hear(process))
        try:
            await first_of(heard=asyncio.shield(hearing), ending=self._ending.wait())
            process.stdin.close()
            async with asyncio.timeout(end_seconds):
                await hearing
                return await process.wait()
        except TimeoutError:
            logger.warning("%s did not exit within %.0f s", self._module, end_seconds)
            return -signal.SIGKILL
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                logger.warning("%s printed a line that is not JSON", self._module)
                continue
            self._heard(said)
