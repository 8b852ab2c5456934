"""Real servers of each kind of storage, started on a free port and stopped."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from recording_farm.farm.storage.backend import Checkpoint
from testkit.network.ports import free_port
from testkit.storage.azure_account import AZURE_ACCOUNT, AZURE_KEY
from testkit.storage.ssh_keys import ed25519_key, fingerprint, private_text, public_text

STARTUP_SECONDS = 60
_FILES_ON_DISK = {"MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": "65536"}
"""Moto's setting: larger objects than this are files below TMPDIR, and not in memory."""


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server with nothing in it."""
    with s3_server(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@contextmanager
def s3_server(directory: Path, module: str = "testkit.storage.s3_server") -> Iterator[str]:
    """An S3 server with its files in a directory; lets everybody in. `moto.server` is another module."""
    port = free_port()
    command = [sys.executable, "-m", module, "-H", "127.0.0.1", "-p", str(port)]
    with running(command, directory / "log", _FILES_ON_DISK | {"TMPDIR": str(directory)}) as server:
        endpoint = f"http://127.0.0.1:{port}"
        wait_for_http(endpoint, server)
        yield endpoint


S3_KEY, S3_SECRET = "key", "secret"
"""What the strict S3 server lets in."""


@pytest.fixture(scope="session")
def strict_s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server with nothing in it that checks signatures and MD5s, but knows neither regions nor tags."""
    port = free_port()
    directory = tmp_path_factory.mktemp("strict-s3")
    (directory / "data").mkdir()
    with running(strict_s3_server(port, directory / "data"), directory / "log") as server:
        endpoint = f"http://127.0.0.1:{port}"
        wait_for_http(endpoint, server)
        yield endpoint


def strict_s3_server(port: int, data: Path) -> list[str]:
    """The command that runs it."""
    program = Path(sys.executable).with_name("rclone")
    assert program.exists(), "rclone is not installed; install it with: make setup-tests"
    return [
        *[str(program), "serve", "s3", "--config", os.devnull, "--addr", f"127.0.0.1:{port}"],
        *["--auth-key", f"{S3_KEY},{S3_SECRET}"],
        # Otherwise the request whose part comes first in line writes all later ones to the disk too. If its
        # client is gone, nobody waits for it, and a completion that overtakes it is refused (InvalidPart).
        *["--disable-multipart-streaming", str(data)],
    ]


@pytest.fixture(scope="session")
def azurite_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server of Azure's blobs with the account AZURE_ACCOUNT and nothing in it."""
    with azurite(tmp_path_factory.mktemp("azurite")) as port:
        yield port


@contextmanager
def azurite(directory: Path) -> Iterator[int]:
    """The same, with its files in a directory."""
    program = Path(__file__).with_name("azurite") / "node_modules" / ".bin" / "azurite-blob"
    assert program.exists(), "Azurite is not installed; install it with: make setup"
    port = free_port()
    with running(
        [
            *[str(program), "--silent", "--disableTelemetry", "--skipApiVersionCheck"],
            *["--location", str(directory), "--blobHost", "127.0.0.1", "--blobPort", str(port)],
        ],
        directory / "log",
        {"AZURITE_ACCOUNTS": f"{AZURE_ACCOUNT}:{AZURE_KEY}"},
    ) as server:
        wait_for_http(f"http://127.0.0.1:{port}", server)
        yield port


@pytest.fixture(scope="session")
def gcs_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server that speaks Google Cloud Storage, with nothing in it."""
    with gcs_server(tmp_path_factory.mktemp("gcs")) as port:
        yield port


@contextmanager
def gcs_server(directory: Path) -> Iterator[int]:
    """The same, with its files in a directory."""
    port = free_port()
    with running(
        [
            *[sys.executable, "-m", "testkit.storage.gcs_server", "--data-dir", f"{directory}/data"],
            *["start", "--host", "127.0.0.1", "--port", str(port)],
        ],
        directory / "log",
    ) as server:
        wait_for_http(f"http://127.0.0.1:{port}", server)
        yield port


@dataclass(frozen=True)
class SshServer:
    """An OpenSSH server in which this very user may log in with `key`; it serves this machine's files."""

    port: int
    key: str
    host_key: str


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """An OpenSSH server."""
    with sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@contextmanager
def sshd(directory: Path) -> Iterator[SshServer]:
    """The same, with its keys in a directory."""
    program = Path("/usr/sbin/sshd")
    assert program.exists(), "OpenSSH's server is not installed; install it with: make setup"
    port = free_port()
    host_key, key = (ed25519_key() for _ in range(2))
    (directory / "host_key").write_text(private_text(host_key))
    (directory / "host_key").chmod(0o600)
    (directory / "authorized_keys").write_bytes(public_text(key))
    (directory / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nPidFile none\nHostKey {directory}/host_key\n"
        f"AuthorizedKeysFile {directory}/authorized_keys\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd wants it
    with running([str(program), "-D", "-e", "-f", f"{directory}/config"], directory / "log") as server:
        wait_for_port(port, server)
        yield SshServer(port, private_text(key), fingerprint(host_key))


@contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that ends with the tests."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            # Also with tests that are killed, as one of several workers is when somebody presses Ctrl-C.
            ["setpriv", "--pdeathsig", "TERM", "--", *command],
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
        )
        try:
            yield server
        finally:
            server.terminate()
            server.wait(10)


def wait_for_port(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server has ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"nothing listens on port {port}")


def wait_for_http(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server has ended"
        try:
            httpx.get(url, timeout=1)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


@pytest.fixture(scope="session")
def whole_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that each `film` is a copy of."""
    file = tmp_path_factory.mktemp("film") / "film.mp4"
    file.write_bytes(b"".join(bytes([number]) * (1 << 20) for number in range(20)) + b"end")
    return file


@pytest.fixture
def film(whole_film: Path, tmp_path: Path) -> Path:
    """A file of 20 MiB and a bit: three parts, each with other bytes."""
    return shutil.copyfile(whole_film, tmp_path / "film.mp4")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    """Nothing has been sent yet."""
    return Checkpoint(tmp_path / "checkpoint.json")


@pytest.fixture(scope="session")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file of 200 MiB."""
    file = tmp_path_factory.mktemp("long") / "film.mp4"
    with file.open("wb") as output:
        for number in range(200):
            output.write(bytes([number]) * (1 << 20))
    yield file
    file.unlink()
