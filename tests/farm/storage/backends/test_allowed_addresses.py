import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from recording_farm.browser_bot.network.addresses import AddressRule, parse_address_rule
from recording_farm.farm.storage.backend import Checkpoint, StorageError
from recording_farm.farm.storage.backends.allowed_addresses import only_allowed_addresses
from recording_farm.farm.storage.backends.threads import each
from recording_farm.farm.storage.customer import open_backend
from recording_farm.farm.storage.targets import TARGET
from testkit.storage.azure_account import AZURE_ACCOUNT, AZURE_KEY

PUBLIC = AddressRule()
SECRET = "hushhush"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        yield listener


def s3_target(endpoint: str) -> Any:
    return TARGET.validate_python(
        {"type": "s3", "endpoint": endpoint, "access_key": "key", "secret": SECRET, "bucket": "films"}
    )


def azure_target(port: int) -> Any:
    text = f"BlobEndpoint=http://127.0.0.1:{port}/a;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY}"
    return TARGET.validate_python({"type": "azure", "access_key": text, "bucket": "films"})


def sftp_target(port: int, host: str = "127.0.0.1") -> Any:
    return TARGET.validate_python(
        {"type": "sftp", "host": host, "port": port, "username": "u"}
        | {"auth_method": "PASSWORD", "password": SECRET}
    )


def assert_nobody_came(listener: socket.socket) -> None:
    with pytest.raises(TimeoutError):
        listener.accept()


def test_connection_should_be_refused_before_anything_is_sent(listener: socket.socket) -> None:
    address = listener.getsockname()
    with (
        pytest.raises(StorageError, match="the storage has a private address") as raised,
        only_allowed_addresses(PUBLIC),
    ):
        socket.create_connection(address, 1)
    assert (raised.value.reason, raised.value.lasting) == ("address_refused", True)
    assert_nobody_came(listener)
    # Nothing is left of the rule.
    socket.create_connection(address, 1).close()


@pytest.mark.parametrize("rule", [None, parse_address_rule("all"), parse_address_rule("127.0.0.0/8")])
def test_connection_should_be_made_where_the_rule_allows_it(
    listener: socket.socket, rule: AddressRule | None
) -> None:
    with only_allowed_addresses(rule):
        socket.create_connection(listener.getsockname(), 1).close()


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, ("localhost", 9)),
        (socket.AF_INET, ("", 9)),
        (socket.AF_INET, ("0.0.0.0", 9)),
        (socket.AF_INET, ("169.254.169.254", 80)),
        (socket.AF_INET6, ("::1", 9)),
        (socket.AF_INET6, ("::ffff:127.0.0.1", 9)),
        (socket.AF_INET6, ("fe80::1%lo", 9, 0, 1)),
        (socket.AF_VSOCK, (2, 9)),
    ],
)
def test_address_should_be_refused_however_it_is_written(family: int, address: tuple[Any, ...]) -> None:
    with socket.socket(family) as connection:
        connection.settimeout(1)
        for connect in (connection.connect, connection.connect_ex):
            with pytest.raises(StorageError) as raised, only_allowed_addresses(PUBLIC):
                connect(address)
            assert raised.value.reason == "address_refused"


def test_unix_sockets_should_stay_open(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        with only_allowed_addresses(PUBLIC):
            client.connect(path)


def test_rule_should_hold_in_the_threads_that_work_for_it_and_in_no_other(listener: socket.socket) -> None:
    address = listener.getsockname()

    def connect(_: int) -> None:
        socket.create_connection(address, 1).close()

    inside, done = threading.Event(), threading.Event()

    def hold() -> None:
        with only_allowed_addresses(PUBLIC):
            inside.set()
            done.wait(10)
            with pytest.raises(PermissionError):
                each(connect, range(3), 2)

    other = threading.Thread(target=hold)
    other.start()
    inside.wait(10)
    each(connect, range(3), 2)
    done.set()
    other.join()
    for _ in range(3):
        listener.accept()[0].close()
    assert_nobody_came(listener)


def test_storages_at_private_addresses_should_be_refused(
    listener: socket.socket, film: Path, checkpoint: Checkpoint
) -> None:
    port = listener.getsockname()[1]
    for target in (
        s3_target(f"http://127.0.0.1:{port}"),
        s3_target(f"http://localhost:{port}"),
        azure_target(port),
        sftp_target(port),
    ):
        place = open_backend(target, PUBLIC, tries=1)
        for act in (
            lambda place=place: place.upload(film, "f", checkpoint, "video/mp4"),
            lambda place=place: place.delete("f"),
            place.check_writing,
        ):
            with pytest.raises(StorageError) as raised:
                act()
            assert (raised.value.reason, raised.value.lasting) == ("address_refused", True)
            assert SECRET not in str(raised.value)
    assert_nobody_came(listener)


def test_parts_should_not_be_sent_to_an_address_that_the_name_has_meanwhile(
    s3_endpoint: str, film: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is one address when it is looked at and another one when it is used."""
    port = int(s3_endpoint.rpartition(":")[2])
    answers = iter(["8.8.8.8"])
    real = socket.getaddrinfo

    def rebinding(host: str, *arguments: Any, **options: Any) -> Any:
        if host == "rebinding.example":
            host = next(answers, "127.0.0.1")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert socket.getaddrinfo("rebinding.example", port)[0][4][0] == "8.8.8.8"
    for target in (
        s3_target(f"http://rebinding.example:{port}"),
        sftp_target(port, "rebinding.example"),
    ):
        with pytest.raises(StorageError) as raised:
            open_backend(target, PUBLIC, tries=1).upload(film, "f", checkpoint, "video/mp4")
        assert raised.value.reason == "address_refused"


class _Elsewhere(BaseHTTPRequestHandler):
    location = ""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(307)
        self.send_header("location", self.location)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_PUT()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_redirect_to_a_private_address_should_not_be_followed(listener: socket.socket) -> None:
    class Handler(_Elsewhere):
        location = f"http://127.0.0.1:{listener.getsockname()[1]}/films/f"

    with ThreadingHTTPServer(("127.0.0.2", 0), Handler) as server:
        runner = threading.Thread(target=server.serve_forever)
        runner.start()
        try:
            rule = parse_address_rule("127.0.0.2/32")
            endpoint = f"http://127.0.0.2:{server.server_port}"
            azure = TARGET.validate_python(
                {"type": "azure", "bucket": "films"}
                | {"access_key": f"BlobEndpoint={endpoint}/a;AccountName=a;AccountKey={AZURE_KEY}"}
            )
            for target in (s3_target(endpoint), azure):
                with pytest.raises(StorageError):
                    open_backend(target, rule, tries=1, read_timeout=2).check_writing()
        finally:
            server.shutdown()
            runner.join()
    assert_nobody_came(listener)
