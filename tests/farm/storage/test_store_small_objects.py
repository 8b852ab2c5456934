"""Small objects of the farm's own store, in each kind of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient

from recording_farm.farm.storage.backend import StorageError, StoreBackend
from recording_farm.farm.storage.backends import answers
from recording_farm.farm.storage.backends import s3 as s3_module
from recording_farm.farm.storage.backends.azure import AzureBackend, AzureContainer
from recording_farm.farm.storage.backends.directory import DirectoryBackend
from recording_farm.farm.storage.backends.encrypted_directory import EncryptedDirectoryBackend
from recording_farm.farm.storage.backends.s3 import S3Backend
from recording_farm.farm.storage.backends.s3_client import S3Bucket
from testkit.storage.azure_account import connection_string
from testkit.storage.buckets import bucket_at
from testkit.storage.servers import S3_KEY, S3_SECRET

DATA = bytes(range(256)) * 300


@contextmanager
def azure_store(port: int) -> Iterator[StoreBackend]:
    with BlobServiceClient.from_connection_string(connection_string(port)) as service:
        container = service.create_container("pieces")
        yield AzureBackend(AzureContainer("pieces", connection_string(port)), tries=1)
        container.delete_container()


@contextmanager
def s3_store(endpoint: str) -> Iterator[StoreBackend]:
    with bucket_at(endpoint, "pieces"):
        yield S3Backend(S3Bucket("pieces", S3_KEY, S3_SECRET, "us-east-1", endpoint), tries=1)


@pytest.fixture(params=["directory", "encrypted", "moto", "rclone", "azurite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreBackend]:
    match request.param:
        case "directory":
            yield DirectoryBackend(tmp_path / "store")
        case "encrypted":
            yield EncryptedDirectoryBackend(tmp_path / "store", b"the farm's secret")
        case "azurite":
            with azure_store(request.getfixturevalue("azurite_port")) as azure:
                yield azure
        case _:
            fixture = {"moto": "s3_endpoint", "rclone": "strict_s3_endpoint"}[request.param]
            with s3_store(request.getfixturevalue(fixture)) as s3:
                yield s3


def test_small_objects_should_be_written_read_listed_and_deleted(store: StoreBackend) -> None:
    assert list(store.list_keys(".spool/")) == []
    store.put_bytes(".spool/a/1", b"before")
    for key in (".spool/a/1", ".spool/a/2", ".spool/b/1", "c/film.mp4"):
        store.put_bytes(key, memoryview(DATA))
    store.put_bytes(".spool/a/empty", b"")
    assert store.get_bytes(".spool/a/1", len(DATA)) == DATA
    assert store.get_bytes(".spool/a/empty", 0) == b""
    assert sorted(store.list_keys(".spool/a/")) == [".spool/a/1", ".spool/a/2", ".spool/a/empty"]
    store.delete_many([".spool/a/1", ".spool/a/empty", ".spool/a/gone"])
    assert sorted(store.list_keys(".spool/")) == [".spool/a/2", ".spool/b/1"]
    store.delete_all(".spool/a/")
    store.delete_all(".spool/gone/")
    assert list(store.list_keys(".spool/")) == [".spool/b/1"]
    assert list(store.list_keys("c/")) == ["c/film.mp4"]


def test_object_that_is_missing_or_too_large_should_be_said(store: StoreBackend) -> None:
    store.put_bytes(".spool/a/1", DATA)
    for key, limit, reason in ((".spool/a/2", 10, "not_found"), (".spool/a/1", len(DATA) - 1, "bad_answer")):
        with pytest.raises(StorageError) as raised:
            store.get_bytes(key, limit)
        assert raised.value.reason == reason


@pytest.mark.parametrize("store", ["moto", "azurite"], indirect=True)
def test_list_that_is_read_in_part_should_leave_no_limits_to_its_reader(store: StoreBackend) -> None:
    for key in (".spool/a/1", ".spool/a/2"):
        store.put_bytes(key, b"")
    keys = store.list_keys(".spool/")
    assert next(keys) == ".spool/a/1"
    assert answers._limits.get() is None
    assert next(keys) == ".spool/a/2"


@pytest.mark.parametrize("store", ["moto"], indirect=True)
def test_list_should_have_pages_and_an_end(store: StoreBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_module, "_PAGE_KEYS", 10)
    keys = [f".spool/a/{number:04d}" for number in range(22)]
    for key in keys:
        store.put_bytes(key, b"")
    assert list(store.list_keys(".spool/")) == keys
    monkeypatch.setattr(s3_module, "_MAX_PAGES", 1)
    with pytest.raises(StorageError, match="does not end"):
        list(store.list_keys(".spool/"))
    monkeypatch.undo()
    store.delete_all(".spool/")
    assert list(store.list_keys(".spool/")) == []


def test_files_in_an_encrypted_directory_should_not_be_readable(tmp_path: Path) -> None:
    EncryptedDirectoryBackend(tmp_path, b"the farm's secret").put_bytes(".spool/a/1", DATA)
    stored = (tmp_path / ".spool/a/1").read_bytes()
    assert DATA[:64] not in stored


def test_draft_of_a_killed_writer_should_be_deleted_with_the_rest(tmp_path: Path) -> None:
    store = DirectoryBackend(tmp_path / "store")
    store.put_bytes(".spool/a/1", DATA)
    (tmp_path / "store/.spool/a/.0123456789abcdef-0123456789abcdef.part").write_bytes(DATA)
    assert list(store.list_keys(".spool/")) == [".spool/a/1"]
    store.delete_all(".spool/a/")
    assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.parametrize("key", ["../1", ".spool/../../1", ".spool//1"])
def test_key_that_could_lead_elsewhere_should_be_refused(tmp_path: Path, key: str) -> None:
    store = DirectoryBackend(tmp_path / "store")
    with pytest.raises(StorageError) as raised:
        store.put_bytes(key, b"")
    assert raised.value.reason == "bad_path"
