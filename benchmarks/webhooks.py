"""Webhooks: how long from a change of state until a local receiver has the request."""

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from uuid import uuid4

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.embedded import embedded_redis
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.records import Records
from recording_farm.farm.webhooks.registry import STATUS_UPDATE, Webhooks
from testkit.machine.load import Stolen
from testkit.receivers import Receiver, Reply, receiver
from testkit.webhooks import webhooks_of
from testkit.workers import running_worker

CHANGES = 300
HANGING = 20


def run(directory: Path) -> Iterator[str]:
    """Change states, one at a time, with the real worker; then again while other receivers hang."""
    settings = Settings.model_validate({"data_dir": directory / "redis"})
    with (
        embedded_redis(settings) as server,
        connect(server.address) as client,
        receiver() as hook,
        receiver() as hanging,
        running_worker(client, server.address, directory / "data"),
    ):
        webhooks, records = webhooks_of(client, directory / "data"), Records(client)
        hanging.decide = lambda _received, _before: Reply(hangs=True)
        _register(webhooks, hook.url)
        yield f"change to receiver: {_figures(records, hook)}"
        for number in range(HANGING):
            _register(webhooks, f"{hanging.url}/{number}")
        yield f"change to receiver, {HANGING} others of the organization hang: {_figures(records, hook)}"


def _register(webhooks: Webhooks, url: str) -> None:
    webhooks.create("bench", name=url, url=url, events=(STATUS_UPDATE,), enabled=True)


def _figures(records: Records, hook: Receiver) -> str:
    stolen = Stolen.from_now()
    delays = _measure(records, hook)
    cuts = quantiles(delays, n=100)
    return (
        f"median {median(delays):.0f} ms, p99 {cuts[98]:.0f} ms, worst {max(delays):.0f} ms of {CHANGES}; "
        f"steal {stolen.share():.1%}"
    )


def _measure(records: Records, hook: Receiver) -> list[float]:
    delays = []
    recording = _new_recording()
    records.add(recording)
    hook.wait_for(len(hook.received) + 1)
    time.sleep(0.5)
    for number in range(CHANGES):
        before = len(hook.received)
        changed = time.time()
        records.change_state(recording.id, Status.PAUSED if number % 2 else Status.RECORDING)
        delays.append((hook.wait_for(before + 1)[before].time - changed) * 1000)
    return delays


def _new_recording() -> Recording:
    fields: dict[str, Any] = {
        "id": uuid4(),
        "organization_id": "bench",
        "meeting_id": str(uuid4()),
        "url": "http://127.0.0.1:9/",
        "output_file_name": "bench.mp4",
        "invoked_time": now(),
    }
    return Recording.model_validate(fields)
