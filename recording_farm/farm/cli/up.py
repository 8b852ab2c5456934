"""`farm up`: Redis, API and worker in one process tree, for a farm of one machine."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress

from recording_farm.browser_bot.waiting import first_of
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.embedded import EmbeddedRedis, embedded_redis
from recording_farm.farm.db.faults import refuse_eviction

logger = logging.getLogger(__name__)

RESTART_SECONDS = 1.0
MAX_RESTART_SECONDS = 15.0
"""Before a part that died is started again; twice as long each time that it does not live for a minute."""
_LIVED_SECONDS = 60.0
STOP_TIMEOUT = 120.0
"""The worker ends its recordings and finishes them; the API stays until it has."""

PROGRAMS = {"worker": ("-m", "recording_farm.farm.cli", "worker"), "api": ("-P", "-m", "recording_farm.api")}
"""As what each part is run; `farm api` would only run the same, after half a second."""

WHEN_ORPHANED = {"worker": "KILL", "api": "TERM"}
"""What a part gets when `farm up` dies. The worker ends nothing then: what runs goes on at the next start."""


async def run_farm(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then end in order: worker, API, Redis; at once with a second signal.

    Raises RedisUnavailableError when the embedded Redis does not start, RedisEvictsError when one would
    delete records.
    """
    stopping, at_once = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        (at_once if stopping.is_set() else stopping).set()

    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stop)
    patience = settings.drain_seconds + STOP_TIMEOUT
    with nullcontext() if settings.redis_url else embedded_redis(settings) as server:
        await asyncio.to_thread(refuse_eviction, settings.redis_address)
        watch = asyncio.create_task(_keep_redis(server)) if server else None
        worker = asyncio.create_task(_keep_running("worker", stopping, at_once, patience))
        api_stopping = asyncio.Event()
        api = asyncio.create_task(_keep_running("api", api_stopping, at_once, STOP_TIMEOUT))
        try:
            await worker
        finally:
            api_stopping.set()
            await api
            if watch:
                watch.cancel()


async def _keep_redis(server: EmbeddedRedis) -> None:
    """Start Redis again if it dies, until cancelled: neither part of the farm can end properly without it."""
    while True:
        await asyncio.sleep(RESTART_SECONDS)
        if (status := server.process.poll()) is not None:
            logger.error("Redis ended with %s and is started again", status)
            server.start_again()


async def _keep_running(part: str, stopping: asyncio.Event, at_once: asyncio.Event, patience: float) -> None:
    """Run a part of the farm, again if it dies, until told to stop; then wait so long (s) for it to end."""
    pause = RESTART_SECONDS
    while not stopping.is_set():
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", WHEN_ORPHANED[part], "--", sys.executable, *PROGRAMS[part]),
            env=_environment(),
            # A Ctrl-C at the terminal goes to `farm up` alone, which ends its parts in order.
            process_group=0,
        )
        await first_of(death=process.wait(), told=stopping.wait())
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await first_of(death=process.wait(), hurry=at_once.wait())
            if process.returncode is None:
                logger.error("the %s has not ended and is killed", part)
                process.kill()
                await process.wait()
        elif not stopping.is_set():
            pause = RESTART_SECONDS if time.monotonic() - began > _LIVED_SECONDS else pause
            logger.error("the %s ended with %s and is started again", part, process.returncode)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), pause)
            pause = min(2 * pause, MAX_RESTART_SECONDS)


def _environment() -> Mapping[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1"}
