"""Servers that others wrote as a customer's storage: a recording goes there, and the farm keeps none."""

import hashlib
from collections.abc import Iterator
from getpass import getuser
from pathlib import Path
from typing import Any

import boto3
import pytest
from azure.storage.blob import BlobServiceClient

from compat.programs import NODE_MODULES
from testkit.network.ports import free_port
from testkit.pages import serve_pages
from testkit.running_farm import SMALL, RunningFarm
from testkit.storage.azure_account import connection_string
from testkit.storage.servers import (  # noqa: F401 - fixtures
    S3_KEY,
    S3_SECRET,
    SshServer,
    azurite_port,
    running,
    s3_endpoint,
    ssh_server,
    strict_s3_endpoint,
    wait_for_port,
)

BUCKET = "compat-films"


@pytest.fixture(scope="module")
def s3rver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where s3rver of npm is, which knows one pair of keys."""
    port, directory = free_port(), tmp_path_factory.mktemp("s3rver")
    command = [str(NODE_MODULES / ".bin/s3rver"), "-d", str(directory), "-a", "127.0.0.1", "-p", str(port)]
    with running(command, directory.with_suffix(".log")) as server:
        wait_for_port(port, server)
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page with nothing to it."""
    directory = tmp_path_factory.mktemp("plain")
    (directory / "plain.html").write_text("<!doctype html><title>plain</title><h1>plain</h1>")
    with serve_pages(directory) as url:
        yield f"{url}/plain.html"


def upload(farm: RunningFarm, page: str, target: dict[str, Any]) -> tuple[str, int]:
    """Check a storage, and record into it alone; the name and size of the file, which have arrived."""
    checked = farm.answer(farm.client.post("/v2/storage/check", json={"storage_config": target}))
    assert checked == {"ok": True}
    recording = farm.start(
        url=page, page_contract="plain", max_seconds=2, video_config=SMALL,
        storage_config=target, realtimekit_bucket_config={"enabled": False},
    )  # fmt: skip
    recording = farm.wait_for(recording["id"], "UPLOADED")
    (transfer,) = recording["transfers"]
    assert (transfer["state"], transfer["note"], transfer["attempts"]) == ("DONE", None, 1)
    return recording["output_file_name"], recording["file_size"]


@pytest.mark.parametrize(
    ("server", "key", "secret"),
    [
        ("s3rver", "S3RVER", "S3RVER"),
        ("strict_s3_endpoint", S3_KEY, S3_SECRET),
        ("s3_endpoint", "any", "any"),
    ],
    ids=["s3rver", "rclone", "moto"],
)
def test_recording_should_arrive_in_s3(
    request: pytest.FixtureRequest, farm: RunningFarm, page: str, server: str, key: str, secret: str
) -> None:
    endpoint = request.getfixturevalue(server)
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=BUCKET)
    target = {"type": "s3", "endpoint": endpoint, "bucket": BUCKET, "access_key": key, "secret": secret}
    name, size = upload(farm, page, target | {"path": "a/{date}"})
    found = {each["Key"]: each["Size"] for each in client.list_objects_v2(Bucket=BUCKET)["Contents"]}
    assert {file.rpartition("/")[2]: bytes_ for file, bytes_ in found.items()}[name] == size
    assert not any("check" in file for file in found)


def test_recording_should_arrive_in_azurite(farm: RunningFarm, page: str, azurite_port: int) -> None:  # noqa: F811
    connection = connection_string(azurite_port)
    with BlobServiceClient.from_connection_string(connection) as service:
        container = service.create_container(BUCKET)
        name, size = upload(farm, page, {"type": "azure", "access_key": connection, "bucket": BUCKET})
        blob = container.get_blob_client(name).download_blob()
        content = blob.readall()
        assert len(content) == size
        assert bytes(blob.properties.content_settings.content_md5 or b"") == hashlib.md5(content).digest()
        container.delete_container()


def test_recording_should_arrive_by_openssh(
    farm: RunningFarm,
    page: str,
    ssh_server: SshServer,  # noqa: F811
    tmp_path: Path,
) -> None:
    target = {"type": "sftp", "host": "127.0.0.1", "port": ssh_server.port, "username": getuser()}
    target |= {"auth_method": "KEY", "private_key": ssh_server.key, "path": f"{tmp_path}/films"}
    name, size = upload(farm, page, target)
    assert (tmp_path / "films" / name).stat().st_size == size
