from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import randbytes
from typing import Any

import pytest
from azure.storage.blob import (
    BlobServiceClient,
    ContainerClient,
    ContainerSasPermissions,
    generate_container_sas,
)

from recording_farm.farm.storage.backend import NOT_READ_BACK, Checkpoint, Part, StorageError
from recording_farm.farm.storage.backends.azure import AzureBackend, AzureContainer
from testkit.network.wire import wire_to
from testkit.storage.azure_account import AZURE_ACCOUNT, AZURE_KEY, connection_string
from testkit.storage.parts import MEBIBYTE, parts_of_content, put_in_parts, send_all

KEY = "a/film 1.mp4"
SIZES = (MEBIBYTE + 7, MEBIBYTE, 5)


@pytest.fixture
def container(azurite_port: int) -> Iterator[ContainerClient]:
    with BlobServiceClient.from_connection_string(connection_string(azurite_port)) as service:
        container = service.create_container("films")
        yield container
        container.delete_container()


@pytest.fixture(scope="module")
def content() -> bytes:
    return randbytes(3 * MEBIBYTE)


def place(port: int) -> AzureBackend:
    return AzureBackend(AzureContainer("films", connection_string(port)), tries=1)


def place_with(port: int, **permissions: Any) -> AzureBackend:
    """The container for a key that has only these permissions."""
    signature = generate_container_sas(
        AZURE_ACCOUNT,
        "films",
        account_key=AZURE_KEY,
        permission=ContainerSasPermissions(**permissions),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    text = f"BlobEndpoint=http://127.0.0.1:{port}/{AZURE_ACCOUNT};SharedAccessSignature={signature}"
    return AzureBackend(AzureContainer("films", text), tries=1)


def uncommitted(container: ContainerClient) -> list[str]:
    names = container.list_blobs(include=["uncommittedblobs"])
    return [blob.name for blob in names if not container.get_blob_client(blob.name).exists()]


def test_parts_should_make_the_file_in_the_order_of_their_numbers(
    azurite_port: int, container: ContainerClient, content: bytes
) -> None:
    films = place(azurite_port)
    begun = films.begin_parts(KEY, "video/mp4")
    # Other processes send the parts.
    sent = send_all(place(azurite_port), KEY, begun, parts_of_content(content, SIZES))
    assert list(container.list_blobs()) == []
    for _ in range(2):  # the answer to the first was lost
        placed = films.finish_parts(KEY, begun, sent)
        assert (placed.location, placed.size) == (f"azure://films/{KEY}", len(content))
        assert placed.note is None
    blob = container.get_blob_client(KEY)
    assert blob.download_blob().readall() == content
    assert blob.get_blob_properties().content_settings.content_type == "video/mp4"
    assert blob.get_block_list("uncommitted")[1] == []


def test_empty_parts_should_make_an_empty_file(azurite_port: int, container: ContainerClient) -> None:
    put_in_parts(place(azurite_port), KEY, b"", ())
    assert container.download_blob(KEY).readall() == b""


def test_part_that_is_sent_again_should_replace_the_first(
    azurite_port: int, container: ContainerClient, content: bytes
) -> None:
    films = place(azurite_port)
    begun = films.begin_parts(KEY, "video/mp4")
    parts = parts_of_content(content, SIZES)
    films.send_part(KEY, begun, parts[1][0], randbytes(SIZES[1]))
    sent = send_all(films, KEY, begun, parts)
    # Neither this one that somebody else sends nor this one, which is in no list, is in the file.
    films.send_part(KEY, begun, parts[1][0], randbytes(SIZES[1]))
    films.send_part(KEY, begun, Part(9000, 0, 4), b"none")
    films.finish_parts(KEY, begun, sent)
    assert container.download_blob(KEY).readall() == content


def test_blocks_that_another_write_dropped_should_be_said(
    azurite_port: int, container: ContainerClient, content: bytes, film: Path, checkpoint: Checkpoint
) -> None:
    films = place(azurite_port)
    begun = films.begin_parts(KEY, "video/mp4")
    sent = send_all(films, KEY, begun, parts_of_content(content, SIZES))
    films.upload(film, KEY, checkpoint, "video/mp4")
    with pytest.raises(StorageError) as raised:
        films.finish_parts(KEY, begun, sent)
    assert raised.value.reason == "upload_gone"
    films.abort_parts(KEY, begun)
    assert container.download_blob(KEY).readall() == film.read_bytes()


def test_unfinished_uploads_should_be_found_and_dropped(
    azurite_port: int, container: ContainerClient
) -> None:
    films = place(azurite_port)
    container.upload_blob("a/there.mp4", b"")
    assert list(films.unfinished_parts("")) == []
    for key in ("a/1.mp4", "a/2.mp4", "b/1.mp4"):
        films.send_part(key, films.begin_parts(key, "video/mp4"), Part(2, 0, 4), b"body")
    found = list(films.unfinished_parts("a/"))
    assert sorted(each.key for each in found) == ["a/1.mp4", "a/2.mp4"]
    for each in found:
        assert abs(each.began - datetime.now(UTC)) < timedelta(minutes=1)
        for _ in range(2):
            films.abort_parts(each.key, each.begun)
    assert [each.key for each in films.unfinished_parts("")] == ["b/1.mp4"]
    assert uncommitted(container) == ["b/1.mp4"]
    assert [blob.name for blob in container.list_blobs()] == ["a/there.mp4"]


def test_upload_of_another_writer_should_survive_the_end_of_the_first(
    azurite_port: int, container: ContainerClient, content: bytes
) -> None:
    films = place(azurite_port)
    first = films.begin_parts(KEY, "video/mp4")
    second = films.begin_parts(KEY, "video/mp4")
    sent = send_all(films, KEY, second, parts_of_content(content, SIZES))
    films.abort_parts(KEY, first)
    films.finish_parts(KEY, second, sent)
    films.abort_parts(KEY, first)
    assert container.download_blob(KEY).readall() == content


def test_key_that_may_only_write_should_finish_with_a_note_and_leave_blocks_to_expire(
    azurite_port: int, container: ContainerClient, content: bytes
) -> None:
    films = place_with(azurite_port, create=True, write=True)
    assert put_in_parts(films, KEY, content, SIZES).note == NOT_READ_BACK
    assert container.download_blob(KEY).readall() == content
    begun = films.begin_parts("left.mp4", "video/mp4")
    films.abort_parts("left.mp4", begun)
    assert uncommitted(container) == ["left.mp4"]


@pytest.mark.usefixtures("container")
def test_key_that_may_only_create_should_get_no_parts(azurite_port: int) -> None:
    with pytest.raises(StorageError) as raised:
        place_with(azurite_port, create=True).begin_parts(KEY, "video/mp4")
    assert raised.value.reason == "no_parts"


def test_missing_container_should_be_said(azurite_port: int) -> None:
    with pytest.raises(StorageError) as raised:
        place(azurite_port).begin_parts(KEY, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("no_bucket", True)


@pytest.mark.usefixtures("container")
def test_bytes_that_change_on_their_way_should_be_refused(azurite_port: int) -> None:
    with wire_to(azurite_port) as wire:
        films = place(wire.port)
        begun = films.begin_parts(KEY, "video/mp4")
        wire.mend()
        wire.damage_at(MEBIBYTE)
        with pytest.raises(StorageError) as raised:
            films.send_part(KEY, begun, Part(1, 0, 2 * MEBIBYTE), randbytes(2 * MEBIBYTE))
        # Azurite says InvalidOperation where Azure says Md5Mismatch.
        assert raised.value.reason in {"damaged", "failed"}
