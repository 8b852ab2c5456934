import base64
from collections.abc import Iterator
from pathlib import Path
from random import randbytes
from typing import Any

import google_crc32c
import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from recording_farm.farm.storage.backend import NOT_READ_BACK, Checkpoint, Part, StorageError
from recording_farm.farm.storage.backends.gcs import GcsBackend, GcsBucket
from testkit.network.faulty_server import faulty_server, refusing_server
from testkit.network.wire import wire_to
from testkit.storage.google_tokens import service_account, token_server
from testkit.storage.parts import MEBIBYTE, parts_of_content, put_in_parts, send_all

KEY = "a/film 1&ü.mp4"
SIZES = (5 * MEBIBYTE + 7, 5 * MEBIBYTE)


@pytest.fixture
def bucket(gcs_port: int) -> Iterator[Any]:
    where = {"api_endpoint": endpoint(gcs_port)}
    with Client("tests", AnonymousCredentials(), client_options=where) as client:
        yield client.create_bucket("films")
    assert httpx.get(f"{endpoint(gcs_port)}/wipe").is_success


@pytest.fixture(scope="module")
def content() -> bytes:
    return randbytes(11 * MEBIBYTE)


def endpoint(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def place(port: int, bucket: str = "films") -> GcsBackend:
    return GcsBackend(GcsBucket(bucket, None, endpoint(port)))


def test_parts_should_make_the_file_in_the_order_of_their_numbers(
    gcs_port: int, bucket: Any, content: bytes
) -> None:
    with token_server(accepts=True) as tokens:
        films = GcsBackend(GcsBucket("films", service_account(), endpoint(gcs_port), tokens))
        begun = films.begin_parts(KEY, "video/mp4")
        # Other processes send the parts.
        sent = send_all(place(gcs_port), KEY, begun, parts_of_content(content, SIZES))
        assert list(bucket.list_blobs()) == []
        for _ in range(2):  # the answer to the first was lost
            placed = films.finish_parts(KEY, begun, sent)
            assert (placed.location, placed.size) == (f"gs://films/{KEY}", len(content))
            assert placed.note is None
    blob = bucket.get_blob(KEY)
    assert blob.download_as_bytes() == content
    assert blob.content_type == "video/mp4"
    assert blob.crc32c == base64.b64encode(google_crc32c.Checksum(content).digest()).decode()


def test_part_that_is_sent_again_should_replace_the_first(gcs_port: int, bucket: Any, content: bytes) -> None:
    films = place(gcs_port)
    begun = films.begin_parts(KEY, "video/mp4")
    parts = parts_of_content(content, SIZES)
    films.send_part(KEY, begun, parts[1][0], randbytes(SIZES[1]))
    films.send_part(KEY, begun, Part(9000, 0, 4), b"none")
    sent = send_all(films, KEY, begun, parts)
    films.finish_parts(KEY, begun, sent)
    assert bucket.get_blob(KEY).download_as_bytes() == content


def test_upload_that_is_gone_should_be_said(gcs_port: int, bucket: Any, content: bytes) -> None:
    bucket.blob(KEY).upload_from_string(b"the file of before")
    films = place(gcs_port)
    begun = films.begin_parts(KEY, "video/mp4")
    parts = parts_of_content(content, SIZES)
    sent = send_all(films, KEY, begun, parts)
    for _ in range(2):
        films.abort_parts(KEY, begun)
    for act in (lambda: films.send_part(KEY, begun, *parts[0]), lambda: films.finish_parts(KEY, begun, sent)):
        with pytest.raises(StorageError) as raised:
            act()
        assert raised.value.reason == "upload_gone"
    assert bucket.get_blob(KEY).download_as_bytes() == b"the file of before"


@pytest.mark.usefixtures("bucket")
def test_part_that_somebody_else_replaced_should_make_no_file(gcs_port: int, content: bytes) -> None:
    films = place(gcs_port)
    begun = films.begin_parts(KEY, "video/mp4")
    parts = parts_of_content(content, SIZES)
    sent = send_all(films, KEY, begun, parts)
    films.send_part(KEY, begun, parts[1][0], randbytes(SIZES[1]))
    with pytest.raises(StorageError) as raised:
        films.finish_parts(KEY, begun, sent)
    assert raised.value.reason == "upload_gone"


@pytest.mark.usefixtures("bucket")
def test_bytes_that_change_on_their_way_should_be_refused(gcs_port: int) -> None:
    with wire_to(gcs_port) as wire:
        films = place(wire.port)
        begun = films.begin_parts(KEY, "video/mp4")
        wire.mend()
        wire.damage_at(MEBIBYTE)
        with pytest.raises(StorageError) as raised:
            films.send_part(KEY, begun, Part(1, 0, 2 * MEBIBYTE), randbytes(2 * MEBIBYTE))
    assert (raised.value.reason, raised.value.lasting) == ("damaged", False)


def test_key_that_may_not_read_should_finish_with_a_note(gcs_port: int, bucket: Any, content: bytes) -> None:
    with refusing_server(gcs_port, lambda method, _: method == "GET") as port:
        placed = put_in_parts(place(port), KEY, content, SIZES)
    assert placed.note == NOT_READ_BACK
    assert bucket.get_blob(KEY).size == len(content)


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("status", [403, 501])
def test_server_or_key_without_multipart_uploads_should_be_said(gcs_port: int, status: int) -> None:
    with (
        faulty_server(gcs_port, lambda _: (status, "AccessDenied")) as port,
        pytest.raises(StorageError) as raised,
    ):
        place(port).begin_parts(KEY, "video/mp4")
    assert raised.value.reason == "no_parts"


def test_missing_bucket_should_be_said(gcs_port: int) -> None:
    with pytest.raises(StorageError, match="no bucket nothere") as raised:
        place(gcs_port, "nothere").begin_parts(KEY, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("no_bucket", True)


def test_server_that_fails_should_be_tried_again(gcs_port: int, bucket: Any, content: bytes) -> None:
    films = place(gcs_port)
    begun = films.begin_parts(KEY, "video/mp4")
    sent = send_all(films, KEY, begun, parts_of_content(content, SIZES))
    with faulty_server(gcs_port, lambda _: (503, "ServiceUnavailable")) as port:
        with pytest.raises(StorageError, match="503") as raised:
            place(port).finish_parts(KEY, begun, sent)
        assert (raised.value.reason, raised.value.lasting) == ("failed", False)
    films.finish_parts(KEY, begun, sent)
    assert bucket.get_blob(KEY).size == len(content)


def test_whole_file_should_be_uploaded_after_parts_of_it(
    gcs_port: int, bucket: Any, film: Path, checkpoint: Checkpoint
) -> None:
    films = place(gcs_port)
    begun = films.begin_parts(KEY, "video/mp4")
    films.send_part(KEY, begun, Part(2, 0, 4), b"body")
    films.upload(film, KEY, checkpoint, "video/mp4")
    films.abort_parts(KEY, begun)
    assert bucket.get_blob(KEY).size == film.stat().st_size
