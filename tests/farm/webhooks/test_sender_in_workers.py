"""Webhooks as the real worker sends them: its dispatcher and its RQ workers."""

import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import redis

from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.embedded import embedded_redis
from recording_farm.farm.recording.model import Status
from recording_farm.farm.recording.records import Records
from recording_farm.farm.webhooks.deliveries import DUE_KEY, lanes_key
from recording_farm.farm.webhooks.log import WebhookLog
from recording_farm.farm.webhooks.registry import STATUS_UPDATE, Webhook
from testkit.machine.processes import below
from testkit.receivers import Receiver, Reply
from testkit.recordings import new_recording
from testkit.settings import settings_with
from testkit.webhooks import webhooks_of
from testkit.workers import process_connected_to, running_worker

pytestmark = pytest.mark.long

QUICK = {"FARM_WEBHOOK_INTERVALS": "0.1,0.1,0.2,0.5,1,1,1,1,1,1", "FARM_WEBHOOK_TIMEOUT": "1"}


def register(client: redis.Redis, data_dir: Path, url: str) -> Webhook:
    return webhooks_of(client, data_dir).create(
        "acme", name="test", url=url, events=(STATUS_UPDATE,), enabled=True
    )


def wait_until_nothing_waits(client: redis.Redis, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while client.zcard(DUE_KEY):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.exact
def test_change_should_reach_a_receiver_at_once_and_a_failure_be_tried_again(
    redis_client: redis.Redis, redis_address: str, tmp_path: Path, hook: Receiver
) -> None:
    webhook = register(redis_client, tmp_path, hook.url)
    hook.decide = lambda _, before: Reply(503 if before == 2 else 200)
    records = Records(redis_client)
    recording = new_recording()
    with running_worker(redis_client, redis_address, tmp_path, **QUICK) as worker:
        records.add(recording)
        hook.wait_for(1)
        time.sleep(0.3)  # all is quiet again
        changed = time.time()
        records.change_state(recording.id, Status.RECORDING)
        assert hook.wait_for(2)[1].time - changed < 1
        records.change_state(recording.id, Status.UPLOADING)
        hook.wait_for(4)
        wait_until_nothing_waits(redis_client)
        assert hook.accepted == ["INVOKED", "RECORDING", "UPLOADING"]
        # What happens at the very end is told too.
        records.change_state(recording.id, Status.UPLOADED)
    assert worker.returncode == 0
    assert hook.accepted[-1] == "UPLOADED"
    entries = WebhookLog(redis_client).page("acme", str(webhook.id), 0, 10).entries
    assert [entry.attempt.status_code for entry in entries] == [200, 200, 503, 200, 200]


@pytest.mark.parametrize("victim", ["sender", "pool", "dispatcher"])
def test_killed_process_should_lose_no_delivery(
    redis_client: redis.Redis, redis_address: str, tmp_path: Path, hook: Receiver, victim: str
) -> None:
    register(redis_client, tmp_path, hook.url)
    records = Records(redis_client)
    recording = new_recording()
    hook.decide = lambda _, before: Reply(hangs=before == 0)
    # The connection must still be there when its sender is looked for.
    patient = QUICK | {"FARM_WEBHOOK_SENDERS": "1", "FARM_WEBHOOK_TIMEOUT": "5"}
    with running_worker(redis_client, redis_address, tmp_path, **patient) as worker:
        records.add(recording)
        (first,) = hook.wait_for(1)
        sender = process_connected_to(hook.port)
        pool = sender.parent()
        assert pool is not None
        dispatcher = _dispatcher(worker.pid)
        {"sender": sender, "pool": pool, "dispatcher": dispatcher}[victim].kill()
        records.change_state(recording.id, Status.RECORDING)
        hook.wait_for(3)
        wait_until_nothing_waits(redis_client)
    assert hook.accepted == ["INVOKED", "RECORDING"]
    assert [received.headers["webhook-id"] for received in hook.received[:2]] == [
        first.headers["webhook-id"]
    ] * 2


def _dispatcher(worker_pid: int) -> psutil.Process:
    (dispatcher,) = below(worker_pid, name="farm dispatcher")
    return dispatcher


def test_webhooks_should_go_on_after_redis_was_away(tmp_path: Path, hook: Receiver) -> None:
    settings = settings_with(tmp_path / "data", None)
    recording = new_recording()
    with ExitStack() as redis_server, connect(settings.redis_address) as client:
        address = redis_server.enter_context(embedded_redis(settings)).address
        register(client, tmp_path / "data", hook.url)
        with running_worker(client, address, tmp_path / "data", **QUICK):
            records = Records(client)
            records.add(recording)
            hook.wait_for(1)
            # What is not settled yet would be sent again.
            wait_until_nothing_waits(client)
            redis_server.pop_all().close()
            time.sleep(2)
            redis_server.enter_context(embedded_redis(settings))
            records.change_state(recording.id, Status.RECORDING)
            hook.wait_for(2, timeout=60)
            wait_until_nothing_waits(client)
    assert hook.accepted == ["INVOKED", "RECORDING"]


def test_delivery_that_was_not_sent_should_wait_for_the_next_start(
    redis_client: redis.Redis, redis_address: str, tmp_path: Path, hook: Receiver
) -> None:
    webhook = register(redis_client, tmp_path, hook.url)
    records = Records(redis_client)
    recording = new_recording()
    hook.decide = lambda _, before: Reply(500 if before == 0 else 200)
    # The first try must arrive, however slow a worker is that has just been started.
    once = QUICK | {"FARM_WEBHOOK_INTERVALS": "60", "FARM_WEBHOOK_TIMEOUT": "20"}
    with running_worker(redis_client, redis_address, tmp_path, **once):
        records.add(recording)
        hook.wait_for(1)
    assert hook.accepted == []
    # Instead of waiting for a minute.
    redis_client.zadd(lanes_key(webhook.id), {str(recording.id): 0})
    redis_client.zadd(DUE_KEY, {str(webhook.id): 0})
    with running_worker(redis_client, redis_address, tmp_path, **QUICK):
        hook.wait_for(2)
        wait_until_nothing_waits(redis_client)
    assert hook.accepted == ["INVOKED"]
