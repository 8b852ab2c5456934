"""A program beside a recording that follows its takes: started with an order, heard line by line, ended.

Whatever becomes of it, the recording goes on: it shares nothing with the encoder but the files it reads.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from recording_farm.browser_bot.stage.programs import DIES_WITH_PARENT, signal_group
from recording_farm.browser_bot.waiting import first_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

logger = logging.getLogger(__name__)

_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Of the environment what holds none of the farm's secrets."""

_MAX_LINE: Final = 1 << 16


class OutputProgram:
    """A running program; `run` is called once."""

    def __init__(
        self,
        module: str,
        order: "DataclassInstance",
        log: Path,
        heard: Callable[[Any], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Run `python -m module`, give it `order`, call `heard` with each thing it says; errors go to `log`.

        Of this process's environment it gets what everybody may know, unless an `environment` is given.
        """
        if environment is None:
            environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        self._environment = dict(environment)
        self._module = module
        self._order = order
        self._log = log
        self._heard = heard
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Have it come to its end, with what is there by now."""
        self._ending.set()

    async def run(self, end_seconds: float) -> int:
        """Run it until it ends; killed if that takes longer than `end_seconds` after `end`. Its exit code."""
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
            # The order is small: the pipe takes it whatever the program does.
            process.stdin.write(json.dumps(asdict(self._order)).encode() + b"\n")
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
            logger.warning("%s did not come to its end within %.0f s", self._module, end_seconds)
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
                logger.warning("%s said what is no JSON", self._module)
                continue
            self._heard(said)
