"""What has happened in the farm, counted in Redis for Prometheus by whoever sees it happen.

The farm's processes are many and some live for one job only, so the counts of all of them are kept in one
place. Everything that can be counted is declared here; `farm.telemetry.metrics` shows it.

Key
    farm:counts    hash: each number by its metric and what distinguishes it, as a JSON array, such as
                   ["farm_transfers_total", "aws", "done"]; of a histogram there is one for each bucket and
                   one for the sum
"""

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from itertools import product
from typing import Final, NamedTuple, cast

import redis

from recording_farm.farm.recording.model import ReasonKind, Recording, Status
from recording_farm.farm.recording.transfers import STORE, Transfer, TransferState

logger = logging.getLogger(__name__)

_KEY: Final = "farm:counts"

_SUM: Final = "sum"

PLACES: Final = (STORE, "aws", "azure", "cloudflare", "digitalocean", "gcs", "s3", "sftp")
"""The kinds of places that files are carried to: the store, and those of `farm.storage.targets`."""


class Counter(NamedTuple):
    """Something that is counted, by labels whose values are few.

    What is `expected` is shown before it happens: for Prometheus a number that appears has not increased.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    expected: tuple[tuple[str, ...], ...] = ()


class Histogram(NamedTuple):
    """Something that is measured: how often it was at most each of `bounds`, and the sum of all values."""

    name: str
    help: str
    bounds: tuple[float, ...]


INVOKED: Final = Counter("farm_recordings_invoked_total", "Recordings that were asked for.")
ENDED: Final = Counter(
    "farm_recordings_ended_total",
    "Recordings that came to an end, by final state, reason and code of their error (none: empty).",
    ("status", "reason", "error"),
    ((Status.UPLOADED, ReasonKind.API_CALL, ""),),
)
RECORDED_SECONDS: Final = Counter("farm_recorded_seconds_total", "Seconds of video in finished files.")
FRAMES_CAPTURED: Final = Counter("farm_frames_captured_total", "Frames in finished files.")
FRAMES_LOST: Final = Counter("farm_frames_lost_total", "Frames that are missing in finished files.")
FRAMES_DOUBLED: Final = Counter("farm_frames_doubled_total", "Frames that two pictures fell on.")
TRANSFERS: Final = Counter(
    "farm_transfers_total",
    "Transfers that came to an end, by kind of place and result; apart from the recordings' own results.",
    ("place", "result"),
    tuple(product(PLACES, ("done", "given_up"))),
)
TRANSFER_FAILURES: Final = Counter(
    "farm_transfer_failures_total",
    "Tries of transfers that failed, by kind of place and code of the error.",
    ("place", "error"),
)
WEBHOOK_ATTEMPTS: Final = Counter(
    "farm_webhook_attempts_total",
    "Tries to deliver webhooks, by what came of them.",
    ("outcome",),
    (("delivered",), ("retrying",), ("given_up",)),
)

_SECONDS: Final = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)

QUEUE_WAIT: Final = Histogram(
    "farm_queue_wait_seconds", "From when a recording was asked for to when a slot took it.", _SECONDS
)
START: Final = Histogram(
    "farm_start_seconds", "From when a recording was asked for to its first take.", _SECONDS
)
FINISH: Final = Histogram(
    "farm_finish_seconds", "From the end of a recording to when its file was where it is to be.", _SECONDS
)
SPEED: Final = Histogram(
    "farm_encoder_speed",
    "Seconds of sound and picture encoded in a second, of a recording's slowest take.",
    (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0, 1.01, 1.05),
)
PEAK_MEMORY: Final = Histogram(
    "farm_recording_peak_memory_bytes",
    "The most memory that browser, display and sound of a recording used.",
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
"""What to add to which field of the hash."""


def counted(counter: Counter, *labels: str, by: float = 1) -> Increments:
    """The increment of one counter."""
    assert len(labels) == len(counter.labels)
    return {_field(counter.name, *labels): by}


def measured(histogram: Histogram, value: float) -> Increments:
    """The increments of one value. Of a clock that runs behind another's a duration may be negative: 0."""
    value = max(value, 0.0)
    bound = next((bound for bound in histogram.bounds if value <= bound), float("inf"))
    return {_field(histogram.name, str(bound)): 1, _field(histogram.name, _SUM): value}


def change_increments(recording: Recording) -> Increments:
    """What counts when a recording has just changed its state, or was added."""
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
    """What counts when a slot takes a recording that nobody has begun."""
    return measured(QUEUE_WAIT, (moment - recording.invoked_time).total_seconds())


def transfer_increments(transfer: Transfer) -> Increments:
    """What counts after a try of a transfer."""
    place = place_kind(transfer.target)
    increments: dict[str, float] = {}
    if transfer.state is not TransferState.DONE and transfer.error is not None:
        increments |= counted(TRANSFER_FAILURES, place, transfer.error.code)
    if transfer.state in {TransferState.DONE, TransferState.GIVEN_UP}:
        increments |= counted(TRANSFERS, place, transfer.state.lower())
    return increments


def attempt_increments(outcome: str) -> Increments:
    """What counts after a try to deliver a webhook; `outcome` is a `farm.webhooks.log.AttemptOutcome`."""
    return counted(WEBHOOK_ATTEMPTS, outcome)


def place_kind(target: str) -> str:
    """What kind of place a transfer goes to: `aws` of `aws-2`, and `store`."""
    return target if target == STORE else target.split("-")[0]


def _of_start(recording: Recording) -> Increments:
    begun = [entry.time for entry in recording.timeline if entry.status is Status.RECORDING]
    if len(begun) != 1:
        return {}  # it was paused before
    return measured(START, (begun[0] - recording.invoked_time).total_seconds())


def _of_end(recording: Recording) -> Increments:
    reason = recording.stop_reason.reason.value if recording.stop_reason else ""
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
        """Add to the counts. A Redis that is away is no error: what is counted goes on without."""
        if not increments:
            return
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                for field, by in increments.items():
                    pipeline.hincrbyfloat(_KEY, field, by)
                pipeline.execute()
        except redis.RedisError as error:
            logger.warning("something was not counted: %s", error)

    def read(self) -> dict[tuple[str, ...], float]:
        """All counts by metric and what distinguishes them. Raises redis.RedisError."""
        found = cast("dict[bytes, bytes]", self._redis.hgetall(_KEY))
        return {tuple(json.loads(field)): float(value) for field, value in found.items()}


def buckets_of(
    histogram: Histogram, counts: Mapping[tuple[str, ...], float]
) -> tuple[list[tuple[str, float]], float]:
    """A histogram as Prometheus wants it: how many values were at most each bound, and their sum."""
    buckets, total = [], 0.0
    for bound in (*histogram.bounds, float("inf")):
        total += counts.get((histogram.name, str(bound)), 0.0)
        buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
    return buckets, counts.get((histogram.name, _SUM), 0.0)
