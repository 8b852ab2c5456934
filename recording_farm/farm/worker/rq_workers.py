"""RQ workers, pools and schedulers that survive Redis outages.

RQ's own classes (3.0) retry only lost connections, up to three minutes apart, and log every attempt. On any
other error, such as a full Redis, they exit and their pool restarts them every second. These keep their job,
resume within two seconds after Redis recovers, and log each outage once at its start and once at its end.
"""

import logging
import multiprocessing
import multiprocessing.connection
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Final, ParamSpec, TypeVar, cast

import redis
from redis.client import Pipeline
from rq import Queue, SimpleWorker, Worker
from rq.cron import CronJob, CronScheduler
from rq.exceptions import DequeueTimeout
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.scheduler import RQScheduler
from rq.worker import BaseWorker, WorkerStatus
from rq.worker_pool import WorkerPool

from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.faults import Outage, describe, probe
from recording_farm.farm.jobs.entry import NamedJob
from recording_farm.farm.jobs.time_limit import TimeLimit
from recording_farm.farm.queues.jobs import FAILURE_SECONDS

logger = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_DEQUEUE_SECONDS: Final = 5
"""How long one blocking dequeue waits for a job."""

_ANSWER_SECONDS: Final = 15
"""Time-out of one command, that wait included, so that a Redis that hangs is detected. RQ's own is seven
minutes."""

_CHECK_SECONDS: Final = 1.0
"""Interval of a pool's checks for dead workers, which it restarts."""

_SCHEDULER_SECONDS: Final = 15.0
"""Interval of the check that some worker runs the scheduler; RQ's is ten minutes."""


def retry_until_available(outage: Outage, do: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call an idempotent function until Redis does not fail it, and return its result."""
    while True:
        try:
            result = do(*args, **kwargs)
        except redis.RedisError as error:
            time.sleep(outage.failed(error))
        else:
            outage.recovered()
            return result


class ResilientWorker(BaseWorker):
    """Base class of the farm's workers."""

    job_class = NamedJob

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """See `BaseWorker`."""
        super().__init__(*args, **kwargs)
        self.outage = Outage(f"jobs of the queue {self.queue_names()[0]} cannot be dequeued or completed")
        self._scheduler_looked = float("-inf")

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """See `BaseWorker.work`."""
        # Workers inherit their pool's signal handlers, which would make them kill each other.
        for sign in _SIGNALS:
            signal.signal(sign, signal.SIG_DFL)
        retry_until_available(self.outage, self.before_work)
        return super().work(*args, **kwargs)

    def before_work(self) -> None:
        """Prepare for the first job; may be called several times."""

    @property
    def dequeue_timeout(self) -> int:
        """Time-out of a blocking dequeue, in seconds."""
        return _DEQUEUE_SECONDS

    @property
    def connection_timeout(self) -> int:
        """Time-out of a command, in seconds."""
        return _ANSWER_SECONDS

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        """See `BaseWorker.bootstrap`."""
        retry_until_available(self.outage, self._bootstrap, *args, **kwargs)

    def _bootstrap(self, *args: Any, **kwargs: Any) -> None:
        # RQ registers the worker before it handles signals: one in between would leave a dead worker there.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self.connection.delete(self.key)  # left by an attempt whose answer was lost
            super().bootstrap(*args, **kwargs)
        except BaseException:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            raise

    def _start_scheduler(self, *_: Any) -> None:
        # Burst workers have no scheduler.
        self.scheduler = ResilientScheduler(
            self.queues, connection=self.connection, logging_level=self.log.level, serializer=self.serializer
        )
        self._keep_scheduler()

    def _keep_scheduler(self) -> None:
        """Start a scheduler process unless another worker has one."""
        scheduler = self.scheduler
        if scheduler is None or time.monotonic() - self._scheduler_looked < _SCHEDULER_SECONDS:
            return
        process = cast("BaseProcess | None", scheduler._process)
        if process is None or not process.is_alive():
            with suppress(redis.RedisError):
                scheduler.acquire_locks(auto_start=True)  # type: ignore[no-untyped-call]
        self._scheduler_looked = time.monotonic()

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for a job. Returns None after `max_idle_time`, or immediately without a `timeout`."""
        began = time.monotonic()
        while True:
            try:
                return retry_until_available(self.outage, self._dequeue, timeout)
            except DequeueTimeout:
                self.outage.recovered()
                if max_idle_time is not None and time.monotonic() - began >= max_idle_time:
                    return None

    def _dequeue(self, timeout: int | None) -> tuple[Job, Queue] | None:
        # Write first: a read-only Redis must not hand out a job whose start it then cannot record.
        super().set_state(WorkerStatus.IDLE)
        super().heartbeat()
        if self.should_run_maintenance_tasks:
            self.run_maintenance_tasks()  # type: ignore[no-untyped-call]
        self._keep_scheduler()
        while True:
            found = self.next_job(timeout)
            if found is None:
                return None
            job, queue = found
            self.reorder_queues(reference_queue=queue)
            job.redis_server_version = self.get_redis_server_version()  # type: ignore[no-untyped-call]
            reason = job.refusal() if isinstance(job, NamedJob) else None
            if reason is None:
                return found
            self._refuse(job, queue, reason)

    def next_job(self, timeout: int | None) -> tuple[Job, Queue] | None:
        """Take the next job. Raises DequeueTimeout after `timeout` seconds; None is returned without one."""
        return self.queue_class.dequeue_any(
            self._ordered_queues,
            timeout,
            connection=self.connection,
            job_class=self.job_class,
            serializer=self.serializer,
            death_penalty_class=self.death_penalty_class,
        )

    def _refuse(self, job: Job, queue: Queue, reason: str) -> None:
        """Move a job that the farm did not enqueue to the failed ones, without running anything of it."""
        logger.error("job %s of the queue %s is refused: %s", job.id, queue.name, reason)
        job.retries_left = None
        with self.connection.pipeline() as pipeline:
            job.set_status(JobStatus.FAILED, pipeline)
            queue.failed_job_registry.add(job, ttl=FAILURE_SECONDS, exc_string=reason, pipeline=pipeline)
            pipeline.lrem(queue.intermediate_queue_key, 1, job.id)
            pipeline.execute()

    def check_for_suspension(self, burst: bool) -> None:
        """See `BaseWorker.check_for_suspension`; it is the first call in the loop that a signal may end."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        retry_until_available(self.outage, super().check_for_suspension, burst)

    def prepare_execution(self, job: Job) -> Execution:
        """Record the start of a job, however long that takes: it is no longer in any queue."""
        return retry_until_available(self.outage, self._prepare_execution, job)

    def _prepare_execution(self, job: Job) -> Execution:
        self.executions.clear()  # left by a failed attempt
        return super().prepare_execution(job)

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:
        """See `BaseWorker.prepare_job_execution`."""
        retry_until_available(self.outage, super().prepare_job_execution, job, remove_from_intermediate_queue)

    def handle_execution_ended(self, job: Job, queue: Queue, heartbeat_ttl: int) -> None:
        """See `BaseWorker.handle_execution_ended`."""
        retry_until_available(self.outage, super().handle_execution_ended, job, queue, heartbeat_ttl)

    def handle_job_success(self, *args: Any, **kwargs: Any) -> None:
        """See `BaseWorker.handle_job_success`."""
        retry_until_available(self.outage, super().handle_job_success, *args, **kwargs)

    def handle_job_failure(self, *args: Any, **kwargs: Any) -> None:
        """See `BaseWorker.handle_job_failure`."""
        retry_until_available(self.outage, super().handle_job_failure, *args, **kwargs)

    def set_state(self, state: str, pipeline: Pipeline | None = None) -> None:
        """Publish this worker's state. Nothing depends on it, so Redis errors are ignored."""
        try:
            super().set_state(state, pipeline)
        except redis.RedisError as error:
            self.outage.failed(error)

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Send a heartbeat; Redis errors are ignored as in `set_state`."""
        try:
            super().heartbeat(timeout, pipeline)
        except redis.RedisError as error:
            self.outage.failed(error)

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Send the heartbeats of a job. A Redis error must not kill its work horse."""
        try:
            super().maintain_heartbeats(job, execution)
        except redis.RedisError as error:
            self.outage.failed(error)

    def set_shutdown_requested_date(self) -> None:
        """Do nothing: RQ would write to Redis in the signal handler, and fail the job if Redis is away."""

    def subscribe(self) -> None:
        """Do nothing: the farm sends none of RQ's commands, which stop workers and kill recordings."""

    def teardown(self) -> None:
        """Deregister the worker; without Redis its entry expires."""
        try:
            super().teardown()  # type: ignore[no-untyped-call]
        except redis.RedisError as error:
            self.log.info("this worker could not be deregistered: %s", describe(error))


class ResilientForkingWorker(ResilientWorker, Worker):
    """A worker that runs each job in a forked work horse."""

    death_penalty_class = TimeLimit


class ResilientSimpleWorker(ResilientWorker, SimpleWorker):
    """A worker that runs its jobs in its own process."""


class ResilientScheduler(RQScheduler):
    """Enqueues scheduled jobs and retries of a worker's queues when they are due."""

    def work(self) -> None:
        """Run until stopped."""
        self._install_signal_handlers()  # type: ignore[no-untyped-call]
        # The worker starts it with signals blocked.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        outage = Outage("scheduled jobs cannot be enqueued")
        is_registered = False
        while not self._stop_requested:
            try:
                if not is_registered:
                    self.register_birth()
                    is_registered = True
                if self.should_reacquire_locks:
                    self.acquire_locks()  # type: ignore[no-untyped-call]
                self.heartbeat()  # type: ignore[no-untyped-call]
                self.enqueue_scheduled_jobs()  # type: ignore[no-untyped-call]
            except redis.RedisError as error:
                is_registered = False  # the registration expires after a minute
                time.sleep(outage.failed(error))
            else:
                outage.recovered()
                time.sleep(self.interval)
        with suppress(redis.RedisError):
            self.stop()  # type: ignore[no-untyped-call]


class ResilientCron(CronScheduler):
    """Enqueues periodic jobs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """See `CronScheduler`."""
        super().__init__(*args, **kwargs)
        self._outage = Outage("periodic jobs cannot be enqueued")

    def register_birth(self) -> None:
        """See `CronScheduler`."""
        retry_until_available(self._outage, super().register_birth)

    def enqueue_jobs(self) -> list[CronJob]:
        """Enqueue the jobs that are due."""
        return retry_until_available(self._outage, super().enqueue_jobs)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the registration."""
        retry_until_available(self._outage, super().save, *args, **kwargs)

    def heartbeat(self) -> None:
        """Send a heartbeat."""
        retry_until_available(self._outage, super().heartbeat)

    def register_death(self, *args: Any, **kwargs: Any) -> None:
        """Deregister, if Redis accepts it."""
        with suppress(redis.RedisError):
            super().register_death(*args, **kwargs)


class ResilientPool(WorkerPool):
    """A pool that restarts dead workers, but only while Redis accepts writes.

    It stops at once, and ends with its last worker; RQ's pool looks at both once a second.
    """

    def __init__(
        self, address: str, queues: Sequence[str], workers: int, kind: type[ResilientWorker]
    ) -> None:
        """Run `workers` workers of the class `kind`; for `address` see `farm.db.clients.connect`."""
        super().__init__(
            queues, connection=connect(address), num_workers=workers, worker_class=kind, job_class=NamedJob
        )
        self._probe_client = connect(address, retries=0)
        self._outage = Outage(f"workers for {self._queue_names[0]} cannot be started")
        self._stopped, self._stop = multiprocessing.Pipe(duplex=False)

    def start(self, burst: bool = False, logging_level: str = "INFO") -> None:
        """Keep workers running until SIGTERM or SIGINT, then stop them and return after the last has ended.

        `burst` must be false.
        """
        assert not burst
        self.status = self.Status.STARTED
        self.start_workers(burst=False, logging_level=logging_level)
        self._install_signal_handlers()  # type: ignore[no-untyped-call]
        while not multiprocessing.connection.wait([self._stopped], _CHECK_SECONDS):
            self.check_workers()
        while not self.all_workers_have_stopped():
            running = [each.process.sentinel for each in self.worker_dict.values()]
            multiprocessing.connection.wait(running, _CHECK_SECONDS)

    def request_stop(self, signum: int | None = None, frame: FrameType | None = None) -> None:
        """Stop the workers; also a signal handler."""
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]
        self._stop.send_bytes(b"stop")

    def start_worker(self, *args: Any, **kwargs: Any) -> None:
        """Start a worker if Redis accepts writes; otherwise the pool retries a second later."""
        try:
            probe(self._probe_client)
        except redis.RedisError as error:
            self._outage.failed(error)
            return
        self._outage.recovered()
        super().start_worker(*args, **kwargs)
