"""`farm up`: Redis, API and worker in one process tree, for a farm of one machine."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from typing import Any, Final

import httpx
import redis
from rq import Worker

from recording_farm.browser_bot.waiting import first_of
from recording_farm.farm.cli.greeting import login_hint
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.api_keys import load_api_keys
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.embedded import EmbeddedRedis, embedded_redis
from recording_farm.farm.db.faults import describe, refuse_eviction
from recording_farm.farm.errors import FarmError, RedisUnavailableError, SettingsError
from recording_farm.farm.queues.recordings import node_recordings_queue
from recording_farm.farm.spool.spool import spools

logger = logging.getLogger(__name__)

RESTART_SECONDS = 1.0
MAX_RESTART_SECONDS = 15.0
"""Pauses before a part that died is restarted: they double while it lives for less than a minute."""
_STABLE_SECONDS = 60.0
STOP_TIMEOUT = 120.0
"""The worker ends its recordings and finishes them; the API stays until it has."""

_READY_SECONDS: Final = 120.0
"""After this time the user is told how to log in, even if a part is not ready."""
_POLL_SECONDS: Final = 0.2

PROGRAMS = {"worker": ("-m", "recording_farm.farm.cli", "worker"), "api": ("-P", "-m", "recording_farm.api")}
"""How each part is started; `farm api` would only run the same, half a second later."""

WHEN_ORPHANED = {"worker": "KILL", "api": "TERM"}
"""The signal of a part when `farm up` dies. A killed worker ends nothing: the next start resumes it all."""


class PartUnusableError(FarmError):
    """A part of the farm cannot run with these settings, so that a restart would not help."""

    exit_code = SettingsError.exit_code


def require_redis(url: str) -> None:
    """Raise RedisUnavailableError when Redis cannot be reached, or refuses the user."""
    try:
        with connect(url) as client:
            client.ping()
    except (redis.BusyLoadingError, redis.exceptions.OutOfMemoryError):
        return  # the worker waits for it
    except redis.ResponseError as error:
        if isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError):
            raise RedisUnavailableError(f"FARM_REDIS_URL: {describe(error)}") from None
        return
    except (redis.RedisError, OSError) as error:
        raise RedisUnavailableError(f"FARM_REDIS_URL: {describe(error)}") from None


async def run_farm(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then stop the worker, the API and Redis; at once at a second signal.

    Raises RedisUnavailableError when Redis cannot be reached or the embedded one does not start,
    RedisEvictsError when Redis would delete records, PartUnusableError when a part cannot run.
    """
    stopping, at_once = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        (at_once if stopping.is_set() else stopping).set()

    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stop)
    if settings.redis_url is not None:
        await asyncio.to_thread(require_redis, settings.redis_url)
    with nullcontext() if settings.redis_url else embedded_redis(settings) as server:
        await asyncio.to_thread(refuse_eviction, settings.redis_address)
        made = (await asyncio.to_thread(load_api_keys, settings)).made
        watchdog = asyncio.create_task(_keep_redis(server)) if server else None
        ready = asyncio.create_task(_until_ready(settings))
        api_stopping = asyncio.Event()
        worker = asyncio.create_task(
            _keep_running("worker", stopping, at_once, settings.drain_seconds + STOP_TIMEOUT)
        )
        api = asyncio.create_task(_keep_running("api", api_stopping, at_once, STOP_TIMEOUT))
        try:
            await _first(ready, worker, api, stopping)
            if ready.done() and ready.result():
                _say("the farm is ready; Ctrl-C stops it")
            if made or ready.done():
                # Last, and also if the farm never gets ready: a key is shown only once.
                _say(login_hint(settings, made))
            await _first(worker, api, stopping)
            stopping.set()
            _say("stopping the farm")
            if not any(spools(settings.spool_dir)):
                api_stopping.set()  # nobody has to ask for a recording that ends
            await asyncio.wait({worker})
        finally:
            stopping.set()
            api_stopping.set()
            ready.cancel()
            await asyncio.wait({api, worker})
            if watchdog:
                watchdog.cancel()
        for part in (worker, api):
            part.result()


async def _first(*waiting: "asyncio.Task[Any] | asyncio.Event") -> None:
    """Wait for the end of a task, whatever its result, or for an event. The tasks are not cancelled."""
    tasks = {each for each in waiting if isinstance(each, asyncio.Task)}
    events = {asyncio.create_task(each.wait()) for each in waiting if isinstance(each, asyncio.Event)}
    try:
        await asyncio.wait(tasks | events, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for event in events:
            event.cancel()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def _until_ready(settings: Settings) -> bool:
    """Wait until the API answers and a slot of this node takes recordings; False if that takes too long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_READY_SECONDS):
            # The certificate of the API has its public name.
            async with httpx.AsyncClient(trust_env=False, timeout=5.0, verify=False) as client:  # noqa: S501
                while True:
                    answers = await _answers(client, f"{settings.local_url}/healthz")
                    if answers and await asyncio.to_thread(_has_slot, settings):
                        return True
                    await asyncio.sleep(_POLL_SECONDS)
    return False


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _has_slot(settings: Settings) -> bool:
    with suppress(redis.RedisError), connect(settings.redis_address, retries=0) as client:
        return Worker.count(queue=node_recordings_queue(client, settings.node)) > 0
    return False


async def _keep_redis(server: EmbeddedRedis) -> None:
    """Restart Redis if it dies, until cancelled: neither part of the farm can end properly without it."""
    while True:
        await asyncio.sleep(RESTART_SECONDS)
        if (status := server.process.poll()) is not None:
            logger.error("Redis ended with %s and is restarted", status)
            server.start_again()


async def _keep_running(part: str, stopping: asyncio.Event, at_once: asyncio.Event, grace: float) -> None:
    """Run a part of the farm, restart it if it dies, until told to stop; then give it `grace` seconds to end.

    Raises PartUnusableError when it ends with the exit code of an error that a restart cannot mend.
    """
    pause = RESTART_SECONDS
    while not stopping.is_set():
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", WHEN_ORPHANED[part], "--", sys.executable, *PROGRAMS[part]),
            env=_environment(),
            # A Ctrl-C at the terminal goes to `farm up` alone, which stops its parts in order.
            process_group=0,
        )
        await first_of(death=process.wait(), told=stopping.wait())
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await first_of(death=process.wait(), hurry=at_once.wait())
            if process.returncode is None:
                logger.error("the %s has not ended and is killed", part)
                process.kill()
                await process.wait()
        elif process.returncode == SettingsError.exit_code:
            raise PartUnusableError(f"the {part} cannot run; the reason is above")
        elif not stopping.is_set():
            pause = RESTART_SECONDS if time.monotonic() - began > _STABLE_SECONDS else pause
            logger.error("the %s ended with %s and is restarted", part, process.returncode)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), pause)
            pause = min(2 * pause, MAX_RESTART_SECONDS)


def _environment() -> Mapping[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1"}
