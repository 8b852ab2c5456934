"""Counters and histograms, kept in Redis for Prometheus.

The farm has many processes, some of which live for one job only, so they share their counts in Redis. All
metrics of this kind are declared here; `farm.telemetry.metrics` exports them.

Key
    farm:counts    hash: each value by its metric and labels, as a JSON array, such as
                   ["farm_transfers_total", "aws", "done"]; a histogram has a field for each bucket and one
                   for the sum
"""

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from itertools import product
from typing import Final, NamedTuple, cast

import redis

from recording_farm.farm.recording.model import ReasonKind, Recording, Status, is_cancelled, stop_reason_of
from recording_farm.farm.recording.transfers import STORE, Transfer, TransferState

logger = logging.getLogger(__name__)

_KEY: Final = "farm:counts"

_SUM: Final = "sum"

PLACES: Final = (STORE, "aws", "azure", "cloudflare", "digitalocean", "gcs", "s3", "sftp")
"""Kinds of upload targets: the store, and the types of `farm.storage.targets`."""


class Counter(NamedTuple):
    """A counter with low-cardinality labels.

    Label values in `expected` are exported from the start as 0: Prometheus sees no increase when a series
    first appears.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    expected: tuple[tuple[str, ...], ...] = ()


class Histogram(NamedTuple):
    """A histogram with the upper `bounds` of its buckets."""

    name: str
    help: str
    bounds: tuple[float, ...]


CANCELLED: Final = "CANCELLED"
"""The status of ENDED for recordings that somebody stopped before their first frame; nothing failed."""

INVOKED: Final = Counter("farm_recordings_invoked_total", "Recordings requested.")
ENDED: Final = Counter(
    "farm_recordings_ended_total",
    "Recordings ended, by final state (or CANCELLED), reason and error code (empty without an error).",
    ("status", "reason", "error"),
    (
        (Status.UPLOADED, ReasonKind.API_CALL, ""),
        (CANCELLED, ReasonKind.STOPPED_BEFORE_START, ""),
    ),
)
RECORDED_SECONDS: Final = Counter("farm_recorded_seconds_total", "Seconds of video in finished files.")
FRAMES_CAPTURED: Final = Counter("farm_frames_captured_total", "Frames in finished files.")
FRAMES_LOST: Final = Counter("farm_frames_lost_total", "Frames missing from finished files.")
FRAMES_DOUBLED: Final = Counter("farm_frames_doubled_total", "Frames dropped as duplicates.")
TRANSFERS: Final = Counter(
    "farm_transfers_total",
    "Uploads ended, by kind of target and result; recordings have their own results.",
    ("place", "result"),
    tuple(product(PLACES, ("done", "given_up"))),
)
TRANSFER_FAILURES: Final = Counter(
    "farm_transfer_failures_total",
    "Failed upload attempts, by kind of target and error code.",
    ("place", "error"),
)
WEBHOOK_ATTEMPTS: Final = Counter(
    "farm_webhook_attempts_total",
    "Webhook delivery attempts, by outcome.",
    ("outcome",),
    (("delivered",), ("retrying",), ("given_up",)),
)

_SECONDS: Final = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)

QUEUE_WAIT: Final = Histogram(
    "farm_queue_wait_seconds", "Time from the request of a recording until a slot takes it.", _SECONDS
)
START: Final = Histogram(
    "farm_start_seconds", "Time from the request of a recording until its first take starts.", _SECONDS
)
FINISH: Final = Histogram(
    "farm_finish_seconds", "Time from the end of a recording until its files are uploaded.", _SECONDS
)
SPEED: Final = Histogram(
    "farm_encoder_speed",
    "Encoding speed relative to real time, of a recording's slowest take.",
    (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0, 1.01, 1.05),
)
PEAK_MEMORY: Final = Histogram(
    "farm_recording_peak_memory_bytes",
    "Peak memory of the browser, display and audio of a recording.",
    tuple(float(step << 28) for step in (1, 2, 3, 4, 6, 8, 12, 16)),
)

COUNTERS: Final = (
    INVOKED,
    ENDED,
    RECORDED_SECONDS,
    FRAMES_CAPTURED,
    FRAMES_LOST,
    FRAMES_DOUBLED,
    TRANSFERS,
    TRANSFER_FAILURES,
    WEBHOOK_ATTEMPTS,
)
HISTOGRAMS: Final = (QUEUE_WAIT, START, FINISH, SPEED, PEAK_MEMORY)

Increments = Mapping[str, float]
"""Amounts to add, by field of the hash."""


def counted(counter: Counter, *labels: str, by: float = 1) -> Increments:
    """The increment of one counter."""
    assert len(labels) == len(counter.labels)
    return {_field(counter.name, *labels): by}


def measured(histogram: Histogram, value: float) -> Increments:
    """The increments of one value. A negative duration, caused by clock skew, counts as 0."""
    value = max(value, 0.0)
    bound = next((bound for bound in histogram.bounds if value <= bound), float("inf"))
    return {_field(histogram.name, str(bound)): 1, _field(histogram.name, _SUM): value}


def change_increments(recording: Recording) -> Increments:
    """Increments for a recording that was just created or has just changed its state."""
    match recording.status:
        case Status.INVOKED:
            return counted(INVOKED)
        case Status.RECORDING:
            return _of_start(recording)
        case Status.UPLOADED | Status.ERRORED:
            return {**_of_end(recording), **_of_quality(recording)}
        case _:
            return {}


def claim_increments(recording: Recording, moment: datetime) -> Increments:
    """Increments for a new recording that a slot takes."""
    return measured(QUEUE_WAIT, (moment - recording.invoked_time).total_seconds())


def transfer_increments(transfer: Transfer) -> Increments:
    """Increments for an upload attempt."""
    place = place_kind(transfer.target)
    increments: dict[str, float] = {}
    if transfer.state is not TransferState.DONE and transfer.error is not None:
        increments |= counted(TRANSFER_FAILURES, place, transfer.error.code)
    if transfer.state in {TransferState.DONE, TransferState.GIVEN_UP}:
        increments |= counted(TRANSFERS, place, transfer.state.lower())
    return increments


def attempt_increments(outcome: str) -> Increments:
    """Increments for a webhook delivery attempt; `outcome` is a `farm.webhooks.log.AttemptOutcome`."""
    return counted(WEBHOOK_ATTEMPTS, outcome)


def place_kind(target: str) -> str:
    """The kind of a transfer's target: `aws` for `aws-2`, or `store`."""
    return target if target == STORE else target.split("-")[0]


def _of_start(recording: Recording) -> Increments:
    begun = [entry.time for entry in recording.timeline if entry.status is Status.RECORDING]
    if len(begun) != 1:
        return {}  # it was paused before
    return measured(START, (begun[0] - recording.invoked_time).total_seconds())


def _of_end(recording: Recording) -> Increments:
    stopped = stop_reason_of(recording)
    reason = stopped.reason.value if stopped else ""
    if is_cancelled(recording):
        return counted(ENDED, CANCELLED, reason, "")
    error = recording.error.code if recording.error else ""
    ended = counted(ENDED, recording.status.value, reason, error)
    if recording.status is not Status.UPLOADED or recording.stopped_time is None:
        return ended
    seconds = (recording.timeline[-1].time - recording.stopped_time).total_seconds()
    return {**ended, **measured(FINISH, seconds)}


def _of_quality(recording: Recording) -> Increments:
    quality = recording.quality or {}
    increments: dict[str, float] = {}
    for counter, value in (
        (RECORDED_SECONDS, recording.recording_duration),
        (FRAMES_CAPTURED, quality.get("frames_captured")),
        (FRAMES_LOST, quality.get("frames_lost")),
        (FRAMES_DOUBLED, quality.get("frames_doubled")),
    ):
        if isinstance(value, int):
            increments |= counted(counter, by=value)
    for histogram, value in ((SPEED, quality.get("speed")), (PEAK_MEMORY, quality.get("peak_memory"))):
        if isinstance(value, int | float) and value:
            increments |= measured(histogram, value)
    return increments


def _field(*parts: str) -> str:
    return json.dumps(parts)


class Counts:
    """The counts in Redis."""

    def __init__(self, client: redis.Redis) -> None:
        """`client` must return bytes (see `farm.db.clients`)."""
        self._redis = client

    def add(self, increments: Increments) -> None:
        """Add to the counts. Redis errors are logged only, so that counting never blocks the work."""
        if not increments:
            return
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                for field, by in increments.items():
                    pipeline.hincrbyfloat(_KEY, field, by)
                pipeline.execute()
        except redis.RedisError as error:
            logger.warning("counters were not updated: %s", error)

    def read(self) -> dict[tuple[str, ...], float]:
        """All counts by metric and labels. Raises redis.RedisError."""
        found = cast("dict[bytes, bytes]", self._redis.hgetall(_KEY))
        return {tuple(json.loads(field)): float(value) for field, value in found.items()}


def cumulative_buckets(
    histogram: Histogram, counts: Mapping[tuple[str, ...], float]
) -> tuple[list[tuple[str, float]], float]:
    """A histogram as Prometheus expects it: cumulative buckets, and the sum of all values."""
    buckets, total = [], 0.0
    for bound in (*histogram.bounds, float("inf")):
        total += counts.get((histogram.name, str(bound)), 0.0)
        buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
    return buckets, counts.get((histogram.name, _SUM), 0.0)
