"""Keys that may write and do nothing else: no look at the file, no list, no deletion."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import boto3
import httpx
import pytest
from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, generate_container_sas
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from recording_farm.farm.jobs.settle import settle
from recording_farm.farm.jobs.transfer_attempt import run_transfer
from recording_farm.farm.live.hls import HlsSpec, customers_put
from recording_farm.farm.recording.model import Status
from recording_farm.farm.recording.transfers import TransferState
from recording_farm.farm.storage.backend import CHECK_NAME, NOT_READ_BACK, Checkpoint, StorageError
from recording_farm.farm.storage.backends import azure as azure_module
from recording_farm.farm.storage.backends import s3 as s3_module
from recording_farm.farm.storage.backends.azure import BLOCK_BYTES
from recording_farm.farm.storage.backends.gcs import CHUNK_BYTES, GcsBackend, GcsBucket
from recording_farm.farm.storage.backends.s3 import PART_BYTES, SINGLE_BYTES
from recording_farm.farm.storage.customer import CustomerStorage, open_backend
from recording_farm.farm.storage.targets import TARGET
from testkit.farm import Farm
from testkit.network.faulty_server import refusing_server
from testkit.network.ports import free_port
from testkit.network.wire import wire_to
from testkit.recordings import new_recording, sealed_target
from testkit.settings import settings_with
from testkit.storage.azure_account import AZURE_ACCOUNT, AZURE_KEY, connection_string
from testkit.storage.drop_box import DropBox, drop_box
from testkit.storage.password_server import PASSWORD, USERNAME
from testkit.storage.servers import S3_KEY, S3_SECRET, running, wait_for_http

MEBIBYTE = 1 << 20


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A file that goes in one request."""
    file = tmp_path / "clip.mp4"
    file.write_bytes(os.urandom(MEBIBYTE))
    assert file.stat().st_size < SINGLE_BYTES
    return file


def s3_place(port: int, **more: Any) -> CustomerStorage:
    fields = {"type": "s3", "endpoint": f"http://127.0.0.1:{port}", "bucket": "drop"}
    return open_backend(
        TARGET.validate_python({**fields, "access_key": S3_KEY, "secret": S3_SECRET, **more}),
        None,
        tries=1,
    )


class _PutOnly(BaseHTTPRequestHandler):
    """Takes everything, checks nothing, and forbids all but PUT."""

    protocol_version = "HTTP/1.1"
    kept: ClassVar[dict[str, bytes]]

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.kept[self.path] = body
        etag = "0" * 32 if self.path.endswith("wrong.mp4") else hashlib.md5(body).hexdigest()
        self.answer(200, b"", {"ETag": f'"{etag}"'})

    def refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer(403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>", {})

    do_GET = do_HEAD = do_DELETE = do_POST = refuse  # noqa: N815 - the library's names

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def put_only_server() -> Iterator[tuple[int, dict[str, bytes]]]:
    """The port of a server with a bucket for write-only keys, and what is in it."""
    kept: dict[str, bytes] = {}
    handler = type("Handler", (_PutOnly,), {"kept": kept})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, kept
        finally:
            server.shutdown()
            thread.join()


def test_file_that_s3_has_acknowledged_should_count_as_arrived(clip: Path, checkpoint: Checkpoint) -> None:
    with put_only_server() as (port, kept):
        placed = s3_place(port).upload(clip, "a/clip.mp4", checkpoint, "video/mp4")
        assert kept["/drop/a/clip.mp4"] == clip.read_bytes()
        assert placed.note == NOT_READ_BACK
        with pytest.raises(StorageError) as raised:
            s3_place(port).upload(clip, "wrong.mp4", checkpoint, "video/mp4")
        assert raised.value.reason == "damaged"


def test_recording_should_be_uploaded_with_a_note_where_its_files_may_not_be_read(
    redis_address: str, farm: Farm, clip: Path, tmp_path: Path
) -> None:
    settings = settings_with(tmp_path / "data", redis_address, allow_private_addresses="127.0.0.0/8")
    with put_only_server() as (port, kept):
        target = {"type": "s3", "endpoint": f"http://127.0.0.1:{port}", "bucket": "drop"}
        target |= {"access_key": "k", "secret": "s"}
        recording = replace(farm, settings=settings).ended(new_recording(), clip, target, keep_copy=False)
        run_transfer(recording.id, "s3", settings, farm.redis)
        settle(recording.id, settings, farm.redis)
    recording = farm.records.get(None, recording.id)
    assert recording.status is Status.UPLOADED
    assert [(each.state, each.note) for each in recording.transfers] == [(TransferState.DONE, NOT_READ_BACK)]
    assert len(kept) == 2


def test_check_where_s3_looks_at_no_checksum_should_leave_one_file_and_say_so() -> None:
    with put_only_server() as (port, kept):
        for _ in range(2):
            notes = s3_place(port).check_writing("films")
            assert [note.partition(",")[0] for note in notes] == [
                "the key may not read",
                "the key may not delete",
            ]
        assert list(kept) == [f"/drop/films/{CHECK_NAME}"]


@pytest.fixture(scope="module")
def versioned_bucket(s3_endpoint: str) -> Iterator[Any]:
    session = boto3.session.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
    bucket = session.resource("s3", endpoint_url=s3_endpoint).Bucket("drop")
    bucket.create(ObjectLockEnabledForBucket=True)
    yield bucket
    for version in bucket.object_versions.all():
        version.delete()
    bucket.delete()


def reads_or_deletes(method: str, path: str) -> bool:
    """What is asked for besides writing; `list-type` and so on are GETs too."""
    return method in {"GET", "HEAD", "DELETE"} or "?delete" in path


def test_parts_that_s3_has_acknowledged_should_not_be_sent_again_though_nobody_may_list_them(
    s3_endpoint: str,
    versioned_bucket: Any,
    film: Path,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3_module, "THREADS", 1)
    with (
        refusing_server(int(s3_endpoint.rpartition(":")[2]), reads_or_deletes) as refusing,
        wire_to(refusing) as wire,
    ):
        wire.cut_after(PART_BYTES + 4 * MEBIBYTE)
        with pytest.raises(StorageError) as raised:
            s3_place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
        assert raised.value.reason in {"unreachable", "timed_out"}
        wire.mend()
        placed = s3_place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
        assert placed.note == NOT_READ_BACK
        assert wire.passed < film.stat().st_size - PART_BYTES + MEBIBYTE
        body = versioned_bucket.Object("film.mp4").get()["Body"]
        assert body.read() == film.read_bytes()
        body.close()


@pytest.fixture
def strict_bucket(strict_s3_endpoint: str) -> Iterator[Any]:
    session = boto3.session.Session(S3_KEY, S3_SECRET, region_name="us-east-1")
    bucket = session.resource("s3", endpoint_url=strict_s3_endpoint).Bucket("drop")
    bucket.create()
    yield bucket
    bucket.objects.delete()
    bucket.delete()


def test_upload_that_s3_has_forgotten_should_start_over(
    strict_s3_endpoint: str, strict_bucket: Any, film: Path, checkpoint: Checkpoint
) -> None:
    state = {"upload_id": "gone", "etag_is_md5": True, "parts": {"1": [PART_BYTES, "0" * 32]}}
    checkpoint.save(film, "again.mp4", state)
    with refusing_server(int(strict_s3_endpoint.rpartition(":")[2]), reads_or_deletes) as port:
        with pytest.raises(StorageError) as raised:
            s3_place(port).upload(film, "again.mp4", checkpoint, "video/mp4")
        assert not raised.value.lasting
        s3_place(port).upload(film, "again.mp4", checkpoint, "video/mp4")
    assert strict_bucket.Object("again.mp4").content_length == film.stat().st_size


def test_check_where_s3_looks_at_checksums_should_leave_nothing(
    strict_s3_endpoint: str, strict_bucket: Any
) -> None:
    with refusing_server(int(strict_s3_endpoint.rpartition(":")[2]), reads_or_deletes) as port:
        assert s3_place(port).check_writing() == []
    assert list(strict_bucket.objects.all()) == []


def test_check_of_a_key_that_may_not_even_write_should_say_so(strict_s3_endpoint: str) -> None:
    with refusing_server(int(strict_s3_endpoint.rpartition(":")[2]), lambda *_: True) as port:
        with pytest.raises(StorageError) as raised:
            s3_place(port).check_writing()
        assert raised.value.reason == "no_permission"


@pytest.fixture(scope="module")
def drop_container(azurite_port: int) -> Iterator[Any]:
    with BlobServiceClient.from_connection_string(connection_string(azurite_port)) as service:
        container = service.create_container("drop")
        yield container
        container.delete_container()


def azure_place(port: int, permissions: str, *, as_url: bool = False, hours: int = 1) -> CustomerStorage:
    signature = generate_container_sas(
        AZURE_ACCOUNT,
        "drop",
        account_key=AZURE_KEY,
        permission=ContainerSasPermissions.from_string(permissions),
        start=datetime.now(UTC) - timedelta(hours=9),
        expiry=datetime.now(UTC) + timedelta(hours=hours),
    )
    address = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
    given = f"BlobEndpoint={address};SharedAccessSignature={signature}"
    if as_url:
        given = f"{address}/drop?{signature}"
    target = TARGET.validate_python({"type": "azure", "bucket": "drop", "access_key": given})
    return open_backend(target, None, tries=1)


@pytest.mark.parametrize("permissions", ["w", "c", "cw"])
def test_blob_that_azure_has_acknowledged_should_count_as_arrived(
    azurite_port: int, drop_container: Any, film: Path, checkpoint: Checkpoint, permissions: str
) -> None:
    place = azure_place(azurite_port, permissions, as_url=permissions == "c")
    assert place.check_writing("a") == []
    placed = place.upload(film, f"{permissions}/film.mp4", checkpoint, "video/mp4")
    assert placed.note == NOT_READ_BACK
    names = [blob.name for blob in drop_container.list_blobs()]
    assert f"{permissions}/film.mp4" in names
    assert not any(CHECK_NAME in name for name in names)
    blob = drop_container.get_blob_client(f"{permissions}/film.mp4")
    assert blob.download_blob().readall() == film.read_bytes()
    settings = blob.get_blob_properties().content_settings
    assert (settings.content_type, bytes(settings.content_md5)) == (
        "video/mp4",
        hashlib.md5(film.read_bytes()).digest(),
    )


def test_key_that_may_read_should_have_blobs_read_back(
    azurite_port: int, drop_container: Any, film: Path, checkpoint: Checkpoint
) -> None:
    placed = azure_place(azurite_port, "rw").upload(film, "read.mp4", checkpoint, "video/mp4")
    assert placed.note is None
    assert drop_container.get_blob_client("read.mp4").exists()


def test_blocks_that_azure_has_acknowledged_should_not_be_sent_again_though_nobody_may_list_them(
    azurite_port: int,
    drop_container: Any,
    film: Path,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(azure_module, "THREADS", 1)
    with wire_to(azurite_port) as wire:
        place = azure_place(wire.port, "w")
        wire.cut_after(BLOCK_BYTES + 3 * MEBIBYTE)
        with pytest.raises(StorageError):
            place.upload(film, "broken.mp4", checkpoint, "video/mp4")
        wire.mend()
        place.upload(film, "broken.mp4", checkpoint, "video/mp4")
        assert wire.passed < film.stat().st_size - BLOCK_BYTES // 2
    blob = drop_container.get_blob_client("broken.mp4")
    assert blob.download_blob().readall() == film.read_bytes()


@pytest.mark.usefixtures("drop_container")
def test_signature_that_has_expired_should_be_distinguished_from_a_missing_permission(
    azurite_port: int, clip: Path, checkpoint: Checkpoint
) -> None:
    with pytest.raises(StorageError, match="have expired; upload again with new ones") as raised:
        azure_place(azurite_port, "w", hours=-1).upload(clip, "late.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.final) == ("expired_credentials", True)
    with pytest.raises(StorageError) as raised:
        azure_place(azurite_port, "r").upload(clip, "late.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.final) == ("no_permission", False)


def test_blob_whose_answer_was_lost_should_count_where_nothing_may_be_replaced(
    clip: Path, checkpoint: Checkpoint
) -> None:
    class CreateOnly(_PutOnly):
        kept: ClassVar[dict[str, bytes]] = {}

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            name = self.path.partition("?")[0]
            if name not in self.kept:
                self.kept[name] = body
                self.close_connection = True  # without a word
                return
            self.send_response(403)
            self.send_header("x-ms-error-code", "UnauthorizedBlobOverwrite")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), CreateOnly) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            place = azure_place(server.server_port, "c")
            with pytest.raises(StorageError) as raised:
                place.upload(clip, "clip.mp4", checkpoint, "video/mp4")
            assert raised.value.reason == "unreachable"
            assert place.upload(clip, "clip.mp4", checkpoint, "video/mp4").note == NOT_READ_BACK
            # One that is there from elsewhere is another thing.
            with pytest.raises(StorageError) as raised:
                place.upload(clip, "clip.mp4", checkpoint, "video/mp4")
            assert raised.value.reason == "no_permission"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def gcs_bucket(gcs_port: int) -> Iterator[Any]:
    endpoint = f"http://127.0.0.1:{gcs_port}"
    with Client("tests", AnonymousCredentials(), client_options={"api_endpoint": endpoint}) as client:
        yield client.create_bucket("drop")
        client._http.get(f"{endpoint}/wipe")


def test_object_that_google_has_acknowledged_should_count_as_arrived(
    gcs_port: int, gcs_bucket: Any, film: Path, checkpoint: Checkpoint
) -> None:
    with refusing_server(gcs_port, reads_or_deletes) as refusing, wire_to(refusing) as wire:
        place = GcsBackend(GcsBucket("drop", None, f"http://127.0.0.1:{wire.port}"))
        assert place.check_writing("a") == []
        wire.mend()
        wire.cut_after(CHUNK_BYTES + MEBIBYTE)
        with pytest.raises(StorageError):
            place.upload(film, "film.mp4", checkpoint, "video/mp4")
        wire.mend()
        placed = place.upload(film, "film.mp4", checkpoint, "video/mp4")
        assert placed.note == NOT_READ_BACK
    assert [blob.name for blob in gcs_bucket.list_blobs()] == ["film.mp4"]
    assert gcs_bucket.blob("film.mp4").download_as_bytes() == film.read_bytes()


def sftp_place(port: int, path: str = "") -> CustomerStorage:
    target = TARGET.validate_python(
        {"type": "sftp", "host": "127.0.0.1", "port": port, "username": USERNAME, "path": path}
        | {"auth_method": "PASSWORD", "password": PASSWORD}
    )
    return open_backend(target, None)


BOXES = {
    "nothing is read": DropBox(),
    "nor looked at": DropBox(stat=False),
    "nor renamed": DropBox(stat=False, rename=False, remove=False, mkdir=False),
    "renamed plainly": DropBox(posix_rename=False),
}


@pytest.mark.parametrize("box", BOXES.values(), ids=list(BOXES))
def test_file_that_a_drop_box_has_acknowledged_should_count_as_arrived(
    tmp_path: Path, film: Path, checkpoint: Checkpoint, box: DropBox
) -> None:
    root = tmp_path / "box"
    (root / "in").mkdir(parents=True)
    with drop_box(root, box) as port:
        placed = sftp_place(port, "in").upload(film, "in/film.mp4", checkpoint, "video/mp4")
    assert placed.note == NOT_READ_BACK
    assert (root / "in/film.mp4").read_bytes() == film.read_bytes()
    left = {file.name for file in (root / "in").iterdir()} - {"film.mp4"}
    assert left == (set() if box.remove else {".film.mp4.part"})
    assert all((root / "in" / name).stat().st_size == 0 for name in left)


def test_broken_upload_into_a_drop_box_should_start_over(
    tmp_path: Path, film: Path, checkpoint: Checkpoint
) -> None:
    root = tmp_path / "box"
    root.mkdir()
    with drop_box(root, DropBox()) as port, wire_to(port) as wire:
        wire.cut_after(9 * MEBIBYTE)
        with pytest.raises(StorageError):
            sftp_place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
        wire.mend()
        sftp_place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (root / "film.mp4").read_bytes() == film.read_bytes()


def test_drop_box_that_keeps_less_than_it_acknowledges_should_be_noticed_by_the_size(
    tmp_path: Path, film: Path, checkpoint: Checkpoint
) -> None:
    root = tmp_path / "box"
    root.mkdir()
    with drop_box(root, DropBox(keeps=5 * MEBIBYTE)) as port, pytest.raises(StorageError) as raised:
        sftp_place(port).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert raised.value.reason == "damaged"


@pytest.mark.parametrize(("remove", "left"), [(True, []), (False, [CHECK_NAME])])
def test_check_of_a_drop_box_should_leave_one_file_at_most(
    tmp_path: Path, remove: bool, left: list[str]
) -> None:
    with drop_box(tmp_path, DropBox(remove=remove)) as port:
        for _ in range(2):
            notes = sftp_place(port).check_writing()
    assert [note.partition(",")[0] for note in notes] == [
        "the user may not read",
        *["the key may not delete"] * (not remove),
    ]
    assert [file.name for file in tmp_path.iterdir()] == left


def test_directory_that_a_check_could_not_remove_should_be_reported(tmp_path: Path) -> None:
    with drop_box(tmp_path, DropBox()) as port:
        notes = sftp_place(port).check_writing("in/today")
    assert notes[-1] == "the check's directory in/today stays there"
    assert [file.name for file in tmp_path.rglob("*")] == ["in", "today"]


@pytest.fixture(scope="module")
def iam_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, dict[str, str]]]:
    """An S3 server that looks at policies, and temporary credentials of a role that may put and no more."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, tmp_path_factory.mktemp("iam") / "log") as server:
        endpoint = f"http://127.0.0.1:{port}"
        wait_for_http(endpoint, server)
        session = boto3.session.Session("a", "b", region_name="us-east-1")
        session.client("s3", endpoint_url=endpoint).create_bucket(Bucket="drop")
        iam = session.client("iam", endpoint_url=endpoint)
        anybody = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
        role = iam.create_role(RoleName="put", AssumeRolePolicyDocument=json.dumps({"Statement": [anybody]}))
        put = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::drop/*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [put]})
        iam.put_role_policy(RoleName="put", PolicyName="put", PolicyDocument=policy)
        sts = session.client("sts", endpoint_url=endpoint)
        given = sts.assume_role(RoleArn=role["Role"]["Arn"], RoleSessionName="put")["Credentials"]
        httpx.post(f"{endpoint}/moto-api/reset-auth", content=b"0").raise_for_status()
        yield (
            port,
            {
                "access_key": given["AccessKeyId"],
                "secret": given["SecretAccessKey"],
                "session_token": given["SessionToken"],
            },
        )


def test_temporary_credentials_of_a_role_that_may_put_should_do(
    iam_s3: tuple[int, dict[str, str]], clip: Path, checkpoint: Checkpoint
) -> None:
    port, given = iam_s3
    placed = s3_place(port, **given).upload(clip, "clip.mp4", checkpoint, "video/mp4")
    assert placed.note == NOT_READ_BACK
    with pytest.raises(StorageError) as raised:
        s3_place(port, **given | {"session_token": "another"}).upload(clip, "c.mp4", checkpoint, "video/mp4")
    assert raised.value.reason == "wrong_key"


def test_credentials_that_have_expired_should_be_distinguished_from_a_missing_permission(
    clip: Path, checkpoint: Checkpoint
) -> None:
    class Expired(_PutOnly):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(400, b"<Error><Code>ExpiredToken</Code><Message>no</Message></Error>", {})

    with ThreadingHTTPServer(("127.0.0.1", 0), Expired) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            place = s3_place(server.server_port, session_token="t")
            for act in (place.check_writing, lambda: place.upload(clip, "c", checkpoint, "video/mp4")):
                with pytest.raises(StorageError, match="credentials have expired") as raised:
                    act()
                assert (raised.value.reason, raised.value.final) == ("expired_credentials", True)
        finally:
            server.shutdown()
            thread.join()


def test_live_output_should_go_on_with_new_keys_once_the_old_ones_have_expired(
    redis_address: str, farm: Farm, clip: Path, tmp_path: Path
) -> None:
    class Expired(_PutOnly):
        kept: ClassVar[dict[str, bytes]] = {}

        def do_PUT(self) -> None:
            if "Credential=new/" in self.headers["Authorization"]:
                super().do_PUT()
                return
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(400, b"<Error><Code>ExpiredToken</Code><Message>no</Message></Error>", {})

    settings = settings_with(tmp_path / "data", redis_address, allow_private_addresses="127.0.0.0/8")
    with ThreadingHTTPServer(("127.0.0.1", 0), Expired) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            old = {"type": "s3", "bucket": "drop", "access_key": "old", "secret": "s", "session_token": "t"}
            old |= {"endpoint": f"http://127.0.0.1:{server.server_port}"}
            recording = farm.records.add(
                new_recording(), target=sealed_target(settings, new_recording(), old)
            )
            order = HlsSpec("", 30, False, str(tmp_path), "live", 4, transfer="s3")
            put = customers_put(recording, TARGET.validate_python(old), order, settings)
            with pytest.raises(StorageError, match="have expired"):
                put(clip)
            name, sealed = sealed_target(settings, recording, old | {"access_key": "new"})
            farm.records.keep_sealed(recording.id, name, sealed)
            with pytest.raises(StorageError, match="have expired"):
                put(clip)
            put(clip)
        finally:
            server.shutdown()
            thread.join()
    assert list(Expired.kept) == ["/drop/clip.mp4"]


def test_access_token_of_google_should_be_sent_and_its_end_be_reported(
    clip: Path, checkpoint: Checkpoint
) -> None:
    seen = []

    class Google(_PutOnly):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append(self.headers["Authorization"])
            self.answer(401, b'{"error": {"code": 401}}', {})

    with ThreadingHTTPServer(("127.0.0.1", 0), Google) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            endpoint = f"http://127.0.0.1:{server.server_port}"
            place = GcsBackend(GcsBucket("drop", "ya29.token", endpoint))
            with pytest.raises(StorageError, match="access token have expired") as raised:
                place.upload(clip, "clip.mp4", checkpoint, "video/mp4")
        finally:
            server.shutdown()
            thread.join()
    assert (raised.value.reason, seen[0]) == ("expired_credentials", "Bearer ya29.token")
