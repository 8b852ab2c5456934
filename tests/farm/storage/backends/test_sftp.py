import re
from collections.abc import Iterator
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as ecdsa_key
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as rsa_key
from cryptography.hazmat.primitives.serialization import PrivateFormat

from recording_farm.farm.storage.backend import Checkpoint, StorageError
from recording_farm.farm.storage.backends import sftp as module
from recording_farm.farm.storage.backends.sftp import SftpBackend, SftpServer
from testkit.machine.memory import watched_memory
from testkit.network.wire import Wire, wire_to
from testkit.storage.password_server import FORBIDDEN, PASSWORD, USERNAME, password_server
from testkit.storage.servers import SshServer
from testkit.storage.ssh_keys import PrivateKey, ed25519_key, private_text

MEBIBYTE = 1 << 20
USER = getuser()


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """Where files go; not there yet."""
    return tmp_path / "remote" / "films"


@pytest.fixture
def wire(ssh_server: SshServer) -> Iterator[Wire]:
    with wire_to(ssh_server.port) as wire:
        yield wire


@pytest.fixture
def password_port(tmp_path: Path) -> Iterator[int]:
    with password_server(tmp_path) as port:
        yield port


def place(server: SshServer, remote: Path, **more: Any) -> SftpBackend:
    values: dict[str, Any] = {"port": server.port, "private_key": server.key, "path": str(remote)} | more
    return SftpBackend(SftpServer("127.0.0.1", USER, **values))


def place_by_password(port: int, password: str = PASSWORD, path: str = "films") -> SftpBackend:
    return SftpBackend(SftpServer("127.0.0.1", USERNAME, port, password, path=path))


def private_key(kind: str) -> PrivateKey:
    if kind == "RSA":
        return rsa_key(65537, 2048)
    return ecdsa_key(SECP256R1()) if kind == "ECDSA" else ed25519_key()


def test_file_should_arrive_whole_in_directories_made_for_it(
    ssh_server: SshServer, remote: Path, film: Path, checkpoint: Checkpoint
) -> None:
    placed = place(ssh_server, remote).upload(film, "a/b/film.mp4", checkpoint, "video/mp4")
    assert placed.location == f"sftp://{USER}@127.0.0.1:{ssh_server.port}{remote}/a/b/film.mp4"
    assert placed.size == film.stat().st_size
    assert (remote / "a/b/film.mp4").read_bytes() == film.read_bytes()
    assert [file.name for file in (remote / "a/b").iterdir()] == ["film.mp4"]


def test_empty_file_should_arrive(
    ssh_server: SshServer, remote: Path, tmp_path: Path, checkpoint: Checkpoint
) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert place(ssh_server, remote).upload(empty, "empty", checkpoint, "text/plain").size == 0
    assert (remote / "empty").read_bytes() == b""


def test_broken_upload_should_go_on_where_it_was(
    ssh_server: SshServer, wire: Wire, remote: Path, film: Path, checkpoint: Checkpoint
) -> None:
    wire.cut_after(10 * MEBIBYTE)
    with pytest.raises(StorageError) as raised:
        place(ssh_server, remote, port=wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("unreachable", False)
    assert not (remote / "film.mp4").exists()
    there = (remote / ".film.mp4.part").stat().st_size
    assert there >= 5 * MEBIBYTE
    wire.mend()
    place(ssh_server, remote, port=wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert wire.passed < film.stat().st_size - there + MEBIBYTE
    assert (remote / "film.mp4").read_bytes() == film.read_bytes()


# The library asks ahead in a thread of its own, which ends with an error when the connection does.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_upload_that_broke_while_it_was_read_back_should_not_be_sent_again(
    ssh_server: SshServer,
    wire: Wire,
    remote: Path,
    film: Path,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = module._read

    def read_and_cut(*arguments: Any) -> Iterator[bytes]:
        for number, data in enumerate(read(*arguments)):
            if number == 200:
                wire.cut_after(0)
            yield data

    films = place(ssh_server, remote, port=wire.port)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_read", read_and_cut)
        with pytest.raises(StorageError) as raised:
            films.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("unreachable", False)
    wire.mend()
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert wire.passed < MEBIBYTE
    assert (remote / "film.mp4").read_bytes() == film.read_bytes()


@pytest.mark.parametrize("left", [b"something else", b"x" * (30 * MEBIBYTE)], ids=["shorter", "longer"])
def test_upload_should_start_over_when_another_file_is_there_in_part(
    ssh_server: SshServer, remote: Path, film: Path, checkpoint: Checkpoint, left: bytes
) -> None:
    remote.mkdir(parents=True)
    (remote / ".film.mp4.part").write_bytes(left)
    place(ssh_server, remote).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (remote / "film.mp4").read_bytes() == film.read_bytes()


def test_upload_whose_last_answer_was_lost_should_not_be_sent_again(
    ssh_server: SshServer, wire: Wire, remote: Path, film: Path, checkpoint: Checkpoint
) -> None:
    place(ssh_server, remote).upload(film, "film.mp4", checkpoint, "video/mp4")
    place(ssh_server, remote, port=wire.port).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert wire.passed < MEBIBYTE


def test_other_file_should_replace_the_one_that_is_there(
    ssh_server: SshServer, remote: Path, film: Path, checkpoint: Checkpoint
) -> None:
    films = place(ssh_server, remote)
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    film.write_bytes(b"another film")
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (remote / "film.mp4").read_bytes() == b"another film"


def test_bytes_that_differ_at_the_other_side_should_be_noticed_before_the_file_has_its_name(
    ssh_server: SshServer,
    remote: Path,
    film: Path,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send = module._send

    def send_and_damage(*arguments: Any) -> None:
        send(*arguments)
        with (remote / ".film.mp4.part").open("r+b") as file:
            file.seek(5 * MEBIBYTE)
            file.write(b"!")

    films = place(ssh_server, remote)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_send", send_and_damage)
        with pytest.raises(StorageError, match="damaged in transit") as raised:
            films.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("damaged", False)
    assert list(remote.iterdir()) == []
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (remote / "film.mp4").read_bytes() == film.read_bytes()


def test_delete_should_not_mind_a_file_that_is_not_there(
    ssh_server: SshServer, remote: Path, film: Path, checkpoint: Checkpoint
) -> None:
    films = place(ssh_server, remote)
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    films.delete("film.mp4")
    films.delete("film.mp4")
    assert list(remote.iterdir()) == []


def test_there_should_be_no_link(ssh_server: SshServer, remote: Path) -> None:
    assert place(ssh_server, remote).link("film.mp4", 60, "film.mp4", "video/mp4") is None


def test_check_should_leave_nothing_behind(ssh_server: SshServer, remote: Path) -> None:
    for directory in ("", "a/b"):
        place(ssh_server, remote).check_writing(directory)
        assert not remote.parent.exists()
    remote.mkdir(parents=True)
    (remote / "film.mp4").touch()
    place(ssh_server, remote).check_writing("a")
    assert [file.name for file in remote.iterdir()] == ["film.mp4"]


@pytest.mark.parametrize("key", ["../film.mp4", "a//film.mp4", "/film.mp4", "a/./film.mp4", ""])
def test_key_that_could_lead_elsewhere_should_be_refused(
    ssh_server: SshServer, remote: Path, key: str
) -> None:
    with pytest.raises(StorageError) as raised:
        place(ssh_server, remote).delete(key)
    assert (raised.value.reason, raised.value.lasting) == ("bad_path", True)


def test_host_key_should_be_reported_and_the_one_that_was_given_be_kept_to(
    ssh_server: SshServer, remote: Path
) -> None:
    first = place(ssh_server, remote)
    first.check_writing()
    assert first.host_key == ssh_server.host_key
    place(ssh_server, remote, host_key=first.host_key).check_writing()
    with pytest.raises(StorageError, match=re.escape(f"has the host key {first.host_key}")) as raised:
        place(ssh_server, remote, host_key="SHA256:another").check_writing()
    assert (raised.value.reason, raised.value.lasting) == ("wrong_host_key", True)


def test_key_that_is_not_accepted_should_be_said(ssh_server: SshServer, remote: Path) -> None:
    with pytest.raises(StorageError, match="rejects this user name and key") as raised:
        place(ssh_server, remote, private_key=private_text(ed25519_key())).check_writing()
    assert (raised.value.reason, raised.value.lasting) == ("wrong_key", True)


def test_password_where_the_server_takes_only_keys_should_be_said(
    ssh_server: SshServer, remote: Path
) -> None:
    with pytest.raises(StorageError, match="only publickey") as raised:
        place(ssh_server, remote, private_key=None, password="secret").check_writing()
    assert (raised.value.reason, raised.value.lasting) == ("wrong_key", True)


def test_path_below_a_file_should_be_said(ssh_server: SshServer, film: Path, checkpoint: Checkpoint) -> None:
    films = place(ssh_server, film / "below")
    for act in (films.check_writing, lambda: films.upload(film, "film.mp4", checkpoint, "video/mp4")):
        with pytest.raises(StorageError, match="directory does not exist") as raised:
            act()
        assert (raised.value.reason, raised.value.lasting) == ("no_bucket", True)


def test_full_disk_should_be_said(
    ssh_server: SshServer, remote: Path, film: Path, checkpoint: Checkpoint
) -> None:
    remote.mkdir(parents=True)
    (remote / ".film.mp4.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="disk is full") as raised:
        place(ssh_server, remote).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert raised.value.reason == "full"


def test_server_that_is_away_should_be_said(
    ssh_server: SshServer, remote: Path, film: Path, checkpoint: Checkpoint
) -> None:
    with pytest.raises(StorageError, match="cannot be reached") as raised:
        place(ssh_server, remote, port=9).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("unreachable", False)


@pytest.mark.long
@pytest.mark.parametrize(
    "after",
    [0, 1500, 3000, 10 * MEBIBYTE],
    ids=["from the start", "in the key exchange", "in the login", "in mid-file"],
)
def test_server_that_hangs_should_be_said(
    ssh_server: SshServer, wire: Wire, remote: Path, film: Path, checkpoint: Checkpoint, after: int
) -> None:
    wire.silent_after(after)
    silent = SftpServer("127.0.0.1", USER, wire.port, private_key=ssh_server.key, path=str(remote))
    with pytest.raises(StorageError, match="did not answer in time") as raised:
        SftpBackend(silent, connect_timeout=5, read_timeout=2).upload(
            film, "film.mp4", checkpoint, "video/mp4"
        )
    assert (raised.value.reason, raised.value.lasting) == ("timed_out", False)


def test_password_should_do_and_a_server_without_atomic_rename_too(
    password_port: int, tmp_path: Path, film: Path, checkpoint: Checkpoint
) -> None:
    films = place_by_password(password_port)
    films.check_writing()
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (tmp_path / "films/film.mp4").read_bytes() == film.read_bytes()
    film.write_bytes(b"another film")
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (tmp_path / "films/film.mp4").read_bytes() == b"another film"


def test_wrong_password_should_be_said_without_repeating_it(password_port: int) -> None:
    server = SftpServer("127.0.0.1", USERNAME, password_port, "the wrong one")
    with pytest.raises(StorageError, match="rejects this user name and password") as raised:
        SftpBackend(server).check_writing()
    assert (raised.value.reason, raised.value.lasting) == ("wrong_key", True)
    assert "the wrong one" not in str(raised.value) + repr(server)


def test_directory_that_may_not_be_written_should_be_said(password_port: int) -> None:
    with pytest.raises(StorageError, match="has no permission for this") as raised:
        place_by_password(password_port, path=FORBIDDEN).check_writing()
    assert (raised.value.reason, raised.value.lasting) == ("no_permission", True)


@pytest.mark.parametrize("passphrase", [None, "secret"])
@pytest.mark.parametrize(
    "form",
    [PrivateFormat.OpenSSH, PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL],
    ids=["OpenSSH", "PKCS8", "PEM"],
)
@pytest.mark.parametrize("kind", ["Ed25519", "RSA", "ECDSA"])
def test_private_keys_of_all_kinds_and_forms_should_be_read(
    kind: str, form: PrivateFormat, passphrase: str | None
) -> None:
    if (kind, form) == ("Ed25519", PrivateFormat.TraditionalOpenSSL):
        pytest.skip("there is no such form of it")
    key = private_key(kind)
    text = private_text(key, passphrase, form)
    SftpBackend(SftpServer("host", "user", password=passphrase, private_key=text))
    if passphrase is None:  # one that is not needed does no harm
        SftpBackend(SftpServer("host", "user", password="secret", private_key=text))
        return
    for wrong in (None, "another"):
        with pytest.raises(StorageError, match="passphrase") as raised:
            SftpBackend(SftpServer("host", "user", password=wrong, private_key=text))
        assert (raised.value.reason, raised.value.lasting) == ("wrong_key", True)


@pytest.mark.parametrize(
    "text",
    ["", "no key", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----"],
)
def test_text_that_is_no_private_key_should_be_said(text: str) -> None:
    with pytest.raises(StorageError, match="private key") as raised:
        SftpBackend(SftpServer("host", "user", private_key=text))
    assert (raised.value.reason, raised.value.lasting) == ("wrong_key", True)


@pytest.mark.long
def test_memory_should_not_grow_with_the_file(
    ssh_server: SshServer, remote: Path, long_film: Path, checkpoint: Checkpoint
) -> None:
    with watched_memory() as growth:
        place(ssh_server, remote).upload(long_film, "film.mp4", checkpoint, "video/mp4")
    assert growth.bytes <= 64 * MEBIBYTE
