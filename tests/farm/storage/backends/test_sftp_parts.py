from getpass import getuser
from pathlib import Path
from random import randbytes
from typing import Any

import pytest

from recording_farm.farm.storage.backend import Checkpoint, StorageError
from recording_farm.farm.storage.backends import sftp
from recording_farm.farm.storage.backends.sftp import SftpBackend, SftpServer
from recording_farm.farm.storage.backends.sftp_parts import PartFiles
from testkit.network.wire import wire_to
from testkit.storage.drop_box import DropBox, drop_box
from testkit.storage.parts import MEBIBYTE, parts_of_content, put_in_parts, send_all
from testkit.storage.password_server import PASSWORD, USERNAME, password_server
from testkit.storage.servers import SshServer

SIZES = (MEBIBYTE + 4096, MEBIBYTE, MEBIBYTE // 2)
MANY = (MEBIBYTE, *[MEBIBYTE // 16] * 20)


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """Where files go; not there yet."""
    return tmp_path / "remote" / "films"


@pytest.fixture(scope="module")
def content() -> bytes:
    return randbytes(3 * MEBIBYTE + 5)


def place(server: SshServer, remote: Path, port: int = 0, **more: Any) -> SftpBackend:
    values: dict[str, Any] = {"port": port or server.port, "private_key": server.key, "path": str(remote)}
    return SftpBackend(SftpServer("127.0.0.1", getuser(), **values | more))


def test_parts_should_make_the_file_in_the_order_of_their_numbers(
    ssh_server: SshServer, remote: Path, content: bytes
) -> None:
    begun = place(ssh_server, remote).begin_parts("a/film.mp4", "video/mp4")
    parts = parts_of_content(content, MANY)
    sent = send_all(place(ssh_server, remote), "a/film.mp4", begun, parts)
    assert {file.name[:1] for file in (remote / "a").iterdir()} == {"."}
    films = place(ssh_server, remote)
    for _ in range(2):  # the answer to the first was lost
        placed = films.finish_parts("a/film.mp4", begun, sent)
        assert placed.location.endswith(f"{remote}/a/film.mp4")
        assert (placed.size, placed.note) == (len(content), None)
    (file,) = (remote / "a").iterdir()
    assert file.read_bytes() == content


def test_file_should_not_be_made_again_when_only_its_parts_are_left(
    ssh_server: SshServer, remote: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = place(ssh_server, remote)
    begun = films.begin_parts("film.mp4", "video/mp4")
    sent = send_all(films, "film.mp4", begun, parts_of_content(content, SIZES))

    def lose_connection(client: Any, files: PartFiles) -> None:
        client.remove(files.part(sent[0].part.number))
        raise EOFError

    with monkeypatch.context() as patch:
        patch.setattr(sftp, "abort", lose_connection)
        with pytest.raises(StorageError):
            films.finish_parts("film.mp4", begun, sent)
    assert len(list(remote.iterdir())) == 2
    films.finish_parts("film.mp4", begun, sent)
    (file,) = remote.iterdir()
    assert file.read_bytes() == content


def test_part_that_is_sent_again_should_replace_the_first(
    ssh_server: SshServer, remote: Path, content: bytes
) -> None:
    films = place(ssh_server, remote)
    begun = films.begin_parts("film.mp4", "video/mp4")
    parts = parts_of_content(content, SIZES)
    films.send_part("film.mp4", begun, parts[1][0], randbytes(parts[1][0].size))
    films.finish_parts("film.mp4", begun, send_all(films, "film.mp4", begun, parts))
    assert (remote / "film.mp4").read_bytes() == content


def test_file_of_before_should_be_replaced_at_the_end(
    ssh_server: SshServer, remote: Path, content: bytes
) -> None:
    remote.mkdir(parents=True)
    (remote / "film.mp4").write_bytes(bytes(len(content)))
    films = place(ssh_server, remote)
    begun = films.begin_parts("film.mp4", "video/mp4")
    sent = send_all(films, "film.mp4", begun, parts_of_content(content, SIZES))
    assert (remote / "film.mp4").read_bytes() == bytes(len(content))
    for part in remote.glob(".*/[0-9]*"):
        part.rename(part.with_name("elsewhere"))
        with pytest.raises(StorageError) as raised:
            films.finish_parts("film.mp4", begun, sent)
        assert raised.value.reason == "upload_gone"
        part.with_name("elsewhere").rename(part)
        break
    films.finish_parts("film.mp4", begun, sent)
    assert (remote / "film.mp4").read_bytes() == content


def test_upload_that_is_aborted_should_leave_nothing(
    ssh_server: SshServer, remote: Path, content: bytes
) -> None:
    remote.mkdir(parents=True)
    (remote / "film.mp4").write_bytes(bytes(len(content)))
    films = place(ssh_server, remote)
    begun = films.begin_parts("film.mp4", "video/mp4")
    parts = parts_of_content(content, SIZES)
    sent = send_all(films, "film.mp4", begun, parts)
    for _ in range(2):
        films.abort_parts("film.mp4", begun)
    assert [file.name for file in remote.iterdir()] == ["film.mp4"]
    for act in (
        lambda: films.send_part("film.mp4", begun, *parts[0]),
        lambda: films.finish_parts("film.mp4", begun, sent),
    ):
        with pytest.raises(StorageError) as raised:
            act()
        assert raised.value.reason == "upload_gone"


def test_parts_should_go_only_to_the_server_that_got_the_first(
    ssh_server: SshServer, remote: Path, content: bytes
) -> None:
    films = place(ssh_server, remote)
    begun = films.begin_parts("film.mp4", "video/mp4")
    assert begun["host_key"] == ssh_server.host_key
    begun["host_key"] = f"SHA256:{'A' * 43}"
    with pytest.raises(StorageError) as raised:
        films.send_part("film.mp4", begun, *parts_of_content(content, SIZES)[0])
    assert raised.value.reason == "wrong_host_key"


def test_lost_connection_and_changed_bytes_should_be_noticed(
    ssh_server: SshServer, remote: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = parts_of_content(content, SIZES)[0]
    with wire_to(ssh_server.port) as wire:
        films = place(ssh_server, remote, wire.port)
        begun = films.begin_parts("film.mp4", "video/mp4")
        wire.cut_after(wire.passed + MEBIBYTE // 2)
        with pytest.raises(StorageError) as raised:
            films.send_part("film.mp4", begun, *part)
        assert (raised.value.reason, raised.value.lasting) == ("unreachable", False)
    films = place(ssh_server, remote)
    monkeypatch.setattr(sftp, "_read", lambda *_: iter([b"other"]))
    with pytest.raises(StorageError) as raised:
        films.send_part("film.mp4", begun, *part)
    assert raised.value.reason == "damaged"


def test_server_that_cannot_join_should_get_the_whole_file(
    tmp_path: Path, film: Path, checkpoint: Checkpoint
) -> None:
    with password_server(tmp_path) as port:
        films = SftpBackend(SftpServer("127.0.0.1", USERNAME, port, PASSWORD, path="films"))
        with pytest.raises(StorageError) as raised:
            films.begin_parts("film.mp4", "video/mp4")
        assert raised.value.reason == "no_parts"
        assert not list(tmp_path.rglob(".film*"))
        films.upload(film, "film.mp4", checkpoint, "video/mp4")


def test_drop_box_should_get_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sftp, "extensions_of", lambda _: frozenset({"copy-data"}))
    with drop_box(tmp_path, DropBox()) as port:
        films = SftpBackend(SftpServer("127.0.0.1", USERNAME, port, PASSWORD, path="films"))
        with pytest.raises(StorageError) as raised:
            films.begin_parts("film.mp4", "video/mp4")
    assert raised.value.reason == "no_parts"
    assert list((tmp_path / "films").iterdir()) == []


def test_empty_first_part_should_be_none(ssh_server: SshServer, remote: Path) -> None:
    assert put_in_parts(place(ssh_server, remote), "film.mp4", b"body", (0, 2)).size == 4
    assert (remote / "film.mp4").read_bytes() == b"body"
