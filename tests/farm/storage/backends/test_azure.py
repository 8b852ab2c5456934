import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from azure.storage.blob import BlobClient, BlobServiceClient, ContainerClient, ContentSettings

from recording_farm.farm.storage.backend import Checkpoint, StorageError
from recording_farm.farm.storage.backends.azure import BLOCK_BYTES, AzureBackend, AzureContainer
from testkit.machine.memory import watched_memory
from testkit.network.wire import Wire, wire_to
from testkit.storage.azure_account import AZURE_KEY, connection_string

MEBIBYTE = 1 << 20


@pytest.fixture
def container(azurite_port: int) -> Iterator[ContainerClient]:
    with BlobServiceClient.from_connection_string(connection_string(azurite_port)) as service:
        container = service.create_container("films")
        yield container
        container.delete_container()


@pytest.fixture
def wire(azurite_port: int) -> Iterator[Wire]:
    with wire_to(azurite_port) as wire:
        yield wire


def place(port: int, container: str = "films", key: str = AZURE_KEY) -> AzureBackend:
    return AzureBackend(AzureContainer(container, connection_string(port, key)))


def impatient_place(port: int) -> AzureBackend:
    """The container for a client that gives a silent server up after one try of two seconds."""
    container = AzureContainer("films", connection_string(port))
    return AzureBackend(container, connect_timeout=2, read_timeout=2, tries=1)


def content(container: ContainerClient, key: str) -> bytes:
    return container.download_blob(key).readall()


def test_file_should_arrive_whole_with_its_type_and_md5(
    azurite_port: int, container: ContainerClient, film: Path, checkpoint: Checkpoint
) -> None:
    placed = place(azurite_port).upload(film, "a/film 1.mp4", checkpoint, "video/mp4")
    assert (placed.location, placed.size) == ("azure://films/a/film 1.mp4", film.stat().st_size)
    assert content(container, "a/film 1.mp4") == film.read_bytes()
    settings = container.get_blob_client("a/film 1.mp4").get_blob_properties().content_settings
    assert settings.content_type == "video/mp4"
    assert bytes(settings.content_md5 or b"") == hashlib.md5(film.read_bytes()).digest()


def test_empty_file_should_arrive(
    azurite_port: int, container: ContainerClient, tmp_path: Path, checkpoint: Checkpoint
) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert place(azurite_port).upload(empty, "empty", checkpoint, "text/plain").size == 0
    assert content(container, "empty") == b""


def test_broken_upload_should_go_on_with_the_blocks_that_are_missing(
    wire: Wire,
    container: ContainerClient,
    film: Path,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recording_farm.farm.storage.backends.azure.THREADS", 1)
    wire.cut_after(BLOCK_BYTES + MEBIBYTE)
    with pytest.raises(StorageError) as raised:
        place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("unreachable", False)
    assert [
        block.size for block in container.get_blob_client("film.mp4").get_block_list("uncommitted")[1]
    ] == [BLOCK_BYTES]
    wire.mend()
    place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert wire.passed < film.stat().st_size - BLOCK_BYTES + MEBIBYTE
    assert content(container, "film.mp4") == film.read_bytes()


@pytest.mark.usefixtures("container")
def test_upload_whose_last_answer_was_lost_should_not_be_sent_again(
    wire: Wire, film: Path, checkpoint: Checkpoint
) -> None:
    place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    wire.mend()
    assert place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4").size == film.stat().st_size
    assert wire.passed < MEBIBYTE


def test_other_file_should_replace_the_one_that_is_there(
    azurite_port: int, container: ContainerClient, film: Path, checkpoint: Checkpoint
) -> None:
    place(azurite_port).upload(film, "film.mp4", checkpoint, "video/mp4")
    film.write_bytes(b"another film")
    place(azurite_port).upload(film, "film.mp4", checkpoint, "video/webm")
    assert content(container, "film.mp4") == b"another film"


def test_bytes_that_change_on_their_way_should_be_refused_and_sent_again(
    wire: Wire, container: ContainerClient, film: Path, checkpoint: Checkpoint
) -> None:
    wire.damage_at(5 * MEBIBYTE)
    with pytest.raises(StorageError) as raised:
        place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    # Azurite says InvalidOperation where Azure says Md5Mismatch.
    assert raised.value.reason in {"damaged", "failed"}
    assert not raised.value.lasting
    assert not container.get_blob_client("film.mp4").exists()
    wire.mend()
    place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert content(container, "film.mp4") == film.read_bytes()


def test_other_file_that_comes_in_between_should_be_noticed(
    azurite_port: int,
    container: ContainerClient,
    film: Path,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit = BlobClient.commit_block_list

    def commit_and_replace(self: BlobClient, *arguments: Any, **options: Any) -> Any:
        commit(self, *arguments, **options)
        container.upload_blob("film.mp4", b"x" * film.stat().st_size, overwrite=True)

    monkeypatch.setattr(BlobClient, "commit_block_list", commit_and_replace)
    with pytest.raises(StorageError, match="damaged in transit") as raised:
        place(azurite_port).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert raised.value.reason == "damaged"


@pytest.mark.usefixtures("container")
def test_link_should_give_the_file_to_whoever_has_it(
    azurite_port: int, film: Path, checkpoint: Checkpoint
) -> None:
    films = place(azurite_port)
    films.upload(film, "a/film 1.mp4", checkpoint, "video/mp4")
    link = films.link("a/film 1.mp4", 60, "my film.mp4", "video/mp4")
    assert link is not None
    answer = httpx.get(link, headers={"range": "bytes=0-3"})
    assert (answer.status_code, answer.content) == (206, film.read_bytes()[:4])
    assert answer.headers["content-disposition"] == 'inline; filename="my film.mp4"'
    assert httpx.get(link.partition("?")[0]).status_code in {403, 404}
    films.delete("a/film 1.mp4")
    films.delete("a/film 1.mp4")
    assert httpx.get(link).status_code == 404


def test_link_should_be_none_without_a_key_to_sign_with(azurite_port: int) -> None:
    text = f"BlobEndpoint=http://127.0.0.1:{azurite_port}/a;SharedAccessSignature=sv=2020&sig=x"
    assert AzureBackend(AzureContainer("films", text)).link("film.mp4", 60, "film.mp4", "video/mp4") is None


def test_check_should_leave_nothing_behind(azurite_port: int, container: ContainerClient) -> None:
    place(azurite_port).check()
    assert place(azurite_port).check_writing("a") == []
    assert list(container.list_blobs()) == []


def test_missing_container_should_be_said(azurite_port: int, film: Path, checkpoint: Checkpoint) -> None:
    films = place(azurite_port, "nothere")
    for act in (
        films.check,
        lambda: films.upload(film, "film.mp4", checkpoint, "video/mp4"),
        lambda: films.delete("film.mp4"),
    ):
        with pytest.raises(StorageError, match="no container nothere") as raised:
            act()
        assert (raised.value.reason, raised.value.lasting) == ("no_bucket", True)


@pytest.mark.usefixtures("container")
def test_wrong_key_should_be_said(azurite_port: int, film: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(StorageError) as raised:
        place(azurite_port, key="d3Jvbmc=").upload(film, "film.mp4", checkpoint, "video/mp4")
    # Azurite says AuthorizationFailure where Azure says AuthenticationFailed.
    assert raised.value.reason in {"wrong_key", "no_permission"}
    assert raised.value.lasting


@pytest.mark.parametrize("text", ["", "AccountName", "AccountKey=secret;EndpointSuffix=y"])
def test_bad_connection_string_should_be_said_without_repeating_it(text: str) -> None:
    with pytest.raises(StorageError) as raised:
        AzureBackend(AzureContainer("films", text))
    assert (raised.value.reason, raised.value.lasting) == ("wrong_key", True)
    assert "secret" not in str(raised.value)


def test_key_that_is_no_base64_should_be_said(azurite_port: int) -> None:
    with pytest.raises(StorageError) as raised:
        place(azurite_port, key="not base64").check()
    assert (raised.value.reason, raised.value.lasting) == ("wrong_key", True)
    assert "not base64" not in str(raised.value)


def test_connection_string_should_not_be_shown() -> None:
    assert AZURE_KEY not in repr(AzureContainer("films", connection_string(1)))


def test_server_that_is_away_should_be_said(film: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(StorageError, match="cannot be reached") as raised:
        place(9).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("unreachable", False)


@pytest.mark.long
@pytest.mark.usefixtures("container")
@pytest.mark.parametrize("after", [0, 2 * MEBIBYTE], ids=["from the start", "in mid-block"])
def test_server_that_hangs_should_be_said(wire: Wire, film: Path, checkpoint: Checkpoint, after: int) -> None:
    wire.silent_after(after)
    with pytest.raises(StorageError, match="did not answer in time") as raised:
        impatient_place(wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("timed_out", False)


@pytest.mark.usefixtures("container")
def test_memory_should_not_grow_with_the_file(
    azurite_port: int, long_film: Path, checkpoint: Checkpoint
) -> None:
    with watched_memory() as growth:
        place(azurite_port).upload(long_film, "film.mp4", checkpoint, "video/mp4")
    assert growth.bytes <= 64 * MEBIBYTE


@pytest.mark.usefixtures("container")
def test_file_should_be_fetched_and_replace_what_is_there(
    azurite_port: int, film: Path, checkpoint: Checkpoint, back: Path
) -> None:
    films = place(azurite_port)
    films.upload(film, "a/film 1.mp4", checkpoint, "video/mp4")
    films.fetch("a/film 1.mp4", back)
    assert back.read_bytes() == film.read_bytes()
    assert list(back.parent.iterdir()) == [back]


@pytest.mark.parametrize("content", [b"", b"a short film"])
def test_short_files_should_be_fetched(
    azurite_port: int, container: ContainerClient, back: Path, content: bytes
) -> None:
    container.upload_blob("film.mp4", content)
    place(azurite_port).fetch("film.mp4", back)
    assert back.read_bytes() == content


@pytest.mark.usefixtures("container")
def test_bytes_that_are_not_those_of_the_md5_should_not_be_fetched(
    azurite_port: int, container: ContainerClient, film: Path, checkpoint: Checkpoint, back: Path
) -> None:
    films = place(azurite_port)
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    container.get_blob_client("film.mp4").set_http_headers(ContentSettings(content_md5=bytearray(16)))
    with pytest.raises(StorageError, match="damaged in transit") as raised:
        films.fetch("film.mp4", back)
    assert (raised.value.reason, raised.value.lasting) == ("damaged", False)
    assert [file.read_bytes() for file in back.parent.iterdir()] == [b"what was there"]


@pytest.mark.long
@pytest.mark.usefixtures("container")
def test_fetch_that_is_cut_off_or_hangs_should_be_said(
    wire: Wire, film: Path, checkpoint: Checkpoint, back: Path
) -> None:
    films = place(wire.port)
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    for client, act, reason in (
        (films, wire.cut_answers_after, "unreachable"),
        (impatient_place(wire.port), wire.silence_answers_after, "timed_out"),
    ):
        wire.mend()
        act(5 * MEBIBYTE)
        with pytest.raises(StorageError) as raised:
            client.fetch("film.mp4", back)
        assert (raised.value.reason, raised.value.lasting) == (reason, False)
    assert [file.read_bytes() for file in back.parent.iterdir()] == [b"what was there"]


@pytest.mark.usefixtures("container")
def test_fetch_should_tell_a_missing_file_from_a_missing_container(azurite_port: int, back: Path) -> None:
    for container, reason in (("films", "not_found"), ("nothere", "no_bucket")):
        with pytest.raises(StorageError) as raised:
            place(azurite_port, container).fetch("gone.mp4", back)
        assert (raised.value.reason, raised.value.lasting) == (reason, True)
    assert back.read_bytes() == b"what was there"


@pytest.mark.long
@pytest.mark.usefixtures("container")
def test_memory_should_not_grow_with_the_file_that_is_fetched(
    azurite_port: int, long_film: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    films = place(azurite_port)
    films.upload(long_film, "film.mp4", checkpoint, "video/mp4")
    with watched_memory() as growth:
        films.fetch("film.mp4", tmp_path / "back.mp4")
    assert (tmp_path / "back.mp4").stat().st_size == long_film.stat().st_size
    assert growth.bytes <= 96 * MEBIBYTE
