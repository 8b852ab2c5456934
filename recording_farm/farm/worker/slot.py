"""A slot: an RQ worker that runs one recording at a time, each in its own work horse.

A warm work horse is forked ahead of its job and opens a stage. It receives three ids through a socket: the
job, the queue and RQ's execution.
"""

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

import redis
from rq import Queue
from rq.exceptions import DequeueTimeout, StopRequested
from rq.executions import Execution
from rq.job import Job

from recording_farm.browser_bot.stage.autogroup import begin_session
from recording_farm.browser_bot.stage.cleanup import clean_up_stages, find_orphan
from recording_farm.browser_bot.stage.environment import Environment
from recording_farm.encoder.formats import Format
from recording_farm.farm.config.settings import Settings, load_settings
from recording_farm.farm.errors import FarmError, NotFoundError, RecordUnreadableError
from recording_farm.farm.evidence.dead_recorder import describe_exit, mark_reported, save_crash_report
from recording_farm.farm.evidence.directory import evidence_dir
from recording_farm.farm.host.ca_file import nss_database
from recording_farm.farm.host.processes import set_process_title
from recording_farm.farm.host.resources import Processors
from recording_farm.farm.nodes.registry import Nodes, Shortage
from recording_farm.farm.nodes.slot_number import acquire_slot_number
from recording_farm.farm.pages.access import environment_of
from recording_farm.farm.queues.fair_queue import BELL_KEY, take_next
from recording_farm.farm.queues.jobs import note_node
from recording_farm.farm.queues.recordings import organizations_queues, put_back
from recording_farm.farm.recorder.opened_stage import StageNeeds
from recording_farm.farm.recorder.warm_stage import TAKEN, WARM_HORSE, close_ready_stage, wait_warm
from recording_farm.farm.recording.formats import format_of
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recovery.local_spool import recover, recover_spool
from recording_farm.farm.spool.spool import spool_directory
from recording_farm.farm.worker.admission import Admission
from recording_farm.farm.worker.draining import clear_draining, mark_draining
from recording_farm.farm.worker.libraries import load_library_for
from recording_farm.farm.worker.rq_workers import ResilientForkingWorker, retry_until_available

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2
"""Interval of the admission check while the slot is idle."""

TAKE_TIMEOUT: Final = 2.0
END_TIMEOUT: Final = 5.0


class SpoolWorker(ResilientForkingWorker):
    """A worker on this node's spool. It recovers after a crash at once; RQ alone would take ten minutes."""

    def before_work(self) -> None:
        """Recover the recordings that crashed workers left in the spool."""
        recover_spool(load_settings(), self.connection)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run a job, and store this node's name in it for the queue dashboard."""
        settings = load_settings()
        with suppress(redis.RedisError):
            note_node(job, settings.node)
        load_library_for(job, settings.store_location.kind)
        super().execute_job(job, queue)


@dataclass(frozen=True)
class WarmHorse:
    """A pre-forked work horse that waits for its job at the other end of a socket."""

    pid: int
    line: socket.socket

    @classmethod
    def fork(cls, run: Callable[[socket.socket], None]) -> "WarmHorse":
        """Fork a process that calls `run`."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid:
            theirs.close()
            ours.settimeout(TAKE_TIMEOUT)
            return cls(pid, ours)
        status = 1
        try:
            begin_session()
            ours.close()
            run(theirs)
            status = 0
        except Exception:
            logger.exception("a warm work horse failed")
        finally:
            os._exit(status)

    def is_alive(self) -> bool:
        """Whether it can take a job. A dead one is reaped."""
        with suppress(ChildProcessError):
            return os.waitpid(self.pid, os.WNOHANG) == (0, 0)
        return False

    def take(self, job: bytes) -> bool:
        """Hand it its job; returns whether it took it. One that does not answer is killed."""
        with self.line, suppress(OSError):
            self.line.sendall(job)
            if self.line.recv(1) == TAKEN:
                return True
        self._kill()
        return False

    def end(self) -> None:
        """Make it close its stage and exit."""
        with self.line, suppress(OSError):
            self.line.shutdown(socket.SHUT_RDWR)  # closing alone does nothing while a fork has it too
        killer = threading.Timer(END_TIMEOUT, os.kill, (self.pid, signal.SIGKILL))
        killer.start()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        killer.cancel()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


class SlotWorker(SpoolWorker):
    """One slot. Its work horse is a recorder, which must be stopped gracefully and may die.

    Its first queue is the node's own: recordings that this node has started and must resume in any case. The
    second has recordings of lost nodes. New recordings come from the organizations' queues, in turns
    (`farm.queues.fair_queue`); the other queues are those of version 0.1, which are emptied into them.
    """

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """See `ResilientWorker`."""
        self._settings = load_settings()
        self._warm: WarmHorse | None = None
        self._drained = False
        self._admits_new = False
        self._format = Format()
        self._environment = environment_of(None, self._settings)
        self._admission = Admission(self._settings, Processors())
        clear_draining(self._settings)
        clean_up_stages()
        acquire_slot_number(self._settings)
        return super().work(*args, **kwargs)

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for a job; accept a new recording only while the node has room for one."""
        if timeout is None:
            return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
        while True:
            self._look()
            if self._stop_requested:
                raise StopRequested
            found = super().dequeue_job_and_maintain_ttl(LOOK_SECONDS, LOOK_SECONDS)
            if found is None:
                self.check_for_suspension(burst=False)
                continue
            job, queue = found
            self._admit()
            if queue in self._ordered_queues or (self._admits_new and queue not in self.queues[:2]):
                return found
            retry_until_available(self.outage, put_back, self.connection, queue, job)

    def next_job(self, timeout: int | None) -> tuple[Job, Queue] | None:
        """Take a job of the queues that are admitted, or else a new recording."""
        began, wait = time.monotonic(), float(timeout or 0)
        while True:
            taken = self._take_first() or (self._take_new() if self._admits_new else None)
            if taken is None and wait > 0:
                # An entry of the bell says that there may be a new recording.
                keys = [queue.key for queue in self._ordered_queues] + [BELL_KEY] * self._admits_new
                woken = cast("tuple[bytes, bytes] | None", self.connection.blpop(keys, wait))
                if woken is not None and woken[0].decode() != BELL_KEY:
                    taken = woken[0].decode(), woken[1].decode()
            if taken is not None:
                found = self._fetch(*taken)
                if found is not None:
                    return found
            wait = began + (timeout or 0) - time.monotonic()
            if taken is None and wait <= 0:
                if timeout is None:
                    return None
                raise DequeueTimeout(timeout, self._ordered_queues)

    def _take_first(self) -> tuple[str, str] | None:
        """The key of a queue that goes before new recordings, and the id of its next job."""
        for queue in self._ordered_queues:
            job_id = cast("bytes | None", self.connection.lpop(queue.key))
            if job_id is not None:
                return queue.key, job_id.decode()
        return None

    def _take_new(self) -> tuple[str, str] | None:
        return take_next(self.connection, self._settings.quota_running)

    def _fetch(self, queue_key: str, job_id: str) -> tuple[Job, Queue] | None:
        """The job that was taken; None if it was deleted meanwhile."""
        return self.queue_class._fetch_dequeued_job(
            self.connection,
            queue_key,
            job_id,
            job_class=self.job_class,
            serializer=self.serializer,
            death_penalty_class=self.death_penalty_class,
        )

    def clean_registries(self) -> None:
        """Clean the registries of the organizations' queues too, which come while the worker runs."""
        fixed = self.queues
        self.queues = [*fixed, *organizations_queues(self.connection)]
        try:
            super().clean_registries()  # type: ignore[no-untyped-call]
        finally:
            self.queues = fixed

    def _look(self) -> None:
        self._admit()
        if self._warm is not None and not self._warm.is_alive():
            self._warm = None
            clean_up_stages()
        if self._warm is None and self._admits_new:
            self._warm = WarmHorse.fork(self._wait_for_job)

    def _admit(self) -> None:
        """Find what this slot may take now; the heartbeat reports why not everything."""
        no_room, is_drained = self._admission.look(), self._is_drained()
        self._admits_new = no_room is None and not is_drained
        # A lost node's recording loses less on a busy node than by waiting.
        is_busy = no_room is not None and no_room.reason == Shortage.LOAD
        admits_continuations = self._admits_new or (is_busy and not is_drained)
        self._ordered_queues = self.queues[: 2 if admits_continuations else 1]

    def _is_drained(self) -> bool:
        with suppress(redis.RedisError):  # while Redis is away, no job comes anyway
            self._drained = Nodes(self.connection).is_drained(self._settings.node)
        return self._drained

    def _wait_for_job(self, line: socket.socket) -> None:
        """Run as a warm work horse: open a stage, wait for a job, do it."""
        self.setup_work_horse_signals()  # type: ignore[no-untyped-call]
        set_process_title(WARM_HORSE)
        names = wait_warm(needs_of(self._format, self._environment, self._settings), line)
        if not names:
            return
        set_process_title("farm recorder")
        job_id, queue_name, execution_id = json.loads(names)
        try:
            # The job is no longer in any queue, so it must not be dropped here.
            job = retry_until_available(self.outage, self.job_class.fetch, job_id, connection=self.connection)
            execution = retry_until_available(
                self.outage, Execution.fetch, execution_id, job_id, connection=self.connection
            )
        except Exception:
            close_ready_stage()
            raise
        self.execution = execution
        os.environ["RQ_JOB_ID"] = job_id
        self.main_work_horse(job, Queue(queue_name, connection=self.connection))

    def perform_job(self, job: Job, queue: Queue, execution: Execution) -> bool:
        """Run a job in the work horse; then close the warm stage if the job did not use it."""
        try:
            return super().perform_job(job, queue, execution)
        finally:
            close_ready_stage()

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Hand the job to the warm work horse, or fork one if there is none."""
        warm, self._warm = self._warm, None
        assert self.execution is not None
        names = json.dumps([job.id, queue.name, self.execution.id]).encode()
        if warm is not None and warm.take(names):
            self._horse_pid = warm.pid
        else:
            super().fork_work_horse(job, queue)
        self._prepare_next_stage(job)  # last: a Redis that hangs must not delay the recording

    def _prepare_next_stage(self, job: Job) -> None:
        """Open the next stage like this recording's: most farms record all their meetings alike."""
        with suppress(FarmError, ValueError, redis.RedisError):  # the recorder reports these errors
            recording = Records(self.connection).get(None, job.args[0])
            self._format = format_of(recording)
            self._environment = environment_of(recording, self._settings)

    def teardown(self) -> None:
        """End the warm work horse too."""
        if self._warm is not None:
            self._warm.end()
            clean_up_stages()
        super().teardown()

    def handle_warm_shutdown_request(self) -> None:
        """Drain: end the running recording properly after the grace period."""
        # RQ raises StopRequested next, but Python discards it when the signal arrives during a fork.
        self._stop_requested = True
        mark_draining(self._settings)
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]
        end = threading.Timer(self._settings.drain_seconds, self._end_recording)
        end.daemon = True
        end.start()

    def _end_recording(self) -> None:
        if self.horse_pid:
            with suppress(ProcessLookupError):
                os.kill(self.horse_pid, signal.SIGTERM)

    def monitor_work_horse(self, job: Job, queue: Queue, execution: Execution) -> None:
        """Queue a killed recorder's recording to be resumed, once RQ has cleaned up its job."""
        self._horse_killed = False
        super().monitor_work_horse(job, queue, execution)
        if self._horse_killed:
            clean_up_stages()
            # It was stopped before its start and deleted, or a later recovery can read its record.
            with suppress(NotFoundError, RecordUnreadableError):
                retry_until_available(self.outage, recover, job.args[0], self._settings, self.connection)

    def handle_work_horse_killed(self, job: Job, retpid: int, ret_val: int, rusage: Any) -> None:
        """Save a crash report before the stage is removed."""
        super().handle_work_horse_killed(job, retpid, ret_val, rusage)  # type: ignore[no-untyped-call]
        self._horse_killed = True
        evidence = evidence_dir(self._settings, job.args[0])
        spool = spool_directory(self._settings, job.args[0])
        report_dir = save_crash_report(evidence, spool, describe_exit(ret_val), find_orphan(retpid))
        if report_dir is not None:
            mark_reported(evidence, report_dir)


def needs_of(video: Format, environment: Environment, settings: Settings) -> StageNeeds:
    """The stage that this node needs for a recording of this format in this environment."""
    return StageNeeds(
        video.width,
        video.height,
        video.fps,
        settings.chromium,
        settings.address_rule,
        settings.built_in_meetings,
        settings.local_tls,
        environment,
        nss_database(settings.ca_file, settings.data_dir),
        settings.webrtc_udp,
        settings.stage_limits,
    )
