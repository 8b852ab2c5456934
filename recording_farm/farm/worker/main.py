"""The worker of a node: the processes that make recordings, finish them, upload them and send webhooks.

farm worker ── pool of slots     an RQ worker a slot ── work horse: `farm.jobs.record`
            ├─ pool "transfers"  one RQ worker ── work horse: `farm.jobs.finish`, and what cron queues
            ├─ pool "uploads"    FARM_TRANSFERS RQ workers ── work horse: `farm.jobs.transfer`
            ├─ pool "webhooks"   FARM_WEBHOOK_SENDERS RQ workers: `farm.webhooks.sender`
            ├─ cron              each minute queues `farm.jobs.retention` and `farm.recovery.local_spool`
            ├─ dispatcher        turns changes of recordings into deliveries: `farm.webhooks.dispatcher`
            ├─ evidence          brings evidence of faults into the store: `farm.evidence.uploader`
            ├─ node              says that this node lives, looks for others: `farm.worker.heartbeat`
            └─ node server       answers at FARM_NODE_PORT, if it is set: `farm.worker.node_server`
"""

import logging
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Final

import redis
from rq import Queue

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.faults import Outage, probe, refuse_eviction
from recording_farm.farm.errors import RedisUnavailableError
from recording_farm.farm.evidence.uploader import run_evidence_carrier
from recording_farm.farm.host.processes import call_this_process, die_with_parent
from recording_farm.farm.host.programs import require_programs
from recording_farm.farm.jobs.entry import delete_expired, resume_unqueued
from recording_farm.farm.nodes.registry import Nodes
from recording_farm.farm.queues.recordings import (
    continuations_queue,
    node_recordings_queue,
    recordings_queues,
)
from recording_farm.farm.queues.transfers import transfers_queue, uploads_queue
from recording_farm.farm.queues.webhooks import enqueue_sending, webhooks_queue
from recording_farm.farm.spool.spool import recordings_under_way, spools
from recording_farm.farm.webhooks.dispatcher import run_dispatcher
from recording_farm.farm.webhooks.signature import load_signing_key
from recording_farm.farm.worker.heartbeat import run_node
from recording_farm.farm.worker.node_server import run_node_server
from recording_farm.farm.worker.redis_outage import Absence
from recording_farm.farm.worker.rq_workers import (
    PatientCron,
    PatientForkingWorker,
    PatientPool,
    PatientSimpleWorker,
    PatientWorker,
    patiently,
)
from recording_farm.farm.worker.slot import SlotWorker, SpoolWorker

logger = logging.getLogger(__name__)

RESTART_SECONDS = 1.0
MINUTE = 60
_ENDING: Final = (signal.SIGINT, signal.SIGTERM)

_LOOK_SECONDS: Final = 1.0
"""Between two looks at what is to end."""

_LEFT: Final = (
    "Redis is away or takes no writes; what is not finished lies in the spool, "
    "and is gone on with at the next start"
)

_PATIENCE: Final = 5.0
_PATIENCE_WITH_SPOOL: Final = 60.0
"""Seconds that a worker which ends waits for a Redis that is away: with an empty spool, and to finish what
lies in it, for it may be on a disk that goes with the node."""


class UploadWorker(SpoolWorker):
    """Uploads to customers' storage. Each can be gone on with later, so a shutdown waits for none."""

    def handle_warm_shutdown_request(self) -> None:
        """Have the running upload end where it is."""
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]
        if self.horse_pid:
            with suppress(ProcessLookupError):
                os.kill(self.horse_pid, signal.SIGTERM)


def run_worker(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; then end the running recordings properly, finish them, and return.

    Raises ProgramMissingError when something is not installed, redis.RedisError when Redis cannot be reached
    at the start, RedisEvictsError when it would delete records, RedisUnavailableError when it is away at the
    end: what is not finished lies in the spool then, and is gone on with at the next start. A Redis that can
    be reached and takes no writes is waited for.
    """
    require_programs()
    refuse_eviction(settings.redis_address)
    with connect(settings.redis_address) as client:
        _wait_until_usable(client)
        # Whatever is forked from here on dies with its parent: pools, workers, horses, RQ's scheduler.
        os.register_at_fork(after_in_child=die_with_parent)
        shutil.rmtree(settings.live_dir, ignore_errors=True)  # of recorders that are dead
        load_signing_key(settings)  # made now, if there is none, and a bad one is told now
        transfers, webhooks = transfers_queue(client, settings.node), webhooks_queue(client)
        # Before any slot looks into the spool: what lies there is not for others to take over any more.
        Nodes(client).beat(settings.node, settings.slots)
        recordings = (
            node_recordings_queue(client, settings.node),
            continuations_queue(client),
            *recordings_queues(client),
        )
        uploads = uploads_queue(client, settings.node), uploads_queue(client, None)
        starters = (
            partial(_start_pool, settings, recordings, settings.slots, SlotWorker),
            partial(_start_pool, settings, [transfers], 1, SpoolWorker),
            partial(_start, settings, "cron", _run_cron),
            partial(_start_pool, settings, uploads, settings.transfers, UploadWorker),
            partial(_start, settings, "dispatcher", run_dispatcher),
            partial(_start, settings, "node", run_node),
            # Their job serves many receivers at once by itself, so it needs no process of its own.
            partial(_start_pool, settings, [webhooks], settings.webhook_senders, PatientSimpleWorker),
            partial(_start, settings, "evidence", run_evidence_carrier),
            *((partial(_start, settings, "node server", run_node_server),) if settings.node_port else ()),
        )
        patience = _Patience(settings)
        parts = [start() for start in starters]
        try:
            _run_until_told(parts, starters, patience)
            _slots, finishing, *others = parts
            _end(finishing, patience)
            # What the last recordings left is finished here and now, and told.
            parts.append(_start_burst(settings, transfers, PatientForkingWorker))
            _wait_for_burst(parts[-1], client, patience)
            for part in others:
                _end(part, patience)
            enqueue_sending(client)
            parts.append(_start_burst(settings, webhooks, PatientSimpleWorker))
            _wait_for_burst(parts[-1], client, patience)
        except redis.RedisError as error:
            raise RedisUnavailableError(_LEFT) from error
        finally:
            for part in parts:
                part.kill()
                part.join()


def _wait_until_usable(client: redis.Redis) -> None:
    """Wait until Redis takes writes. Raises redis.RedisError when it cannot be reached.

    A wrong address is better told now than by every slot.
    """
    # These are answers: one that cannot save (MISCONF) refuses a PING, too, and one that loads comes soon.
    with suppress(redis.ResponseError, redis.BusyLoadingError):
        client.ping()
    patiently(Outage("no recordings can be taken", logging.WARNING), probe, client)


def _start_pool(
    settings: Settings, queues: Sequence[Queue], workers: int, worker_class: type[PatientWorker]
) -> BaseProcess:
    names = [queue.name for queue in queues]
    run = partial(_run_pool, names=names, workers=workers, worker_class=worker_class)
    return _start(settings, names[0], run)


def _run_pool(
    settings: Settings, names: Sequence[str], workers: int, worker_class: type[PatientWorker]
) -> None:
    pool = PatientPool(settings.redis_address, names, workers, worker_class)
    pool.start(logging_level="WARNING")


def _start_burst(settings: Settings, queue: Queue, worker_class: type[PatientWorker]) -> BaseProcess:
    """Start what does all that is in a queue, and ends."""
    # Not in this process: RQ waits for Redis for ever, and takes the signals for itself.
    return _start(
        settings, f"last {queue.name}", partial(_run_burst, name=queue.name, worker_class=worker_class)
    )


def _run_burst(settings: Settings, name: str, worker_class: type[PatientWorker]) -> None:
    with connect(settings.redis_address) as client:
        worker_class([name], connection=client).work(burst=True, logging_level="WARNING")


def _run_cron(settings: Settings) -> None:
    cron = PatientCron(connect(settings.redis_address), logging_level="WARNING")
    queue = transfers_queue(cron.connection, settings.node)
    for job in (delete_expired, resume_unqueued):
        cron.register(job, queue.name, interval=MINUTE, result_ttl=0, failure_ttl=3600)
    cron.start()  # type: ignore[no-untyped-call]


def _start(settings: Settings, name: str, run: Callable[[Settings], None]) -> BaseProcess:
    process = multiprocessing.get_context("fork").Process(
        target=_run_apart, args=(settings, name, run), name=name
    )
    process.start()
    return process


def _run_apart(settings: Settings, name: str, run: Callable[[Settings], None]) -> None:
    # A Ctrl-C at the terminal goes to the parent alone, which passes it on in order.
    os.setpgrp()
    for sign in _ENDING:
        # A part that is started again would have the parent's handler.
        signal.signal(sign, signal.SIG_DFL)
    call_this_process(f"farm {name}")
    run(settings)


class _Patience:
    """With what cannot end, because Redis is away."""

    def __init__(self, settings: Settings) -> None:
        self._spool = settings.spool_dir
        self._absence = Absence(settings.redis_address)

    def look(self) -> None:
        """Look whether there is anything to wait for; recordings that run are never given up.

        Raises RedisUnavailableError when there is not.
        """
        away = self._absence.seconds()
        if away < _PATIENCE or recordings_under_way(self._spool):
            return
        if away >= _PATIENCE_WITH_SPOOL or not any(spools(self._spool)):
            raise RedisUnavailableError(_LEFT)


def _run_until_told(
    parts: list[BaseProcess], starters: Sequence[Callable[[], BaseProcess]], patience: _Patience
) -> None:
    """Keep all parts running, again if one dies, until the first one, the slots, has ended after a signal.

    The slots are told to end once: told twice, RQ would kill their recordings. All others run meanwhile, for
    that may take long. A second signal ends everything at once: what runs goes on when a worker starts again.
    Raises RedisUnavailableError when the slots cannot end.
    """
    stopping = False
    told, tell = multiprocessing.Pipe(duplex=False)

    def stop(_: int, __: FrameType | None) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            logger.warning("ending the running recordings; a second signal ends everything at once")
            # Not told from here: it may be about to be started again.
            tell.send_bytes(b"stop")
            return
        logger.warning("ending at once")
        for part in parts:
            part.kill()
        raise SystemExit(1)

    for sign in _ENDING:
        signal.signal(sign, stop)
    while True:
        # A signal wakes this by what it sends.
        waited = _LOOK_SECONDS if stopping else None
        woken = multiprocessing.connection.wait([told, *(part.sentinel for part in parts)], waited)
        if told in woken:
            told.recv_bytes()
            parts[0].terminate()
        for number, part in enumerate(parts):
            if part.is_alive():
                continue
            if stopping and number == 0:
                return
            logger.error("%s has died and is started again", part.name)
            time.sleep(RESTART_SECONDS)
            parts[number] = starters[number]()
        if stopping:
            patience.look()


def _end(part: BaseProcess, patience: _Patience) -> None:
    """Have a part end, and wait for it. Raises RedisUnavailableError when it cannot."""
    part.terminate()
    _wait_for(part, patience)


def _wait_for_burst(part: BaseProcess, client: redis.Redis, patience: _Patience) -> None:
    """Wait until all is done. Raises RedisUnavailableError, redis.RedisError when Redis is away."""
    _wait_for(part, patience)
    if part.exitcode:
        probe(client)  # else it has died for want of it
        logger.error("%s has died; what it has left is done at the next start", part.name)


def _wait_for(part: BaseProcess, patience: _Patience) -> None:
    while part.is_alive():
        part.join(_LOOK_SECONDS)
        patience.look()
