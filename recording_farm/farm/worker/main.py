"""The worker of a node: the processes that record, finish, upload and send webhooks.

farm worker ── pool of slots     an RQ worker for each slot ── work horse: `farm.jobs.record`
            ├─ pool "transfers"  one RQ worker ── work horse: `farm.jobs.finish`, and what cron enqueues
            ├─ pool "uploads"    FARM_TRANSFERS RQ workers ── work horse: `farm.jobs.transfer`
            ├─ pool "webhooks"   FARM_WEBHOOK_SENDERS RQ workers: `farm.webhooks.sender`
            ├─ cron              enqueues `farm.jobs.retention` and `farm.recovery.local_spool` each minute
            ├─ dispatcher        turns changes of recordings into deliveries: `farm.webhooks.dispatcher`
            ├─ progressive       cuts recordings while they run: `farm.progressive.node`
            ├─ evidence          uploads evidence of faults to the store: `farm.evidence.uploader`
            ├─ node              sends this node's heartbeat, watches others': `farm.worker.heartbeat`
            └─ node server       answers at FARM_NODE_PORT, if that is set: `farm.worker.node_server`
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
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Final

import redis
from rq import Queue

from recording_farm.browser_bot.stage.autogroup import begin_session
from recording_farm.browser_bot.stage.browser import warn_if_root
from recording_farm.browser_bot.stage.control_group import prepare
from recording_farm.browser_bot.stage.network import effective_policy
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.faults import Outage, probe, refuse_eviction
from recording_farm.farm.errors import RedisUnavailableError
from recording_farm.farm.evidence.uploader import run_evidence_uploader
from recording_farm.farm.host.processes import die_with_parent, set_process_title
from recording_farm.farm.host.programs import require_programs
from recording_farm.farm.host.startup import require_free_port, require_writable_directory
from recording_farm.farm.jobs.entry import delete_expired, resume_unqueued
from recording_farm.farm.nodes.registry import Nodes
from recording_farm.farm.progressive.node import run_progressive
from recording_farm.farm.queues.recordings import base_queues, continuations_queue, node_recordings_queue
from recording_farm.farm.queues.transfers import transfers_queue, uploads_queue
from recording_farm.farm.queues.webhooks import enqueue_sending, webhooks_queue
from recording_farm.farm.spool.spool import count_running_recordings, spools
from recording_farm.farm.webhooks.deliveries import Deliveries
from recording_farm.farm.webhooks.dispatcher import run_dispatcher
from recording_farm.farm.webhooks.signature import load_signing_key
from recording_farm.farm.worker.heartbeat import run_node
from recording_farm.farm.worker.node_server import run_node_server
from recording_farm.farm.worker.redis_outage import RedisOutage
from recording_farm.farm.worker.rq_workers import (
    ResilientCron,
    ResilientForkingWorker,
    ResilientPool,
    ResilientSimpleWorker,
    ResilientWorker,
    retry_until_available,
)
from recording_farm.farm.worker.slot import SlotWorker, SpoolWorker

logger = logging.getLogger(__name__)

RESTART_SECONDS = 1.0
MINUTE = 60
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_POLL_SECONDS: Final = 1.0
"""Between two checks of the parts that are shutting down."""

_UNFINISHED: Final = (
    "Redis is away or rejects writes; "
    "unfinished recordings are in the spool and are resumed at the next start"
)

_GRACE_SECONDS: Final = 5.0
_GRACE_SECONDS_WITH_SPOOL: Final = 60.0
"""How long a shutdown waits for a Redis that is away: with an empty spool, and with recordings in it that
could still be finished. The spool's disk may go away with the node."""


class UploadWorker(SpoolWorker):
    """Uploads to customers' storage. An upload can be resumed later, so a shutdown does not wait for it."""

    def handle_warm_shutdown_request(self) -> None:
        """Interrupt the running upload."""
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]
        if self.horse_pid:
            with suppress(ProcessLookupError):
                os.kill(self.horse_pid, signal.SIGTERM)


@dataclass
class Part:
    """A process of the worker. `may_stop_early`: it has no work while nothing is recorded or finished."""

    start: Callable[[], BaseProcess]
    may_stop_early: bool = False
    process: BaseProcess = field(init=False)
    stopping: bool = False

    def __post_init__(self) -> None:
        """Start it."""
        self.process = self.start()

    def restart_if_dead(self) -> None:
        """Start it again if it has died without being told to stop."""
        if self.stopping or self.process.is_alive():
            return
        logger.error("%s has died and is restarted", self.process.name)
        time.sleep(RESTART_SECONDS)
        self.process = self.start()

    def stop(self) -> None:
        """Send SIGTERM, once: RQ kills its work horses at a second one."""
        if not self.stopping:
            self.stopping = True
            self.process.terminate()


def run_worker(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; then end the running recordings properly, finish them, and return.

    Raises ProgramMissingError when a program is not installed, SettingsError when FARM_NODE_PORT is in use,
    redis.RedisError when Redis cannot be reached at the start, RedisEvictsError when it would delete records,
    RedisUnavailableError when it is away at the end: unfinished recordings are then in the spool and are
    resumed at the next start. A Redis that can be reached but rejects writes is waited for.
    """
    require_programs()
    require_writable_directory(settings.data_dir, "FARM_DATA_DIR")
    if settings.node_port is not None:
        require_free_port("FARM_NODE", settings.node_host, settings.node_port)
    warn_if_root()  # here once, and not in each slot
    effective_policy(settings.webrtc_udp)  # it checks the machine, and warns, once too
    if reason := prepare():
        logger.info("stages get no control groups: %s", reason)
    refuse_eviction(settings.redis_address)
    with connect(settings.redis_address) as client:
        _wait_until_usable(client)
        # All processes forked from here on die with their parent: pools, workers, horses, RQ's scheduler.
        os.register_at_fork(after_in_child=die_with_parent)
        shutil.rmtree(settings.live_dir, ignore_errors=True)  # left by recorders that died
        load_signing_key(settings)  # created now if there is none; a bad one is reported now
        transfers, webhooks = transfers_queue(client, settings.node), webhooks_queue(client)
        # Before any slot looks into the spool: other nodes may no longer take over what is in it.
        Nodes(client).beat(settings.node, settings.slots)
        recordings = (
            node_recordings_queue(client, settings.node),
            continuations_queue(client),
            *base_queues(client),
        )
        uploads = uploads_queue(client, settings.node), uploads_queue(client, None)
        slots = Part(partial(_start_pool, settings, recordings, settings.slots, SlotWorker))
        finishing = Part(partial(_start_pool, settings, [transfers], 1, SpoolWorker), may_stop_early=True)
        others = [
            Part(partial(_start, settings, "cron", _run_cron), may_stop_early=True),
            Part(
                partial(_start_pool, settings, uploads, settings.transfers, UploadWorker), may_stop_early=True
            ),
            Part(partial(_start, settings, "dispatcher", run_dispatcher)),
            Part(partial(_start, settings, "node", run_node)),
            # Its job serves many receivers at once by itself, so it needs no process of its own.
            Part(
                partial(_start_pool, settings, [webhooks], settings.webhook_senders, ResilientSimpleWorker),
                may_stop_early=True,
            ),
            Part(partial(_start, settings, "evidence", run_evidence_uploader), may_stop_early=True),
            Part(partial(_start, settings, "progressive", run_progressive), may_stop_early=True),
        ]
        if settings.node_port is not None:
            others.append(Part(partial(_start, settings, "node server", run_node_server)))
        parts = [slots, finishing, *others]
        deadline = ShutdownDeadline(settings)
        try:
            _run_until_slots_end(parts, slots, settings, deadline)
            _stop([finishing], deadline)
            if transfers.count:
                # The last recordings are finished and reported before this node goes.
                parts.append(
                    burst := Part(partial(_start_burst, settings, transfers, ResilientForkingWorker))
                )
                _wait_for_burst(burst, client, deadline)
            _stop(others, deadline)
            if Deliveries(client).seconds_until_due() == 0:
                enqueue_sending(client)
            if webhooks.count:
                parts.append(burst := Part(partial(_start_burst, settings, webhooks, ResilientSimpleWorker)))
                _wait_for_burst(burst, client, deadline)
        except redis.RedisError as error:
            raise RedisUnavailableError(_UNFINISHED) from error
        finally:
            for part in parts:
                part.process.kill()
                part.process.join()


def _wait_until_usable(client: redis.Redis) -> None:
    """Wait until Redis accepts writes. Raises redis.RedisError when it cannot be reached.

    So a wrong address is reported once, and not by every slot.
    """
    # These are answers: a Redis that cannot save (MISCONF) refuses PING too; one that loads is ready soon.
    with suppress(redis.ResponseError, redis.BusyLoadingError):
        client.ping()
    retry_until_available(Outage("no recordings can be started", logging.WARNING), probe, client)


def _start_pool(
    settings: Settings, queues: Sequence[Queue], workers: int, worker_class: type[ResilientWorker]
) -> BaseProcess:
    names = [queue.name for queue in queues]
    run = partial(_run_pool, names=names, workers=workers, worker_class=worker_class)
    return _start(settings, names[0], run)


def _run_pool(
    settings: Settings, names: Sequence[str], workers: int, worker_class: type[ResilientWorker]
) -> None:
    pool = ResilientPool(settings.redis_address, names, workers, worker_class)
    pool.start(logging_level="WARNING")


def _start_burst(settings: Settings, queue: Queue, worker_class: type[ResilientWorker]) -> BaseProcess:
    """Start a process that works off a queue, and ends."""
    # Not in this process: RQ waits for Redis for ever, and installs its own signal handlers.
    return _start(
        settings, f"last {queue.name}", partial(_run_burst, name=queue.name, worker_class=worker_class)
    )


def _run_burst(settings: Settings, name: str, worker_class: type[ResilientWorker]) -> None:
    with connect(settings.redis_address) as client:
        worker_class([name], connection=client).work(burst=True, logging_level="WARNING")


def _run_cron(settings: Settings) -> None:
    cron = ResilientCron(connect(settings.redis_address), logging_level="WARNING")
    queue = transfers_queue(cron.connection, settings.node)
    for job in (delete_expired, resume_unqueued):
        cron.register(job, queue.name, interval=MINUTE, result_ttl=0, failure_ttl=3600)
    cron.start()  # type: ignore[no-untyped-call]


def _start(settings: Settings, name: str, run: Callable[[Settings], None]) -> BaseProcess:
    process = multiprocessing.get_context("fork").Process(
        target=_run_part, args=(settings, name, run), name=name
    )
    process.start()
    return process


def _run_part(settings: Settings, name: str, run: Callable[[Settings], None]) -> None:
    # A Ctrl-C at the terminal goes to the parent alone, which stops its parts in order.
    begin_session()
    for sign in _SIGNALS:
        # A part that is restarted would inherit the parent's handler.
        signal.signal(sign, signal.SIG_DFL)
    set_process_title(f"farm {name}")
    run(settings)


class ShutdownDeadline:
    """How long a shutdown waits for a Redis that is away."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is asked yet."""
        self._spool = settings.spool_dir
        self._outage = RedisOutage(settings.redis_address)

    def check(self) -> None:
        """Raise RedisUnavailableError if no recording runs and the grace period is over."""
        duration = self._outage.duration()
        if duration < _GRACE_SECONDS or count_running_recordings(self._spool):
            return
        if duration >= _GRACE_SECONDS_WITH_SPOOL or not any(spools(self._spool)):
            raise RedisUnavailableError(_UNFINISHED)


def _run_until_slots_end(
    parts: Sequence[Part], slots: Part, settings: Settings, deadline: ShutdownDeadline
) -> None:
    """Keep all parts running, restart those that die, until the slots have ended after a signal.

    The other parts run meanwhile, because ending a recording may take long; on an idle node those without
    work stop at once. A second signal kills everything: the next worker resumes the recordings.
    Raises RedisUnavailableError when the slots cannot end.
    """
    signals = 0
    signaled, notify = multiprocessing.Pipe(duplex=False)

    def stop(_: int, __: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            # The slots are not stopped here: they may be just about to be restarted.
            notify.send_bytes(b"stop")
            return
        logger.warning("killing everything at once")
        for part in parts:
            part.process.kill()
        raise SystemExit(1)

    for sign in _SIGNALS:
        signal.signal(sign, stop)
    while True:
        # A signal ends this wait through the pipe.
        sentinels = [part.process.sentinel for part in parts if not part.stopping or part is slots]
        woken = multiprocessing.connection.wait(
            [signaled, *sentinels], _POLL_SECONDS if slots.stopping else None
        )
        if signaled in woken:
            signaled.recv_bytes()
            _begin_shutdown(parts, slots, settings)
        if slots.stopping and not slots.process.is_alive():
            return
        for part in parts:
            part.restart_if_dead()
        if slots.stopping:
            deadline.check()


def _begin_shutdown(parts: Sequence[Part], slots: Part, settings: Settings) -> None:
    if running := count_running_recordings(settings.spool_dir):
        logger.warning(
            "ending the running recordings (%d); a second signal kills everything at once", running
        )
    slots.stop()
    if not any(spools(settings.spool_dir)):
        # A recording that a slot takes at this very moment is finished by the bursts.
        for part in parts:
            if part.may_stop_early:
                part.stop()


def _stop(parts: Sequence[Part], deadline: ShutdownDeadline) -> None:
    """Stop parts, all at once, and wait for them. Raises RedisUnavailableError when one cannot end."""
    for part in parts:
        part.stop()
    for part in parts:
        _wait_for(part, deadline)


def _wait_for_burst(part: Part, client: redis.Redis, deadline: ShutdownDeadline) -> None:
    """Wait until a queue is empty. Raises RedisUnavailableError, redis.RedisError when Redis is away."""
    _wait_for(part, deadline)
    if part.process.exitcode:
        probe(client)  # raises if it has died because Redis is away
        logger.error("%s has died; the next start continues its work", part.process.name)


def _wait_for(part: Part, deadline: ShutdownDeadline) -> None:
    while part.process.is_alive():
        part.process.join(_POLL_SECONDS)
        if part.process.is_alive():
            deadline.check()
