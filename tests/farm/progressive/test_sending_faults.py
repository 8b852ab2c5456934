"""Storages that fail, forget or refuse while a file is sent to them in parts."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from recording_farm.encoder.cut.growing_cut import CutFile
from recording_farm.farm.jobs.transfer_attempt import run_transfer
from recording_farm.farm.progressive import following, sending
from recording_farm.farm.progressive.places import Place, place_at_customer, place_of
from recording_farm.farm.progressive.sending import Sender, finish_ahead
from recording_farm.farm.progressive.sent_parts import LEAST_PART_BYTES, read_ahead, targets_ahead
from recording_farm.farm.recording.transfers import STORE, TransferState, transfer_to
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import spool_of
from recording_farm.farm.storage.backend import NOT_READ_BACK, StorageError, StoredObject
from recording_farm.farm.storage.customer import open_backend
from recording_farm.farm.storage.targets import TARGET
from testkit.farm import Farm
from testkit.network.faulty_server import answering_server, refusing_server
from testkit.network.wire import wire_to
from testkit.recordings import new_recording
from testkit.storage.buckets import bucket_at, s3_at
from testkit.storage.growing_body import BODY, IDENTITY, Growing, stop, wait_for_parts
from testkit.storage.servers import S3_KEY, S3_SECRET, s3_server

Answer = Callable[[str, str, Mapping[str, str]], tuple[int, str] | None]


@pytest.fixture(autouse=True)
def _retried_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_LEAST_WAIT", 0.2)
    monkeypatch.setattr(sending, "_MOST_WAIT", 0.5)
    monkeypatch.setattr(sending, "_MOST_LASTING_WAIT", 0.5)


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    outbox = Outbox(tmp_path / "out")
    outbox.make()
    return outbox


@pytest.fixture
def films(s3_endpoint: str) -> Iterator[Any]:
    with bucket_at(s3_endpoint, "films") as bucket:
        yield bucket


@pytest.fixture
def port(s3_endpoint: str) -> int:
    return int(s3_endpoint.rpartition(":")[2])


def s3_target(port: int) -> dict[str, Any]:
    return {
        "type": "s3",
        "bucket": "films",
        "access_key": S3_KEY,
        "secret": S3_SECRET,
        "endpoint": f"http://127.0.0.1:{port}",
    }


def place_at(port: int, read_timeout: float = 60) -> Place:
    target = TARGET.validate_python(s3_target(port))
    storage = open_backend(target, None, read_timeout=read_timeout, tries=1)
    return place_at_customer(storage, target, new_recording(output_file_name="out.mp4"))


def sender_to(
    place: Place,
    outbox: Outbox,
    body: Growing,
    *,
    target: str = "s3",
    identity: str = IDENTITY,
    reopened: Callable[[], Place | None] = lambda: None,
) -> Sender:
    sender = Sender(outbox, target, place, LEAST_PART_BYTES, identity, body.read, lambda: True, reopened)
    sender.start()
    return sender


def send_two_parts(place: Place, outbox: Outbox, body: Growing) -> None:
    sender = sender_to(place, outbox, body)
    try:
        wait_for_parts(outbox, 2)
    finally:
        stop(sender)


def finish(place: Place, outbox: Outbox, body: Growing, identity: str = IDENTITY) -> StoredObject | None:
    file = outbox.directory / "out.mp4"
    return finish_ahead(outbox, "s3", place, file if file.exists() else body.finish(outbox), BODY, identity)


def content_of(bucket: Any) -> bytes:
    (stored,) = bucket.objects.all()
    data: bytes = stored.get()["Body"].read()
    return data


def upload_id(path: str) -> str:
    return parse_qs(urlsplit(path).query).get("uploadId", [""])[0]


class _FullUntil:
    """Refuses parts until somebody has made room."""

    def __init__(self) -> None:
        self.asked = 0
        self.has_room = threading.Event()

    def __call__(self, method: str, _path: str, _: Mapping[str, str]) -> tuple[int, str] | None:
        if method != "PUT" or self.has_room.is_set():
            return None
        self.asked += 1
        if self.asked >= 3:
            self.has_room.set()
        return 507, "XMinioStorageFull"


class _Forgets:
    """Forgets the first upload after its first part, as a lifecycle rule does that aborts it."""

    def __init__(self) -> None:
        self.first = ""
        self.parts = 0

    def __call__(self, _method: str, path: str, _: Mapping[str, str]) -> tuple[int, str] | None:
        self.first = self.first or upload_id(path)
        if upload_id(path) != self.first or not self.first:
            return None
        self.parts += 1
        return (404, "NoSuchUpload") if self.parts > 1 else None


class _Locked:
    """Has an object lock: Amazon takes no object and no part without a checksum."""

    def __call__(self, method: str, _: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
        names = {name.lower() for name in headers}
        if method == "PUT" and "content-md5" not in names:
            return 400, "InvalidRequest"
        return None


@pytest.mark.parametrize("fault", [_FullUntil, _Forgets, _Locked], ids=["full", "forgotten", "locked"])
def test_file_should_be_of_parts_after_a_fault(
    outbox: Outbox, films: Any, port: int, fault: Callable[[], Answer]
) -> None:
    body = Growing(BODY)
    with answering_server(port, fault()) as faulty:
        place = place_at(faulty)
        send_two_parts(place, outbox, body)
        assert finish(place, outbox, body) is not None
    assert content_of(films) == (outbox.directory / "out.mp4").read_bytes()


def test_upload_that_is_forgotten_before_the_finish_should_be_left_to_the_whole_file(
    outbox: Outbox, films: Any, port: int
) -> None:
    body = Growing(BODY)

    def forget(method: str, path: str, _: Mapping[str, str]) -> tuple[int, str] | None:
        return (404, "NoSuchUpload") if method == "POST" and upload_id(path) else None

    with answering_server(port, forget) as faulty:
        place = place_at(faulty)
        send_two_parts(place, outbox, body)
        assert finish(place, outbox, body) is None
    assert targets_ahead(outbox) == []
    assert list(films.objects.all()) == list(films.multipart_uploads.all()) == []


def test_upload_that_is_refused_at_its_finish_should_be_left_to_the_whole_file(
    outbox: Outbox, films: Any, port: int
) -> None:
    """Servers disagree about the answer for an upload that they no longer know."""
    body = Growing(BODY)

    def refuse(method: str, path: str, _: Mapping[str, str]) -> tuple[int, str] | None:
        return (400, "InvalidArgument") if method == "POST" and upload_id(path) else None

    with answering_server(port, refuse) as faulty:
        place = place_at(faulty)
        send_two_parts(place, outbox, body)
        for _ in range(2):  # it may have been a hiccup
            with pytest.raises(StorageError):
                finish(place, outbox, body)
        assert finish(place, outbox, body) is None
    assert targets_ahead(outbox) == []
    assert list(films.multipart_uploads.all()) == []


def test_parts_that_are_the_only_copy_should_be_kept_however_often_they_are_refused(
    outbox: Outbox, films: Any, port: int
) -> None:
    body = Growing(BODY)
    send_two_parts(place_at(port), outbox, body)
    where = (body.finish(outbox), BODY, IDENTITY)
    with answering_server(
        port, lambda method, *_: (500, "InternalError") if method == "POST" else None
    ) as bad:
        place = place_at(bad)
        for _ in range(5):
            with pytest.raises(StorageError):
                finish_ahead(outbox, "s3", place, *where, is_only_copy=True)
    assert finish_ahead(outbox, "s3", place_at(port), *where, is_only_copy=True) is not None
    assert len(list(films.objects.all())) == 1


def test_parts_should_be_kept_while_a_storage_is_away(outbox: Outbox, films: Any, port: int) -> None:
    body = Growing(BODY)
    send_two_parts(place_at(port), outbox, body)
    with wire_to(port) as wire:
        away = place_at(wire.port)
    for _ in range(5):
        with pytest.raises(StorageError):
            finish(away, outbox, body)
    assert finish(place_at(port), outbox, body) is not None
    assert len(list(films.objects.all())) == 1


def test_sender_should_continue_with_new_credentials(outbox: Outbox, films: Any, port: int) -> None:
    body = Growing(BODY)
    are_old = threading.Event()

    def refuse_old(_method: str, _path: str, _: Mapping[str, str]) -> tuple[int, str] | None:
        return (403, "InvalidAccessKeyId") if are_old.is_set() else None

    with answering_server(port, refuse_old) as with_old:
        body.size = BODY - 2 * LEAST_PART_BYTES + LEAST_PART_BYTES
        sender = sender_to(place_at(with_old), outbox, body, reopened=lambda: place_at(port))
        wait_for_parts(outbox, 1)
        begun = read_ahead(outbox, "s3")
        are_old.set()
        body.size = BODY
        wait_for_parts(outbox, 2)
        stop(sender)
    after = read_ahead(outbox, "s3")
    assert begun is not None
    assert after is not None
    assert after.begun == begun.begun
    assert finish(place_at(port), outbox, body) is not None
    assert len(list(films.objects.all())) == 1


def test_key_that_may_only_write_should_send_parts_and_finish(outbox: Outbox, films: Any, port: int) -> None:
    body, other = Growing(BODY), Growing(BODY)
    with refusing_server(port, lambda method, _: method not in {"PUT", "POST"}) as write_only:
        place = place_at(write_only)
        send_two_parts(place, outbox, other)
        # The cut began again, and the key may not abort the upload.
        sender = sender_to(place, outbox, body, identity="another")
        wait_for_parts(outbox, 2, "another")
        stop(sender)
        placed = finish(place, outbox, body, "another")
        assert placed is not None
        assert placed.note == NOT_READ_BACK
        assert content_of(films) == (outbox.directory / "out.mp4").read_bytes()
        send_two_parts(place, outbox, other)
        assert finish(place, outbox, other, "a third") is None
    assert targets_ahead(outbox) == []


@pytest.mark.parametrize("refused", [(), ("GET", "HEAD", "DELETE")], ids=["reads", "write-only"])
def test_bucket_with_versions_lock_and_kms_should_get_the_file(
    outbox: Outbox, tmp_path: Path, refused: tuple[str, ...]
) -> None:
    body = Growing(BODY)
    (tmp_path / "server").mkdir()
    with s3_server(tmp_path / "server", "testkit.storage.kms_server") as endpoint:
        bucket = s3_at(endpoint).create_bucket(Bucket="films", ObjectLockEnabledForBucket=True)
        bucket.meta.client.put_bucket_encryption(
            Bucket="films",
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]
            },
        )
        bucket.meta.client.put_object_lock_configuration(
            Bucket="films",
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}},
            },
        )
        port = int(endpoint.rpartition(":")[2])
        with refusing_server(port, lambda method, _: method in refused) as between:
            place = place_at(between)
            send_two_parts(place, outbox, body)
            placed = finish(place, outbox, body)
        assert placed is not None
        assert placed.note == (NOT_READ_BACK if refused else None)
        assert content_of(bucket) == (outbox.directory / "out.mp4").read_bytes()
        assert len(list(bucket.object_versions.all())) == 1


def test_storage_that_answers_late_should_delay_nobody_else(outbox: Outbox, films: Any, port: int) -> None:
    body = Growing(BODY)
    with wire_to(port) as wire:
        late = sender_to(place_at(wire.port, read_timeout=1), outbox, body)
        wire.silent_after(1 << 20)
        began = time.monotonic()
        sender = sender_to(place_at(port), outbox, body, target="s3-2")
        wait_for_parts(outbox, 2, target="s3-2")
        stop(sender)
        file = body.finish(outbox)
        assert finish_ahead(outbox, "s3-2", place_at(port), file, BODY, IDENTITY) is not None
        assert content_of(films) == file.read_bytes()
        ahead = read_ahead(outbox, "s3")
        assert ahead is None or ahead.parts == ()
        # It has not given up.
        wire.mend()
        wait_for_parts(outbox, 2)
        stop(late)
        assert time.monotonic() - began < 60
        assert finish_ahead(outbox, "s3", place_at(port), file, BODY, IDENTITY) is not None


def test_copy_of_the_farm_should_not_wait_for_a_customer_who_is_away(
    farm: Farm, films: Any, port: int, s3_endpoint: str, tmp_path: Path
) -> None:
    body = Growing(BODY)
    film = tmp_path / "film.mp4"
    film.write_bytes(b"head" + body.content)
    with bucket_at(s3_endpoint, "store") as store, wire_to(port) as wire:
        farm = farm.with_settings(
            store_url=f"s3://store?endpoint={s3_endpoint}",
            store_access_key=S3_KEY,
            store_secret=S3_SECRET,
            allow_private_addresses="all",
        )
        recording = farm.ended(new_recording(), film, s3_target(wire.port))
        outbox = Outbox.of(spool_of(recording, farm.settings))
        cut = CutFile(outbox.path_of(recording.files[0]), 1, 1, 0, 0, 1, (), BODY, IDENTITY)
        following._save_result(outbox, cut)
        senders: dict[str, Sender] = {}
        for target in ("s3", STORE):
            sealed = farm.records.sealed_target(recording.id, target)
            place = place_of(recording, target, sealed, farm.settings)
            assert place is not None
            # The customer's is lost in the middle of the second part.
            senders[target] = sender_to(place, outbox, body, target=target)
            wait_for_parts(outbox, 1 if target == "s3" else 2, target=target)
            wire.cut_after(12 << 20)
        stop(senders[STORE])
        run_transfer(recording.id, STORE, farm.settings, farm.redis)
        kept = transfer_to(farm.records.get(None, recording.id).transfers, STORE)
        assert kept is not None
        assert kept.state is TransferState.DONE
        stop(senders["s3"])
        run_transfer(recording.id, "s3", farm.settings, farm.redis)
        waiting = transfer_to(farm.records.get(None, recording.id).transfers, "s3")
        assert waiting is not None
        assert (waiting.state, waiting.error and waiting.error.code) == (TransferState.WAITING, "unreachable")
        wire.mend()
        farm.records.set_transfer(recording.id, waiting.model_copy(update={"next_try": None}))
        run_transfer(recording.id, "s3", farm.settings, farm.redis)
        assert wire.passed < BODY
        for bucket in (store, films):
            (stored,) = [each for each in bucket.objects.all() if each.key.endswith(".mp4")]
            assert stored.get()["Body"].read() == film.read_bytes()
            assert list(bucket.multipart_uploads.all()) == []


def test_sender_to_a_slow_storage_should_hold_one_part(outbox: Outbox) -> None:
    body = Growing(BODY)
    read: list[int] = []
    go_on = threading.Event()
    nothing = place_at(1)

    def send(*_: Any) -> dict[str, Any]:
        assert go_on.wait(30)
        return {}

    def counted(offset: int, size: int) -> bytes | None:
        read.append(offset)
        return body.read(offset, size)

    place = replace(nothing, begin=dict, send=send)
    sender = Sender(outbox, "s3", place, LEAST_PART_BYTES, IDENTITY, counted)
    sender.start()
    time.sleep(1.5)
    assert len(read) == 1
    go_on.set()
    wait_for_parts(outbox, 2)
    stop(sender)
