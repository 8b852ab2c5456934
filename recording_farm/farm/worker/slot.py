"""A slot: an RQ worker that makes one recording at a time, each in a work horse of its own.

The next work horse is forked before there is a job for it, with a stage that is open already. It receives
three names through a socket: job, queue and RQ's execution.
"""

import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import redis
from rq import Queue
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job

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
from recording_farm.farm.nodes.slot_number import take_number
from recording_farm.farm.pages.access import environment_of
from recording_farm.farm.queues.jobs import note_node
from recording_farm.farm.recorder.opened_stage import StageNeeds
from recording_farm.farm.recorder.warm_stage import TAKEN, WARM_HORSE, wait_warm
from recording_farm.farm.recording.formats import format_of
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recovery.local_spool import recover, recover_spool
from recording_farm.farm.spool.spool import spool_directory
from recording_farm.farm.worker.admission import Admission
from recording_farm.farm.worker.draining import forget_draining, note_draining
from recording_farm.farm.worker.rq_workers import PatientForkingWorker, patiently

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2
"""Seconds between two looks at whether the node has room for a recording, while none comes."""

TAKE_TIMEOUT: Final = 2.0
END_TIMEOUT: Final = 5.0


class SpoolWorker(PatientForkingWorker):
    """Works on what lies in the spool; RQ itself would miss what one that died was at for ten minutes."""

    def before_work(self) -> None:
        """Begin with what one that died before this one has left."""
        recover_spool(load_settings(), self.connection)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Do a job, in which its node is noted for those who look at the queues."""
        with suppress(redis.RedisError):
            note_node(job, load_settings().node)
        super().execute_job(job, queue)


@dataclass(frozen=True)
class WarmHorse:
    """A work horse that waits for its job at the other end of a line."""

    pid: int
    line: socket.socket

    @classmethod
    def fork(cls, run: Callable[[socket.socket], None]) -> "WarmHorse":
        """Fork a process that does `run`."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid:
            theirs.close()
            ours.settimeout(TAKE_TIMEOUT)
            return cls(pid, ours)
        status = 1
        try:
            os.setpgrp()
            ours.close()
            run(theirs)
            status = 0
        except Exception:
            logger.exception("a work horse that waited has failed")
        finally:
            os._exit(status)

    def is_alive(self) -> bool:
        """Whether it can be given a job; one that has died is reaped."""
        with suppress(ChildProcessError):
            return os.waitpid(self.pid, os.WNOHANG) == (0, 0)
        return False

    def take(self, job: bytes) -> bool:
        """Give it its job; whether it has it. One that does not answer is killed."""
        with self.line, suppress(OSError):
            self.line.sendall(job)
            if self.line.recv(1) == TAKEN:
                return True
        self._kill()
        return False

    def end(self) -> None:
        """Have it tear its stage down and end."""
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
    """One slot. Its work horse is a recorder, which must be told to end and may die.

    The first of its queues is the node's own; what is in there has been begun and must go on in any case. The
    second has what other nodes have begun, the rest is new.
    """

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """See `PatientWorker`."""
        self._settings = load_settings()
        self._warm: WarmHorse | None = None
        self._drained = False
        self._picture = Format()
        self._environment = environment_of(None, self._settings)
        self._admission = Admission(self._settings, Processors())
        forget_draining(self._settings)
        clean_up_stages()
        take_number(self._settings)
        return super().work(*args, **kwargs)

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for a job; for a new recording only while the node has room for one."""
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
            if queue in self._admitted():
                return found
            patiently(self.outage, queue.push_job_id, job.id, at_front=True)

    def _look(self) -> None:
        self._ordered_queues = self._admitted()
        if self._warm is not None and not self._warm.is_alive():
            self._warm = None
            clean_up_stages()
        if self._warm is None and len(self._ordered_queues) == len(self.queues):
            self._warm = WarmHorse.fork(self._wait_for_job)

    def _admitted(self) -> list[Queue]:
        """The queues that this slot may take jobs from now; the heartbeat tells why not from all."""
        no_room = self._admission.look()
        if self._is_drained():
            return self.queues[:1]
        if no_room is None:
            return self.queues
        # On a busy node a recording of a lost node loses less than by waiting.
        return self.queues[: 2 if no_room.reason == Shortage.LOAD else 1]

    def _is_drained(self) -> bool:
        with suppress(redis.RedisError):  # while Redis is away, no job comes anyway
            self._drained = Nodes(self.connection).is_drained(self._settings.node)
        return self._drained

    def _wait_for_job(self, line: socket.socket) -> None:
        """Be a work horse, from before its job is there."""
        self.setup_work_horse_signals()  # type: ignore[no-untyped-call]
        set_process_title(WARM_HORSE)
        names = wait_warm(needs_of(self._picture, self._environment, self._settings), line)
        if not names:
            return
        set_process_title("farm recorder")
        job_id, queue_name, execution_id = json.loads(names)
        # It is in no queue any more, so it must not be dropped here.
        job = patiently(self.outage, self.job_class.fetch, job_id, connection=self.connection)
        execution = patiently(self.outage, Execution.fetch, execution_id, job_id, connection=self.connection)
        self.execution = execution
        os.environ["RQ_JOB_ID"] = job_id
        self.main_work_horse(job, Queue(queue_name, connection=self.connection))

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Give the job to the work horse that waits, or to a new one if there is none."""
        warm, self._warm = self._warm, None
        assert self.execution is not None
        names = json.dumps([job.id, queue.name, self.execution.id]).encode()
        if warm is not None and warm.take(names):
            self._horse_pid = warm.pid
        else:
            super().fork_work_horse(job, queue)
        self._note_picture(job)  # last: a Redis that hangs must keep no recording

    def _note_picture(self, job: Job) -> None:
        """Most farms record all their meetings alike, so the next stage is as this recording needs it."""
        with suppress(FarmError, ValueError, redis.RedisError):  # what is wrong with it, its recorder tells
            recording = Records(self.connection).get(None, job.args[0])
            self._picture = format_of(recording)
            self._environment = environment_of(recording, self._settings)

    def teardown(self) -> None:
        """End the work horse that waits, too."""
        if self._warm is not None:
            self._warm.end()
        super().teardown()

    def handle_warm_shutdown_request(self) -> None:
        """Have the running recording end properly after a while; its meeting may last for long."""
        # RQ raises StopRequested next, which Python throws away when the signal came in the middle of a fork.
        self._stop_requested = True
        note_draining(self._settings)
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]
        end = threading.Timer(self._settings.drain_seconds, self._end_recording)
        end.daemon = True
        end.start()

    def _end_recording(self) -> None:
        if self.horse_pid:
            with suppress(ProcessLookupError):
                os.kill(self.horse_pid, signal.SIGTERM)

    def monitor_work_horse(self, job: Job, queue: Queue, execution: Execution) -> None:
        """Have the recording of a killed recorder gone on with, once RQ has done with its job."""
        self._horse_killed = False
        super().monitor_work_horse(job, queue, execution)
        if self._horse_killed:
            clean_up_stages()
            # It was stopped before its start, and deleted; or a later look can read its record.
            with suppress(NotFoundError, RecordUnreadableError):
                patiently(self.outage, recover, job.args[0], self._settings, self.connection)

    def handle_work_horse_killed(self, job: Job, retpid: int, ret_val: int, rusage: Any) -> None:
        """Remember it, and keep what there is to see of it before its stage is swept."""
        super().handle_work_horse_killed(job, retpid, ret_val, rusage)  # type: ignore[no-untyped-call]
        self._horse_killed = True
        evidence = evidence_dir(self._settings, job.args[0])
        spool = spool_directory(self._settings, job.args[0])
        place = save_crash_report(evidence, spool, describe_exit(ret_val), find_orphan(retpid))
        if place is not None:
            mark_reported(evidence, place)


def needs_of(picture: Format, environment: Environment, settings: Settings) -> StageNeeds:
    """What a stage of this node must be for a recording of such a picture in such an environment."""
    return StageNeeds(
        picture.width,
        picture.height,
        picture.fps,
        settings.chromium,
        settings.address_rule,
        settings.built_in_meetings,
        environment,
        nss_database(settings.ca_file, settings.data_dir),
    )
