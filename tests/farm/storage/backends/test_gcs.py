import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from recording_farm.farm.storage.backend import Checkpoint, StorageError
from recording_farm.farm.storage.backends.gcs import CHUNK_BYTES, GcsBackend, GcsBucket
from testkit.machine.memory import watched_memory
from testkit.network.wire import Wire, wire_to
from testkit.storage.google_tokens import service_account, token_server

MEBIBYTE = 1 << 20


@pytest.fixture
def bucket(gcs_port: int) -> Iterator[Any]:
    with Client(
        "tests", AnonymousCredentials(), client_options={"api_endpoint": endpoint(gcs_port)}
    ) as client:
        yield client.create_bucket("films")
    # The server deletes no bucket in which an upload was begun.
    assert httpx.get(f"{endpoint(gcs_port)}/wipe").is_success


@pytest.fixture
def wire(gcs_port: int) -> Iterator[Wire]:
    with wire_to(gcs_port) as wire:
        yield wire


def endpoint(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def place(port: int, bucket: str = "films") -> GcsBackend:
    return GcsBackend(GcsBucket(bucket, None, endpoint(port)))


def impatient_place(port: int) -> GcsBackend:
    """The bucket for a client whose tries a silent server can hold up for two seconds."""
    return GcsBackend(GcsBucket("films", None, endpoint(port)), connect_timeout=2, read_timeout=2)


def test_file_should_arrive_whole_with_its_type(
    gcs_port: int, bucket: Any, film: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    placed = place(gcs_port).upload(film, "a/film 1.mp4", checkpoint, "video/mp4")
    assert (placed.location, placed.size) == ("gs://films/a/film 1.mp4", film.stat().st_size)
    blob = bucket.get_blob("a/film 1.mp4")
    assert blob.download_as_bytes() == film.read_bytes()
    assert blob.content_type == "video/mp4"
    assert blob.md5_hash == b64encode(hashlib.md5(film.read_bytes()).digest()).decode()
    assert not (tmp_path / "checkpoint.json").exists()


def test_empty_file_should_arrive(gcs_port: int, bucket: Any, tmp_path: Path, checkpoint: Checkpoint) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert place(gcs_port).upload(empty, "empty", checkpoint, "text/plain").size == 0
    assert bucket.get_blob("empty").size == 0


def test_broken_upload_should_go_on_where_it_was(
    wire: Wire, bucket: Any, film: Path, checkpoint: Checkpoint
) -> None:
    wire.cut_after(CHUNK_BYTES + MEBIBYTE)
    with pytest.raises(StorageError) as raised:
        place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("unreachable", False)
    wire.mend()
    place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert wire.passed < film.stat().st_size - CHUNK_BYTES + MEBIBYTE
    assert bucket.get_blob("film.mp4").download_as_bytes() == film.read_bytes()


@pytest.mark.usefixtures("bucket")
def test_upload_whose_last_answer_was_lost_should_not_be_sent_again(
    wire: Wire, film: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "clear", lambda: None)
    place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    wire.mend()
    assert place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4").size == film.stat().st_size
    assert wire.passed < MEBIBYTE


def test_upload_that_the_server_has_forgotten_should_start_over(
    gcs_port: int, bucket: Any, film: Path, checkpoint: Checkpoint
) -> None:
    forgotten = f"{endpoint(gcs_port)}/upload/storage/v1/b/films/o?uploadType=resumable&upload_id=gone"
    checkpoint.save(film, "film.mp4", {"session": forgotten})
    place(gcs_port).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert bucket.get_blob("film.mp4").download_as_bytes() == film.read_bytes()


def test_file_that_changed_should_be_sent_again(
    wire: Wire, bucket: Any, film: Path, checkpoint: Checkpoint
) -> None:
    wire.cut_after(CHUNK_BYTES + MEBIBYTE)
    with pytest.raises(StorageError):
        place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    wire.mend()
    film.write_bytes(b"another film")
    place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert bucket.get_blob("film.mp4").download_as_bytes() == b"another film"


def test_bytes_that_change_on_their_way_should_be_refused_and_sent_again(
    wire: Wire, bucket: Any, film: Path, checkpoint: Checkpoint
) -> None:
    wire.damage_at(5 * MEBIBYTE)
    with pytest.raises(StorageError, match="damaged in transit") as raised:
        place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("damaged", False)
    assert bucket.get_blob("film.mp4") is None
    wire.mend()
    place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert bucket.get_blob("film.mp4").download_as_bytes() == film.read_bytes()


def test_other_file_that_comes_in_between_should_be_noticed(
    gcs_port: int, bucket: Any, film: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = place(gcs_port)
    send = films._send

    def send_and_replace(*arguments: Any) -> None:
        send(*arguments)
        bucket.blob("film.mp4").upload_from_string(b"x" * film.stat().st_size)

    monkeypatch.setattr(films, "_send", send_and_replace)
    with pytest.raises(StorageError, match="damaged in transit") as raised:
        films.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert raised.value.reason == "damaged"


@pytest.mark.usefixtures("bucket")
def test_link_should_give_the_file_to_whoever_has_it(
    gcs_port: int, film: Path, checkpoint: Checkpoint
) -> None:
    with token_server(accepts=True) as tokens:
        films = GcsBackend(GcsBucket("films", service_account(), endpoint(gcs_port), tokens))
        films.upload(film, "a/film 1.mp4", checkpoint, "video/mp4")
        link = films.link("a/film 1.mp4", 60, "my film.mp4", "video/mp4")
        assert link is not None
        assert link.startswith(f"{endpoint(gcs_port)}/films/a/film%201.mp4?")
        assert "my%20film.mp4" in link
        assert "X-Goog-Signature=" in link
        assert httpx.get(link).content == film.read_bytes()
        films.delete("a/film 1.mp4")
        films.delete("a/film 1.mp4")
        assert httpx.get(link).status_code == 404


def test_link_should_be_none_without_credentials(gcs_port: int) -> None:
    assert place(gcs_port).link("film.mp4", 60, "film.mp4", "video/mp4") is None


def test_check_should_leave_nothing_behind(gcs_port: int, bucket: Any) -> None:
    place(gcs_port).check_writing()
    assert list(bucket.list_blobs()) == []


def test_missing_bucket_should_be_said(gcs_port: int, film: Path, checkpoint: Checkpoint) -> None:
    nowhere = place(gcs_port, "nothere")
    for act in (nowhere.check_writing, lambda: nowhere.upload(film, "film.mp4", checkpoint, "video/mp4")):
        with pytest.raises(StorageError, match="no bucket nothere") as raised:
            act()
        assert (raised.value.reason, raised.value.lasting) == ("no_bucket", True)


def test_key_that_google_does_not_accept_should_be_said(
    gcs_port: int, film: Path, checkpoint: Checkpoint
) -> None:
    with token_server(accepts=False) as tokens:
        films = GcsBackend(GcsBucket("films", service_account(), endpoint(gcs_port), tokens))
        for act in (films.check_writing, lambda: films.upload(film, "film.mp4", checkpoint, "video/mp4")):
            with pytest.raises(StorageError, match="does not accept the service account's key") as raised:
                act()
            assert (raised.value.reason, raised.value.lasting) == ("wrong_key", True)


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", "{}", json.dumps({"client_email": "a@b", "private_key": "secret"})],
)
def test_text_that_is_no_service_accounts_key_should_be_said_without_repeating_it(text: str) -> None:
    bucket = GcsBucket("films", text)
    with pytest.raises(StorageError, match="JSON key of a service account") as raised:
        GcsBackend(bucket)
    assert (raised.value.reason, raised.value.lasting) == ("wrong_key", True)
    assert "secret" not in str(raised.value) + repr(bucket)


def test_server_that_is_away_should_be_said(film: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(StorageError, match="cannot be reached") as raised:
        place(9).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("unreachable", False)


@pytest.mark.long
@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("after", [0, 2 * MEBIBYTE], ids=["from the start", "in mid-chunk"])
def test_server_that_hangs_should_be_said(wire: Wire, film: Path, checkpoint: Checkpoint, after: int) -> None:
    wire.silent_after(after)
    with pytest.raises(StorageError, match="did not answer in time") as raised:
        impatient_place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("timed_out", False)


@pytest.mark.long
@pytest.mark.usefixtures("bucket")
def test_memory_should_not_grow_with_the_file(gcs_port: int, long_film: Path, checkpoint: Checkpoint) -> None:
    films = GcsBackend(GcsBucket("films", None, endpoint(gcs_port)))  # the server is slow with long files
    with watched_memory() as growth:
        films.upload(long_film, "film.mp4", checkpoint, "video/mp4")
    assert growth.bytes <= 64 * MEBIBYTE
