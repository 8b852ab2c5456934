"""What lies in Redis is data: nothing of it is unpickled, imported or called."""

import json
import pickle
import zlib
from base64 import b64encode
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from rq import Queue
from rq.job import Job
from rq.results import Result
from rq.serializers import DefaultSerializer
from rq.webhook import Webhook

from recording_farm.farm.queues.recordings import enqueue_recording
from recording_farm.farm.queues.rq_hardening import JsonSerializer, UnreadableJobError, read_plain_pickle
from testkit.recordings import new_recording

ID = "742f15b1-662c-4f65-8bd4-90322f713c47"

# As version 0.1 wrote them, with RQ's default serializer.
OLD_RECORD = bytes.fromhex(
    "8005954900000000000000288c166661726d2e7265636f72645f6a6f622e7265636f7264944e8c2437343266313562312d"
    "363632632d346636352d386264342d3930333232663731336334379485947d9474942e"
)
OLD_META = bytes.fromhex(
    "80059551000000000000007d94288c097265636f7264696e67948c2437343266313562312d363632632d346636352d386264"
    "342d393033323266373133633437948c076d656574696e67948c0464656d6f948c046e6f6465944e752e"
)


class Bomb:
    """Pickled, it is a call."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_job_of_the_last_version_should_be_read() -> None:
    assert JsonSerializer.loads(OLD_RECORD) == ("farm.record_job.record", None, (ID,), {})
    assert JsonSerializer.loads(OLD_META) == {"recording": ID, "meeting": "demo", "node": None}


@pytest.mark.parametrize(
    "value",
    [
        ("farm.transfer_job.transfer", None, (ID, "store"), {}),
        ("a", None, ("b", "c", "d"), {"e": True, "f": 7}),
    ],
)
def test_plain_pickle_should_be_read_without_pickle(value: object) -> None:
    assert read_plain_pickle(pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)) == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_that_calls_something_should_not_be_read(tmp_path: Path, protocol: int) -> None:
    pickled = pickle.dumps(("f", None, (Bomb(tmp_path / "called"),), {}), protocol=protocol)
    with pytest.raises(UnreadableJobError):
        JsonSerializer.loads(pickled)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    "broken",
    [b"\x80", b"\x80\x05.", b"\x80\x05u.", b"\x80\x05h\x07.", b"\x80\x05NN.", b"\x80\x05}", b"\x80\x05Ns."],
)
def test_broken_pickle_should_be_an_error_of_its_own(broken: bytes) -> None:
    with pytest.raises(UnreadableJobError):
        JsonSerializer.loads(broken)


def test_what_is_too_long_should_not_be_parsed() -> None:
    with pytest.raises(UnreadableJobError, match="too many"):
        JsonSerializer.loads(b"[" * 100_000)


def test_enqueued_job_should_be_json(redis_client: redis.Redis) -> None:
    recording = new_recording()
    enqueue_recording(redis_client, recording)
    record = cast("dict[bytes, bytes]", redis_client.hgetall(f"rq:job:{recording.id}"))
    assert json.loads(zlib.decompress(record[b"data"]))[2] == [str(recording.id)]
    assert json.loads(record[b"meta"])["meeting"] == recording.meeting_id


def test_no_way_of_rq_should_unpickle(redis_client: redis.Redis, tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "called"))
    fields: dict[Any, Any] = {
        "data": zlib.compress(bomb),
        "meta": bomb,
        "result": bomb,
        "created_at": "2026-11-30T10:00:00Z",
    }
    redis_client.hset(f"rq:job:{ID}", mapping=fields)
    redis_client.xadd(f"rq:results:{ID}", {"type": "1", "return_value": b64encode(bomb)})
    # Without a serializer, as rq-dashboard and much of RQ itself do it.
    job = Job.fetch(ID, connection=redis_client)
    for read in (lambda: job.args, lambda: job.get_meta(), lambda: Result.fetch_latest(job), job.results):
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever RQ makes of it
            read()
    assert not (tmp_path / "called").exists()
    assert DefaultSerializer.loads is JsonSerializer.loads


def test_no_function_that_redis_names_should_be_imported(redis_client: redis.Redis) -> None:
    job = Queue("jobs", connection=redis_client).enqueue("os.system", "true", on_failure=None)
    redis_client.hset(
        job.key, mapping={"failure_callback_name": "os.system", "success_callback_name": "os.system"}
    )
    job = Job.fetch(job.id, connection=redis_client)
    for read in (lambda: job.func, lambda: job.failure_callback, lambda: job.success_callback):
        with pytest.raises(UnreadableJobError, match="not called"):
            read()


def test_webhook_that_a_job_names_should_not_be_sent(
    redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    job = Queue("jobs", connection=redis_client).enqueue("x")
    Webhook("http://127.0.0.1:9/", "failed").send(job)
    assert "is not sent" in caplog.text
