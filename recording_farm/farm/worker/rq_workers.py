"""RQ's workers, pools and schedulers, which wait for a Redis that fails them instead of ending.

RQ's own (3.0) wait for a lost connection alone, for up to three minutes and with a line in the log each time.
At any other error, such as that of a Redis that is full, they end, and their pool starts them again each
second. These wait with the job that they have in hand, begin within two seconds of when Redis works again,
and say once that it does not and once that it does.
"""

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Any, Final, ParamSpec, TypeVar, cast

import redis
from redis.client import Pipeline, PubSub
from rq import Queue, SimpleWorker, Worker
from rq.cron import CronJob, CronScheduler
from rq.exceptions import DequeueTimeout
from rq.executions import Execution
from rq.job import Job
from rq.scheduler import RQScheduler
from rq.worker import BaseWorker, WorkerStatus
from rq.worker_pool import WorkerPool

from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.faults import Outage, describe, probe
from recording_farm.farm.jobs.entry import NamedJob
from recording_farm.farm.jobs.time_limit import TimeLimit

_P = ParamSpec("_P")
_T = TypeVar("_T")

_DEQUEUE_SECONDS: Final = 5
"""How long a worker waits in Redis for a job before it asks anew."""

_ANSWER_SECONDS: Final = 15
"""How long one command may take, that wait included: then a Redis that has gone without a word is noticed.
RQ's own is seven minutes."""

_SCHEDULER_SECONDS: Final = 15.0
"""Between two looks whether anybody queues the jobs that are to be tried again later; RQ's is ten minutes."""

_LISTEN_SECONDS: Final = 2.0
"""Between two tries to listen for RQ's own commands."""


def patiently(outage: Outage, do: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Do something that is harmless to do twice, as often as it takes until Redis does not fail it."""
    while True:
        try:
            done = do(*args, **kwargs)
        except redis.RedisError as error:
            time.sleep(outage.seen(error))
        else:
            outage.over()
            return done


class PatientWorker(BaseWorker):
    """What all of the farm's workers have in common."""

    job_class = NamedJob

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """See `BaseWorker`."""
        super().__init__(*args, **kwargs)
        self.outage = Outage(f"jobs from {self.queue_names()[0]} cannot be taken or ended")
        self._scheduler_looked = float("-inf")

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """See `BaseWorker.work`."""
        # A pool forks its workers with its own handlers, by which they would end each other.
        for sign in (signal.SIGINT, signal.SIGTERM):
            signal.signal(sign, signal.SIG_DFL)
        patiently(self.outage, self.before_work)
        return super().work(*args, **kwargs)

    def before_work(self) -> None:
        """What is to be done before the first job; it may be done several times."""

    @property
    def dequeue_timeout(self) -> int:
        """In seconds."""
        return _DEQUEUE_SECONDS

    @property
    def connection_timeout(self) -> int:
        """In seconds."""
        return _ANSWER_SECONDS

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        """See `BaseWorker.bootstrap`."""
        patiently(self.outage, self._bootstrap, *args, **kwargs)

    def _bootstrap(self, *args: Any, **kwargs: Any) -> None:
        self.connection.delete(self.key)  # of a try whose answer was lost
        super().bootstrap(*args, **kwargs)

    def _start_scheduler(self, *_: Any) -> None:
        # Bursts have none.
        self.scheduler = PatientScheduler(
            self.queues, connection=self.connection, logging_level=self.log.level, serializer=self.serializer
        )
        self._keep_scheduler()

    def _keep_scheduler(self) -> None:
        """Have a process queue what is to be tried again, unless another worker has one."""
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
        """Wait for a job; None when there is none for `max_idle_time`, or at once without a `timeout`."""
        began = time.monotonic()
        while True:
            try:
                return patiently(self.outage, self._dequeue, timeout)
            except DequeueTimeout:
                self.outage.over()
                if max_idle_time is not None and time.monotonic() - began >= max_idle_time:
                    return None

    def _dequeue(self, timeout: int | None) -> tuple[Job, Queue] | None:
        # Written first: a Redis that refuses this could give a job and then take no word of it.
        super().set_state(WorkerStatus.IDLE)
        super().heartbeat()
        if self.should_run_maintenance_tasks:
            self.run_maintenance_tasks()  # type: ignore[no-untyped-call]
        self._keep_scheduler()
        found = self.queue_class.dequeue_any(
            self._ordered_queues,
            timeout,
            connection=self.connection,
            job_class=self.job_class,
            serializer=self.serializer,
            death_penalty_class=self.death_penalty_class,
        )
        if found is not None:
            job, queue = found
            self.reorder_queues(reference_queue=queue)
            job.redis_server_version = self.get_redis_server_version()  # type: ignore[no-untyped-call]
        return found

    def check_for_suspension(self, burst: bool) -> None:
        """See `BaseWorker.check_for_suspension`."""
        patiently(self.outage, super().check_for_suspension, burst)

    def prepare_execution(self, job: Job) -> Execution:
        """Note that a job is begun, however long that takes: it is in no queue any more."""
        return patiently(self.outage, self._prepare_execution, job)

    def _prepare_execution(self, job: Job) -> Execution:
        self.executions.clear()  # of a try that failed
        return super().prepare_execution(job)

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:
        """See `BaseWorker.prepare_job_execution`."""
        patiently(self.outage, super().prepare_job_execution, job, remove_from_intermediate_queue)

    def handle_execution_ended(self, job: Job, queue: Queue, heartbeat_ttl: int) -> None:
        """See `BaseWorker.handle_execution_ended`."""
        patiently(self.outage, super().handle_execution_ended, job, queue, heartbeat_ttl)

    def handle_job_success(self, *args: Any, **kwargs: Any) -> None:
        """See `BaseWorker.handle_job_success`."""
        patiently(self.outage, super().handle_job_success, *args, **kwargs)

    def handle_job_failure(self, *args: Any, **kwargs: Any) -> None:
        """See `BaseWorker.handle_job_failure`."""
        patiently(self.outage, super().handle_job_failure, *args, **kwargs)

    def set_state(self, state: str, pipeline: Pipeline | None = None) -> None:
        """Tell what this worker does; nothing depends on it, so a Redis that fails is no error."""
        try:
            super().set_state(state, pipeline)
        except redis.RedisError as error:
            self.outage.seen(error)

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Tell that this worker lives. The same as with `set_state`."""
        try:
            super().heartbeat(timeout, pipeline)
        except redis.RedisError as error:
            self.outage.seen(error)

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Tell Redis that the job is at work; when Redis fails, the work horse must not end for that."""
        try:
            super().maintain_heartbeats(job, execution)
        except redis.RedisError as error:
            self.outage.seen(error)

    def set_shutdown_requested_date(self) -> None:
        """Nothing: RQ would tell Redis from the handler of the signal, and fail the job if Redis is away."""

    def _pubsub_exception_handler(self, exc: Exception, pubsub: PubSub, pubsub_thread: Any) -> None:
        if not isinstance(exc, redis.RedisError):
            super()._pubsub_exception_handler(exc, pubsub, pubsub_thread)
        time.sleep(_LISTEN_SECONDS)  # the worker itself says that Redis is away

    def teardown(self) -> None:
        """End; what Redis is not told ends there by its age."""
        try:
            super().teardown()  # type: ignore[no-untyped-call]
        except redis.RedisError as error:
            self.log.info("Redis is not told that this worker ends: %s", describe(error))


class PatientForkingWorker(PatientWorker, Worker):
    """One that does each job in a process of its own."""

    death_penalty_class = TimeLimit


class PatientSimpleWorker(PatientWorker, SimpleWorker):
    """One that does its jobs itself."""


class PatientScheduler(RQScheduler):
    """Queues the jobs of a worker's queues that are to be tried again later."""

    def work(self) -> None:
        """Do so until told to end."""
        self._install_signal_handlers()  # type: ignore[no-untyped-call]
        outage = Outage("jobs that are to be tried again cannot be queued")
        is_known = False
        while not self._stop_requested:
            try:
                if not is_known:
                    self.register_birth()
                    is_known = True
                if self.should_reacquire_locks:
                    self.acquire_locks()  # type: ignore[no-untyped-call]
                self.heartbeat()  # type: ignore[no-untyped-call]
                self.enqueue_scheduled_jobs()  # type: ignore[no-untyped-call]
            except redis.RedisError as error:
                is_known = False  # after a minute it is known no more
                time.sleep(outage.seen(error))
            else:
                outage.over()
                time.sleep(self.interval)
        with suppress(redis.RedisError):
            self.stop()  # type: ignore[no-untyped-call]


class PatientCron(CronScheduler):
    """Queues jobs at their times."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """See `CronScheduler`."""
        super().__init__(*args, **kwargs)
        self._outage = Outage("what is done each minute cannot be queued")

    def register_birth(self) -> None:
        """See `CronScheduler`, as of all that follow."""
        patiently(self._outage, super().register_birth)

    def enqueue_jobs(self) -> list[CronJob]:
        """Queue what is due."""
        return patiently(self._outage, super().enqueue_jobs)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Keep what is registered."""
        patiently(self._outage, super().save, *args, **kwargs)

    def heartbeat(self) -> None:
        """Tell that it lives."""
        patiently(self._outage, super().heartbeat)

    def register_death(self, *args: Any, **kwargs: Any) -> None:
        """Tell that it ends, if Redis takes it."""
        with suppress(redis.RedisError):
            super().register_death(*args, **kwargs)


class PatientPool(WorkerPool):
    """Workers that are started again when they die, but not while Redis would not let them begin."""

    def __init__(self, address: str, queues: Sequence[str], workers: int, kind: type[PatientWorker]) -> None:
        """`address` is as `farm.db.clients.connect` takes it; `workers` are so many of that kind."""
        super().__init__(
            queues, connection=connect(address), num_workers=workers, worker_class=kind, job_class=NamedJob
        )
        self._asking = connect(address, retries=0)
        self._outage = Outage(f"workers for {self._queue_names[0]} cannot be started")

    def start_worker(self, *args: Any, **kwargs: Any) -> None:
        """Start one if Redis takes writes; else the pool comes back to it a second later."""
        try:
            probe(self._asking)
        except redis.RedisError as error:
            self._outage.seen(error)
            return
        self._outage.over()
        super().start_worker(*args, **kwargs)
