"""The warm stage of a work horse: open before there is a job, so a recording starts on it at once.

RQ calls a job by its name, so the stage that the process has ready for it is kept here, in the module.
"""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from recording_farm.browser_bot.errors import StageError
from recording_farm.browser_bot.waiting import first_of
from recording_farm.farm.recorder.opened_stage import OpenedStage, StageNeeds, open_for

logger = logging.getLogger(__name__)

WARM_HORSE: Final = "farm warm"
"""Title of a process that waits with a stage."""

MAX_SECONDS: Final = 900.0
"""How long a stage is kept: what a browser accumulates by itself must not be in a recording."""

RETRY_SECONDS: Final = 10.0
"""How long a process waits before it retries to open a stage."""

CLOSE_TIMEOUT: Final = 10.0
"""Closing a stage takes 0.5 s; hung programs are killed after at most 4 s."""

TAKEN: Final = b"+"
"""Acknowledges a job."""

_MAX_JOB: Final = 4096

_ready: tuple[asyncio.Runner, OpenedStage | None] | None = None


def wait_warm(needs: StageNeeds, line: socket.socket) -> bytes:
    """Keep a stage open until a job arrives on `line`, and keep it ready for `ready_stage`.

    Returns the job; empty, without a stage, when the other end has closed.
    """
    global _ready
    line.setblocking(False)
    runner = asyncio.Runner()
    job, stage = runner.run(_wait(needs, line))
    if job:
        _ready = runner, stage
    else:
        runner.close()
    return job


@contextmanager
def ready_stage() -> Iterator[tuple[asyncio.Runner, OpenedStage | None]]:
    """The stage that this process has ready, if any, and the asyncio runner to record on.

    The stage is closed at the end, however that comes: a recording may never get to use it.
    """
    global _ready
    (runner, stage), _ready = _ready or (asyncio.Runner(), None), None
    with runner:
        try:
            yield runner, stage
        finally:
            if stage is not None:
                runner.run(_close(stage))


def close_ready_stage() -> None:
    """Close the stage that this process has ready, if no job has used it."""
    with ready_stage():
        pass


async def _close(stage: OpenedStage) -> None:
    """Close a stage; one that is closed already stays so."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await stage.close()
    except Exception:  # the cleanup of stages removes it later
        logger.exception("cannot close a stage")


async def _wait(needs: StageNeeds, line: socket.socket) -> tuple[bytes, OpenedStage | None]:
    job = asyncio.create_task(_job(line))
    while True:
        stage = await _open(needs)
        await first_of(job=asyncio.shield(job), worn_out=_worn_out(stage))
        if job.done() and job.result():
            return job.result(), stage
        if stage is not None:
            await stage.close()
        if job.done():
            return b"", None


async def _job(line: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    job = await loop.sock_recv(line, _MAX_JOB)
    if job:
        await loop.sock_sendall(line, TAKEN)
    return job


async def _open(needs: StageNeeds) -> OpenedStage | None:
    try:
        return await open_for(needs)
    except StageError as error:
        # A recording that comes meanwhile opens its own, and reports it if that fails too.
        logger.warning("cannot open a warm stage: %s", str(error).splitlines()[0])
        return None


async def _worn_out(stage: OpenedStage | None) -> None:
    """Wait until a stage is too old, or fails."""
    if stage is None:
        await asyncio.sleep(RETRY_SECONDS)
        return
    await first_of(
        old=asyncio.sleep(MAX_SECONDS), died=stage.stage.died(), gone=stage.stage.browser.gone.wait()
    )
