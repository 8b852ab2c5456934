"""The API with many recordings stored: how fast one core answers, and how much it answers."""

import base64
import http.client
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any, cast
from uuid import uuid4

import psutil
import redis

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.embedded import embedded_redis
from recording_farm.farm.recording.files import output_file_name
from recording_farm.farm.recording.listing import index_prefix, member_of, sort_score
from recording_farm.farm.recording.model import Caller, Reason, ReasonKind, Recording, Status, TimelineEntry
from recording_farm.farm.recording.records import encode, record_key
from testkit.machine.load import Stolen
from testkit.network.ports import free_port

STORED = 100_000
MEETINGS = 1000
BATCH = 1000
SECONDS = 10.0
RATE = 500
LIST_SECONDS = 5.0

ORGANIZATION, KEY = "acme", "benchmark"
HEADERS = {"Authorization": f"Basic {base64.b64encode(f'{ORGANIZATION}:{KEY}'.encode()).decode()}"}

LISTS = {
    "the newest 50": "per_page=50",
    "the newest 50 of one state": "per_page=50&status=ERRORED",
    "the newest 50 of one meeting": "per_page=50&meeting_id=meeting-7",
    "50 in the middle": "per_page=50&page_no=1000",
    "the newest 50 with a text in their meeting's id": "per_page=50&search=meeting-77",
}


def run(directory: Path) -> Iterator[str]:
    """Store many recordings, then ask for one of them, and for lists, over the real server."""
    settings = Settings(data_dir=directory, port=free_port())
    with embedded_redis(settings), connect(settings.redis_address) as client:
        began = time.monotonic()
        ids = store(client, STORED)
        yield f"{STORED} recordings stored in {time.monotonic() - began:.0f} s"
        with _served(settings) as server:

            def one() -> str:
                return f"/v2/recordings/{random.choice(ids)}"

            _load(server, settings, one, 1, 2.0)
            load = _load(server, settings, one, 4, SECONDS, rate=RATE)
            yield f"GET one, {RATE} a second over 4 connections: {load}"
            for connections in (1, 4, 16):
                load = _load(server, settings, one, connections, SECONDS)
                yield f"GET one, as fast as {connections} connections can: {load}"
            for name, query in LISTS.items():
                load = _load(server, settings, f"/v2/recordings?{query}".__str__, 1, LIST_SECONDS)
                yield f"list of {name}: {load}"


def store(client: redis.Redis, count: int) -> list[str]:
    """Write recordings that have ended straight into the records and their indexes; returns their ids."""
    begin = now() - timedelta(seconds=count)
    ids = []
    for start in range(0, count, BATCH):
        with client.pipeline(transaction=False) as pipeline:
            for number in range(start, start + BATCH):
                recording = _recording(number, begin + timedelta(seconds=number))
                index = f"{index_prefix(ORGANIZATION)}{recording.status}"
                place = {member_of(recording): sort_score(recording)}
                fields = encode(recording, Recording.model_fields)
                pipeline.hset(record_key(recording.id), mapping=cast("Any", fields))
                pipeline.zadd(index, place)
                pipeline.zadd(f"{index}:{recording.meeting_id}", place)
                ids.append(str(recording.id))
            pipeline.execute()
    return ids


def _recording(number: int, invoked: datetime) -> Recording:
    """A recording of a minute; one in ten is ERRORED."""
    meeting_id = f"meeting-{number % MEETINGS}"
    began, ended = invoked + timedelta(seconds=2), invoked + timedelta(seconds=62)
    last = Status.ERRORED if number % 10 == 0 else Status.UPLOADED
    states = [(Status.INVOKED, invoked), (Status.RECORDING, began), (Status.UPLOADING, ended), (last, ended)]
    return Recording(
        id=uuid4(),
        organization_id=ORGANIZATION,
        meeting_id=meeting_id,
        url=f"https://meet.example.com/{meeting_id}",
        output_file_name=output_file_name(None, meeting_id, invoked, ".mp4"),
        status=last,
        node="node-1",
        invoked_time=invoked,
        started_time=began,
        stopped_time=ended,
        file_size=5_000_000,
        recording_duration=60,
        start_reason=Reason(
            reason=ReasonKind.API_CALL,
            caller=Caller(type="ORGANIZATION", user_id=ORGANIZATION, name=ORGANIZATION),
        ),
        stop_reason=Reason(reason=ReasonKind.PAGE_ENDED),
        quality={"frames_captured": 1800, "frames_lost": 0, "frames_doubled": 0, "speed": 1.0},
        timeline=tuple(TimelineEntry(status=status, time=time_) for status, time_ in states),
    )


@dataclass(frozen=True)
class Load:
    """What clients have met with."""

    milliseconds: list[float]
    seconds: float
    cpu_seconds: float
    steal: float

    def __str__(self) -> str:
        """One line of figures."""
        count = len(self.milliseconds)
        hundredths = quantiles(self.milliseconds, n=100)
        return (
            f"{count / self.seconds:.0f} requests/s, median {hundredths[49]:.1f} ms, "
            f"p99 {hundredths[98]:.1f} ms, {1000 * self.cpu_seconds / count:.2f} ms of the core each; "
            f"steal {self.steal:.1%}"
        )


def _load(
    server: psutil.Process,
    settings: Settings,
    path: Callable[[], str],
    connections: int,
    seconds: float,
    rate: float = math.inf,
) -> Load:
    """Ask over several connections, `rate` times a second in all, or again as soon as there is an answer."""
    stolen, began, used = Stolen.from_now(), time.monotonic(), _cpu_seconds(server)
    with ThreadPoolExecutor(connections) as threads:
        asking = [
            threads.submit(_ask, settings, path, began + seconds, connections / rate)
            for _ in range(connections)
        ]
    milliseconds = [each for asked in asking for each in asked.result()]
    return Load(milliseconds, time.monotonic() - began, _cpu_seconds(server) - used, stolen.share())


def _ask(settings: Settings, path: Callable[[], str], until: float, pause: float) -> list[float]:
    """Ask over one connection; returns what each answer took in ms, counted from when it was to be asked."""
    connection = http.client.HTTPConnection(settings.host, settings.port, timeout=30)
    milliseconds = []
    due = time.monotonic() + pause * random.random()
    while due < until:
        time.sleep(max(0.0, due - time.monotonic()))
        connection.request("GET", path(), headers=HEADERS)
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        answered = time.monotonic()
        milliseconds.append((answered - due) * 1000)
        due = due + pause if pause else answered
    connection.close()
    return milliseconds


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


@contextmanager
def _served(settings: Settings) -> Iterator[psutil.Process]:
    """The API as `farm api` runs it, on the first core; everything else moves to the others."""
    first, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others or [first])
    environment = {
        "FARM_DATA_DIR": str(settings.data_dir),
        "FARM_PORT": str(settings.port),
        "FARM_API_KEYS": f"{ORGANIZATION}:{KEY}",
        "FARM_RATE_LIMIT": "10000000",  # counted, but never reached
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "recording_farm.api"],
        env=environment,
        stderr=subprocess.PIPE,
        preexec_fn=partial(os.sched_setaffinity, 0, [first]),
    )
    try:
        assert server.stderr is not None
        assert b"the API is at" in server.stderr.readline()
        yield psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait(10)
        os.sched_setaffinity(0, [first, *others])
