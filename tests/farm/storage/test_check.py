import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from getpass import getuser
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from azure.storage.blob import BlobServiceClient
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from recording_farm.browser_bot.network.addresses import AddressRule, parse_address_rule
from recording_farm.farm.storage import check as module
from recording_farm.farm.storage.backends.gcs import GcsBackend, GcsBucket
from recording_farm.farm.storage.check import CheckResult, check_backend, check_target
from recording_farm.farm.storage.customer import CustomerStorage
from recording_farm.farm.storage.targets import TARGET, Target
from testkit.machine.processes import below
from testkit.storage.azure_account import connection_string
from testkit.storage.google_tokens import service_account, token_server
from testkit.storage.password_server import FORBIDDEN, PASSWORD, USERNAME, password_server
from testkit.storage.servers import SshServer
from testkit.storage.ssh_keys import ed25519_key, private_text

SECRET = "hushhush"
LOCAL = parse_address_rule("127.0.0.0/8")


@contextmanager
def server_that(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that does this with each connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_connections = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            open_connections.append(connection)
            threading.Thread(target=quietly, args=(connection,), daemon=True).start()

    def quietly(connection: socket.socket) -> None:
        with suppress(OSError):
            answer(connection)

    runner = threading.Thread(target=serve, daemon=True)
    runner.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        runner.join(10)
        for connection in open_connections:
            connection.close()


def silence(_: socket.socket) -> None:
    """Say nothing."""


def drip(connection: socket.socket) -> None:
    """Answer for ever, a byte at a time."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nx-long: ")
    while True:
        connection.sendall(b"a")
        time.sleep(0.5)


def s3_target(port: int | str, **fields: Any) -> Target:
    endpoint = port if isinstance(port, str) else f"http://127.0.0.1:{port}"
    target: Target = TARGET.validate_python(
        {"type": "s3", "endpoint": endpoint, "access_key": "key", "secret": SECRET, "bucket": "checked-films"}
        | fields
    )
    return target


def azure_target(port: int, **fields: Any) -> Target:
    target: Target = TARGET.validate_python(
        {"type": "azure", "access_key": connection_string(port), "bucket": "checked-films"} | fields
    )
    return target


def sftp_target(port: int, **fields: Any) -> Target:
    target: Target = TARGET.validate_python(
        {"type": "sftp", "host": "127.0.0.1", "port": port, "username": USERNAME}
        | {"auth_method": "PASSWORD", "password": PASSWORD}
        | fields
    )
    return target


async def checked(target: Target, rule: AddressRule = LOCAL, host_key: str | None = None) -> CheckResult:
    result = await check_target(target, rule, "acme", host_key)
    assert SECRET not in str(result)
    assert (result.message is None) == result.ok
    return result


async def test_s3_bucket_should_pass_where_files_would_go(s3_endpoint: str) -> None:
    session = boto3.session.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
    bucket = session.resource("s3", endpoint_url=s3_endpoint).Bucket("checked-films")
    assert (await checked(s3_target(s3_endpoint))).code == "no_bucket"
    bucket.create()
    try:
        assert (await checked(s3_target(s3_endpoint, path="/{organization_id}/{date}"))).ok
        assert list(bucket.objects.all()) == []
    finally:
        bucket.delete()


async def test_azure_container_should_pass_or_be_explained(azurite_port: int) -> None:
    assert (await checked(azure_target(azurite_port))).code == "no_bucket"
    with BlobServiceClient.from_connection_string(connection_string(azurite_port)) as service:
        container = service.create_container("checked-films")
        assert (await checked(azure_target(azurite_port, path="a/{date}"))).ok
        assert list(container.list_blobs()) == []
        container.delete_container()
    wrong = connection_string(azurite_port, "AAAA")
    # Azure itself has another code for it.
    assert (await checked(azure_target(azurite_port, access_key=wrong))).code == "no_permission"
    assert (await checked(azure_target(azurite_port, access_key=SECRET))).code == "wrong_key"


async def test_sftp_directory_should_pass_or_be_explained(ssh_server: SshServer, tmp_path: Path) -> None:
    key = {"auth_method": "KEY", "password": None, "private_key": ssh_server.key, "username": getuser()}
    target = sftp_target(ssh_server.port, path=f"{tmp_path}/films/{{date}}", **key)
    assert await checked(target) == CheckResult(host_key=ssh_server.host_key)
    assert os.listdir(tmp_path) == []
    assert (await checked(target, host_key="SHA256:" + "A" * 43)).code == "wrong_host_key"
    other = key | {"private_key": private_text(ed25519_key())}
    assert (await checked(sftp_target(ssh_server.port, **other))).code == "wrong_key"
    assert (await checked(sftp_target(ssh_server.port, password=SECRET))).code == "wrong_key"
    with password_server(tmp_path) as port:
        assert (await checked(sftp_target(port))).ok
        assert (await checked(sftp_target(port, password=SECRET))).code == "wrong_key"
        assert (await checked(sftp_target(port, path=FORBIDDEN))).code == "no_permission"


def test_google_bucket_should_pass_or_be_explained(gcs_port: int) -> None:
    endpoint = f"http://127.0.0.1:{gcs_port}"

    def result(bucket: str, credentials: str | None, tokens: str) -> CheckResult:
        place = GcsBackend(GcsBucket(bucket, credentials, endpoint, tokens))
        return check_backend(CustomerStorage(place, LOCAL), "a/b")

    with (
        token_server(accepts=True) as tokens,
        token_server(accepts=False) as no_tokens,
        Client("tests", AnonymousCredentials(), client_options={"api_endpoint": endpoint}) as client,
    ):
        bucket = client.create_bucket("checked-films")
        try:
            assert result("checked-films", service_account(), tokens).ok
            assert list(bucket.list_blobs()) == []
            assert result("checked-films", service_account(), no_tokens).code == "wrong_key"
        finally:
            # The server deletes no bucket in which an upload was begun.
            assert httpx.get(f"{endpoint}/wipe").is_success
        assert result("checked-films", None, tokens).code == "no_bucket"


@pytest.mark.long
@pytest.mark.parametrize("target", [s3_target, azure_target, sftp_target])
async def test_server_that_is_away_or_silent_or_private_should_be_said(
    target: Callable[[int], Target],
) -> None:
    with server_that(silence) as port:
        began = time.monotonic()
        results = await asyncio.gather(
            checked(target(9)), checked(target(port)), checked(target(port), AddressRule())
        )
        assert [result.code for result in results] == ["unreachable", "timed_out", "address_refused"]
        assert time.monotonic() - began < 20


@pytest.mark.long
async def test_check_should_end_whatever_the_server_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECK_SECONDS", 6)
    with server_that(drip) as port:
        began = time.monotonic()
        assert (await checked(s3_target(port))).code == "timed_out"
        assert time.monotonic() - began < 9


async def test_check_should_end_with_whoever_asked_for_it() -> None:
    with server_that(drip) as port, pytest.raises(TimeoutError):
        await asyncio.wait_for(check_target(s3_target(port), LOCAL, "acme"), 2)
    assert below(word=module.__name__) == []
