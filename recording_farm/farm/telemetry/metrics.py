"""Prometheus metrics: of the whole farm, from Redis, and of one node, from its machine.

Values are read at each scrape, so no process holds state. Every API process exports the whole farm: aggregate
several with `max`, not `sum`.
"""

import secrets
import shutil
from collections import Counter as Tallied
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import psutil
import redis
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from rq import Queue

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.faults import RedisMemory, probe, read_memory
from recording_farm.farm.host.resources import Processors, free_resources
from recording_farm.farm.nodes.availability import LivingNode, NodeState, living
from recording_farm.farm.nodes.registry import Nodes, Shortage
from recording_farm.farm.queues.fair_queue import name_without_organization
from recording_farm.farm.recording.copies import Copies, Copy, CopyReports
from recording_farm.farm.recording.findings import total_tally
from recording_farm.farm.recording.model import ACTIVE, Recording, Status
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.transfers import OVER, STORE, TransferState, transfer_to
from recording_farm.farm.spool.spool import running_spools
from recording_farm.farm.telemetry.counts import (
    COUNTERS,
    HISTOGRAMS,
    PLACES,
    Counts,
    cumulative_buckets,
    place_kind,
)
from recording_farm.farm.telemetry.shared_settings import SHARED, differing_settings


@dataclass(frozen=True)
class Waiting:
    """The jobs of a queue: those waiting, and those that failed for good."""

    queue: str
    jobs: int
    failed: int


@dataclass(frozen=True)
class RedisState:
    """Redis at one moment."""

    is_writable: bool
    memory: RedisMemory | None
    """None if this user is not allowed to read it."""


@dataclass(frozen=True)
class Farm:
    """The farm at one moment."""

    recordings: Sequence[Recording]
    """Those that have not ended."""
    nodes: Sequence[LivingNode]
    gone: int
    queues: Sequence[Waiting]
    counts: dict[tuple[str, ...], float]
    copies: Sequence[Copies]
    """Of the recordings that run or are paused."""
    redis: RedisState
    differing_settings: Sequence[str]


def may_read(settings: Settings, authorization: str | None) -> bool:
    """Whether this Authorization header grants access to the metrics; never without FARM_METRICS_TOKEN."""
    if settings.metrics_token is None or authorization is None:
        return False
    scheme, _, token = authorization.partition(" ")
    expected = settings.metrics_token.get_secret_value()
    return scheme.lower() == "bearer" and secrets.compare_digest(token.strip().encode(), expected.encode())


def read_farm(client: redis.Redis) -> Farm:
    """Read the state of the farm. Raises redis.RedisError."""
    nodes = Nodes(client).all()
    recordings = Records(client).unfinished()
    running = [recording for recording in recordings if recording.status in ACTIVE]
    return Farm(
        recordings=recordings,
        nodes=living(nodes),
        gone=sum(node.gone is not None for node in nodes),
        queues=_read_queues(client),
        counts=Counts(client).read(),
        copies=list(CopyReports(client).read(running).values()),
        redis=RedisState(_is_writable(client), read_memory(client)),
        differing_settings=differing_settings(client),
    )


def _read_queues(client: redis.Redis) -> list[Waiting]:
    """The jobs of all queues; those of the organizations' queues are added up by priority."""
    found: dict[str, Waiting] = {}
    for queue in Queue.all(connection=client):
        name = name_without_organization(queue.name)
        before = found.get(name, Waiting(name, 0, 0))
        failed = queue.failed_job_registry.get_job_count(cleanup=False)
        found[name] = Waiting(name, before.jobs + queue.count, before.failed + failed)
    return list(found.values())


def _is_writable(client: redis.Redis) -> bool:
    try:
        probe(client)
    except redis.ResponseError:
        return False
    return True


def in_use(recordings: Iterable[Recording], nodes: Iterable[LivingNode]) -> dict[str, int]:
    """How many slots of each node are in use."""
    used = Tallied(recording.node for recording in recordings if recording.status in ACTIVE)
    return {node.name: used[node.name] for node in nodes}


def waiting(recordings: Iterable[Recording], nodes: Iterable[LivingNode]) -> list[Recording]:
    """The recordings that wait for a slot: not started yet, or their node is lost."""
    names = {node.name for node in nodes}
    return [each for each in recordings if each.status in ACTIVE and each.node not in names]


def load_ratio(recordings: Sequence[Recording], nodes: Sequence[LivingNode]) -> float:
    """Requested slots (in use or waited for) per slot of the nodes that are not drained.

    A node without room counts as full. Above 1, recordings wait. Without any slot it is the number of waiting
    recordings, so that an autoscaler starts a node.
    """
    used = in_use(recordings, (node for node in nodes if node.state in {NodeState.ALIVE, NodeState.NO_ROOM}))
    slots = sum(
        node.slots if node.state is NodeState.ALIVE else used[node.name]
        for node in nodes
        if node.name in used
    )
    return (sum(used.values()) + len(waiting(recordings, nodes))) / max(1, slots)


def unsaved(recordings: Iterable[Recording]) -> list[Recording]:
    """The ended recordings whose files are not uploaded anywhere yet.

    A recording whose files are in the store and that waits only for a customer's storage is not included.
    """
    return [
        each
        for each in recordings
        if each.status is Status.UPLOADING
        and not any(transfer.state is TransferState.DONE for transfer in each.transfers)
    ]


def store_failures(recordings: Iterable[Recording]) -> list[Recording]:
    """The recordings whose last upload to the store failed; the next attempt may be hours away."""
    transfers = ((each, transfer_to(each.transfers, STORE)) for each in recordings)
    return [
        each for each, to in transfers if to is not None and to.state not in OVER and to.error is not None
    ]


class FarmCollector(Collector):
    """The metrics of the whole farm."""

    def __init__(self, client: redis.Redis) -> None:
        """`client` must return bytes (see `farm.db.clients`)."""
        self._redis = client

    def collect(self) -> Iterator[Metric]:
        """Read the farm. Without Redis, only `farm_redis_up` is exported."""
        try:
            farm = read_farm(self._redis)
        except redis.RedisError:
            yield GaugeMetricFamily("farm_redis_up", "Whether Redis answers.", value=0)
            return
        yield GaugeMetricFamily("farm_redis_up", "Whether Redis answers.", value=1)
        yield from _of_redis(farm.redis)
        yield _of_settings(farm.differing_settings)
        yield from _of_recordings(farm)
        yield from _of_copies(farm.copies)
        yield from _of_nodes(farm)
        yield from _of_queues(farm)
        yield from _of_counts(farm)


def _of_redis(state: RedisState) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "farm_redis_writable", "Whether Redis accepts writes, not when it is full.", value=state.is_writable
    )
    memory = state.memory
    if memory is None:
        return
    yield GaugeMetricFamily(
        "farm_redis_may_evict",
        "Whether Redis may evict records: its maxmemory-policy is not noeviction.",
        value=memory.evicts,
    )
    yield CounterMetricFamily("farm_redis_evicted_keys_total", "Keys that Redis has evicted.", memory.evicted)
    yield GaugeMetricFamily("farm_redis_memory_bytes", "Memory that Redis uses.", value=memory.used)
    yield GaugeMetricFamily(
        "farm_redis_memory_limit_bytes", "Redis' maxmemory; 0 means no limit.", value=memory.limit
    )


def _of_settings(differing: Sequence[str]) -> Metric:
    family = GaugeMetricFamily(
        "farm_settings_differ",
        "Whether processes run with different values of a setting that all must share.",
        labels=["variable"],
    )
    for variable in SHARED:
        family.add_metric([variable], variable in differing)
    return family


def _of_recordings(farm: Farm) -> Iterator[Metric]:
    states = Tallied(recording.status for recording in farm.recordings)
    unfinished = GaugeMetricFamily(
        "farm_recordings", "Recordings that have not ended, by state.", labels=["status"]
    )
    for status in (*(status for status in Status if status in ACTIVE), Status.UPLOADING):
        unfinished.add_metric([status.value], states[status])
    yield unfinished
    begins = [recording.invoked_time for recording in waiting(farm.recordings, farm.nodes)]
    yield GaugeMetricFamily("farm_recordings_waiting", "Recordings that wait for a slot.", value=len(begins))
    yield GaugeMetricFamily(
        "farm_longest_wait_seconds", "Age of the oldest of these recordings.", value=_oldest(begins)
    )
    ends = [recording.stopped_time or recording.invoked_time for recording in unsaved(farm.recordings)]
    yield GaugeMetricFamily(
        "farm_oldest_unsaved_seconds",
        "Time since the end of the oldest recording whose files are not uploaded anywhere yet.",
        value=_oldest(ends),
    )
    yield GaugeMetricFamily(
        "farm_store_refused",
        "Recordings whose last upload to the store failed and is to be retried.",
        value=len(store_failures(farm.recordings)),
    )


def _of_copies(recordings: Iterable[Copies]) -> Iterator[Metric]:
    """Of copies that are uploaded while recorded; the others have nothing until the end, as they should."""
    by_place: dict[str, list[Copy]] = {place: [] for place in PLACES}
    for copies in recordings:
        for target, copy in copies.items():
            if copy.in_parts:
                by_place.setdefault(place_kind(target), []).append(copy)
    seconds = GaugeMetricFamily(
        "farm_copy_behind_seconds",
        "How far the last copy is behind its recording, of those that are uploaded while recorded.",
        labels=["place"],
    )
    fallen = GaugeMetricFamily(
        "farm_copies_behind",
        "Copies that have fallen behind: 5 minutes and three parts, or 5 minutes that are not cut.",
        labels=["place"],
    )
    for place, found in by_place.items():
        seconds.add_metric([place], max((copy.behind_seconds or 0 for copy in found), default=0))
        fallen.add_metric([place], sum(copy.has_fallen_behind for copy in found))
    yield seconds
    yield fallen


def _oldest(moments: Iterable[datetime]) -> float:
    return max((max(0.0, (now() - moment).total_seconds()) for moment in moments), default=0.0)


def _of_nodes(farm: Farm) -> Iterator[Metric]:
    nodes = GaugeMetricFamily(
        "farm_nodes",
        "Nodes by state; nodes without room for a recording (no_room) also by reason.",
        labels=["state", "reason"],
    )
    states = Tallied(node.state for node in farm.nodes)
    for state in (NodeState.ALIVE, NodeState.DRAINED, NodeState.DRAINING):
        nodes.add_sample("farm_nodes", {"state": state.value}, states[state])
    shortages = Tallied(node.refusal or "" for node in farm.nodes if node.state is NodeState.NO_ROOM)
    for reason in dict.fromkeys([*(shortage.value for shortage in Shortage), *shortages]):
        nodes.add_sample(
            "farm_nodes", {"state": NodeState.NO_ROOM.value, "reason": reason}, shortages[reason]
        )
    nodes.add_sample("farm_nodes", {"state": "gone"}, farm.gone)
    yield nodes
    slots = GaugeMetricFamily(
        "farm_slots",
        "Concurrent recordings of a node; for a node that accepts no more, its running ones.",
        labels=["node"],
    )
    used = GaugeMetricFamily("farm_slots_used", "Slots of a node that are in use.", labels=["node"])
    by_node = in_use(farm.recordings, farm.nodes)
    for node in farm.nodes:
        slots.add_metric([node.name], node.slots if node.state is NodeState.ALIVE else by_node[node.name])
        used.add_metric([node.name], by_node[node.name])
    yield slots
    yield used
    yield GaugeMetricFamily(
        "farm_load_ratio",
        "Slots in use or waited for, per slot of nodes that accept recordings; for an autoscaler.",
        value=load_ratio(farm.recordings, farm.nodes),
    )


def _of_queues(farm: Farm) -> Iterator[Metric]:
    length = GaugeMetricFamily("farm_queue_length", "Jobs waiting in an RQ queue.", labels=["queue"])
    failed = GaugeMetricFamily(
        "farm_queue_failed", "Jobs of an RQ queue that failed for good.", labels=["queue"]
    )
    for queue in farm.queues:
        length.add_metric([queue.queue], queue.jobs)
        failed.add_metric([queue.queue], queue.failed)
    yield length
    yield failed


def _of_counts(farm: Farm) -> Iterator[Metric]:
    for counter in COUNTERS:
        family = CounterMetricFamily(counter.name, counter.help, labels=counter.labels)
        found = {field[1:]: value for field, value in farm.counts.items() if field[0] == counter.name}
        expected = counter.expected if counter.labels else ((),)
        for labels, value in (dict.fromkeys(expected, 0.0) | found).items():
            family.add_metric(labels, value)
        yield family
    for histogram in HISTOGRAMS:
        buckets, total = cumulative_buckets(histogram, farm.counts)
        yield HistogramMetricFamily(histogram.name, histogram.help, buckets=buckets, sum_value=total)


class NodeCollector(Collector):
    """The metrics of one node, from its machine."""

    def __init__(self, settings: Settings) -> None:
        """The settings of the node."""
        self._settings = settings
        self._processors = Processors()

    def collect(self) -> Iterator[Metric]:
        """Read the state of the machine."""
        spool_dir = self._settings.spool_dir
        spool_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        free = free_resources(spool_dir, self._processors)
        recording = sorted(running_spools(spool_dir))
        for name, text, value in (
            ("slots", "Concurrent recordings that this node can make.", self._settings.slots),
            ("slots_used", "Running recordings of this node.", len(recording)),
            ("disk_bytes", "Size of the spool's disk.", shutil.disk_usage(spool_dir).total),
            ("disk_free_bytes", "Free space on the spool's disk.", free.disk),
            ("disk_reserve_bytes", "FARM_DISK_RESERVE.", self._settings.disk_reserve),
            ("memory_bytes", "Memory of the machine.", psutil.virtual_memory().total),
            ("memory_free_bytes", "Free memory of the machine, or of the container.", free.memory),
            ("processors_busy_ratio", "CPU utilization, 0 to 1.", 1 - free.processors),
        ):
            family = GaugeMetricFamily(f"farm_node_{name}", text, labels=["node"])
            family.add_metric([self._settings.node], value)
            yield family
        memory = GaugeMetricFamily(
            "farm_recording_memory_bytes",
            "Peak memory so far of the browser, display and audio of a running recording.",
            labels=["node", "recording"],
        )
        for directory in recording:
            memory.add_metric([self._settings.node, directory.name], total_tally(directory).peak_memory)
        yield memory
