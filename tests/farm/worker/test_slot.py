"""A slot as a program of its own."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
import redis
from rq import Queue
from rq.exceptions import DequeueTimeout, NoSuchJobError

from recording_farm.browser_bot.stage.stage import Stage
from recording_farm.encoder.formats import Format
from recording_farm.farm.jobs import entry
from recording_farm.farm.pages.access import environment_of
from recording_farm.farm.queues.recordings import (
    RECORD_JOB,
    Place,
    base_queues,
    continuations_queue,
    enqueue_continuation,
    enqueue_recording,
    node_recordings_queue,
    queue_place,
)
from recording_farm.farm.recorder import warm_stage
from recording_farm.farm.recorder.opened_stage import OpenedStage, StageNeeds
from recording_farm.farm.recording.model import Status
from recording_farm.farm.worker import slot
from recording_farm.farm.worker.draining import is_draining
from recording_farm.farm.worker.slot import SlotWorker
from testkit.farm import Farm
from testkit.settings import set_environment, settings_with
from testkit.waiting import wait_until

# A signal that comes in the middle of a fork: what its handler raises there, Python throws away.
SLOT = """
import os, signal, sys

def stop_in_the_fork():
    if sys._getframe(1).f_code.co_filename.endswith("slot.py"):
        os.kill(os.getpid(), signal.SIGTERM)

os.register_at_fork(after_in_parent=stop_in_the_fork)

from rq import Queue
from recording_farm.farm.db.clients import connect
from recording_farm.farm.config.settings import load_settings
from recording_farm.farm.worker.slot import SlotWorker

client = connect(load_settings().redis_address)
SlotWorker([Queue("farm-test", connection=client)], connection=client).work()
"""


@pytest.mark.usefixtures("redis_client")
def test_slot_should_end_when_it_is_told_to_in_the_middle_of_a_fork(
    redis_address: str, tmp_path: Path
) -> None:
    settings = {
        "FARM_DATA_DIR": str(tmp_path),
        "FARM_REDIS_URL": redis_address,
        "FARM_MAX_LOAD": "1",
        "FARM_DISK_RESERVE": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", SLOT],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert is_draining(settings_with(tmp_path, redis_address))
    assert "Exception ignored" in done.stderr
    assert done.returncode == 0, done.stderr


def test_warm_work_horse_should_run_the_function_that_the_name_of_its_job_means(
    redis_client: redis.Redis, redis_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_with(tmp_path, redis_address)
    queue = Queue("recordings", connection=redis_client)
    job = queue.enqueue(RECORD_JOB, str(uuid4()))
    worker = SlotWorker([queue], connection=redis_client)
    execution = worker.prepare_execution(job)
    names = json.dumps([job.id, queue.name, execution.id]).encode()
    monkeypatch.setattr(worker, "_settings", settings, raising=False)
    monkeypatch.setattr(worker, "_format", Format(), raising=False)
    monkeypatch.setattr(worker, "_environment", environment_of(None, settings), raising=False)
    monkeypatch.setattr(worker, "setup_work_horse_signals", lambda: None)
    monkeypatch.setattr(slot, "set_process_title", lambda _: None)
    monkeypatch.setattr(slot, "wait_warm", lambda *_: names)
    monkeypatch.setenv("RQ_JOB_ID", "")
    called: list[object] = []
    monkeypatch.setattr(worker, "main_work_horse", lambda job, _: called.append(job.func))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker._wait_for_job(theirs)
    assert called == [entry.record]


@pytest.mark.parametrize("is_deleted", [False, True])
def test_warm_stage_should_be_closed_when_its_recording_was_stopped_before(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, is_deleted: bool
) -> None:
    set_environment(monkeypatch, farm.settings)
    recording = farm.add()
    queue = Queue("recordings", connection=farm.redis)
    job = queue.enqueue(RECORD_JOB, str(recording.id))
    if is_deleted:
        farm.stop_and_delete(recording)
    else:
        farm.records.change_state(recording.id, Status.ERRORED)
    worker = SlotWorker([queue], connection=farm.redis)
    job = worker.job_class.fetch(job.id, connection=farm.redis)
    closed: list[bool] = []
    parts = AsyncExitStack()
    parts.callback(closed.append, True)
    stage = OpenedStage(StageNeeds(320, 180, 30), cast(Stage, None), parts)
    monkeypatch.setattr(warm_stage, "_ready", (asyncio.Runner(), stage))
    assert worker.perform_job(job, queue, worker.prepare_execution(job))
    assert closed == [True]


def test_warm_stage_should_be_closed_when_its_job_is_gone(
    redis_client: redis.Redis, redis_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_with(tmp_path, redis_address)
    worker = SlotWorker([Queue("recordings", connection=redis_client)], connection=redis_client)
    monkeypatch.setattr(worker, "_settings", settings, raising=False)
    monkeypatch.setattr(worker, "_format", Format(), raising=False)
    monkeypatch.setattr(worker, "_environment", environment_of(None, settings), raising=False)
    monkeypatch.setattr(worker, "setup_work_horse_signals", lambda: None)
    monkeypatch.setattr(slot, "set_process_title", lambda _: None)
    monkeypatch.setattr(slot, "wait_warm", lambda *_: json.dumps(["gone", "recordings", "gone"]).encode())
    closed: list[bool] = []
    monkeypatch.setattr(slot, "close_ready_stage", lambda: closed.append(True))
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(NoSuchJobError):
        worker._wait_for_job(theirs)
    assert closed == [True]


@pytest.fixture
def slot_worker(
    redis_client: redis.Redis, redis_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> SlotWorker:
    """A slot that is asked for its next job, on a node with room."""
    queues = [
        node_recordings_queue(redis_client, "node-1"),
        continuations_queue(redis_client),
        *base_queues(redis_client),
    ]
    worker = SlotWorker(queues, connection=redis_client)
    monkeypatch.setattr(worker, "_settings", settings_with(tmp_path, redis_address), raising=False)
    monkeypatch.setattr(worker, "_admits_new", True, raising=False)
    worker._ordered_queues = worker.queues[:2]
    return worker


def test_slot_that_waits_should_take_a_new_recording_at_once(slot_worker: SlotWorker, farm: Farm) -> None:
    recording = farm.add()
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(slot_worker.next_job, 30)
        wait_until(lambda: blocked_clients(farm.redis) == 1, 10)
        enqueue_recording(farm.redis, recording)
        found = taken.result(10)
    assert found is not None
    job, queue = found
    assert (job.id, queue.name) == (str(recording.id), "recordings@acme")


def test_slot_should_resume_before_it_takes_new_recordings(slot_worker: SlotWorker, farm: Farm) -> None:
    new, resumed, own = farm.add(meeting_id="a"), farm.add(meeting_id="b"), farm.add(meeting_id="c")
    enqueue_recording(farm.redis, new)
    enqueue_continuation(farm.redis, resumed, None)
    enqueue_continuation(farm.redis, own, "node-1")
    taken = [slot_worker.next_job(1) for _ in range(3)]
    assert [job.args[0] for job, _ in filter(None, taken)] == [str(each.id) for each in (own, resumed, new)]
    assert slot_worker.next_job(None) is None
    with pytest.raises(DequeueTimeout):
        slot_worker.next_job(1)


def test_slot_without_room_should_leave_new_recordings_to_others(
    slot_worker: SlotWorker, farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = farm.add()
    enqueue_recording(farm.redis, recording)
    monkeypatch.setattr(slot_worker, "_admits_new", False)
    with pytest.raises(DequeueTimeout):
        slot_worker.next_job(1)
    assert queue_place(farm.redis, recording, 0) == Place(1)


def test_slot_should_pass_over_a_job_that_was_deleted(slot_worker: SlotWorker, farm: Farm) -> None:
    deleted, kept = farm.add(meeting_id="deleted"), farm.add(meeting_id="kept")
    for recording in (deleted, kept):
        enqueue_recording(farm.redis, recording)
    farm.redis.delete(f"rq:job:{deleted.id}")
    found = slot_worker.next_job(1)
    assert found is not None
    assert found[0].id == str(kept.id)


def blocked_clients(client: redis.Redis) -> int:
    """How many clients wait for an entry of a list."""
    return int(client.info("clients")["blocked_clients"])
