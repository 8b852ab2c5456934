import logging
import subprocess
import sys
import traceback
from collections.abc import Iterator
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import BlobServiceClient

from recording_farm.browser_bot.network.addresses import AddressRule, parse_address_rule
from recording_farm.farm.clock import now
from recording_farm.farm.errors import AddressRefusedError
from recording_farm.farm.storage.backend import Checkpoint, Part, StorageError
from recording_farm.farm.storage.backends.azure import AzureBackend, AzureContainer
from recording_farm.farm.storage.customer import check_target_address, open_backend
from recording_farm.farm.storage.parts import SentPart
from recording_farm.farm.storage.targets import TARGET, Target, key_of
from testkit.storage.azure_account import AZURE_KEY, connection_string
from testkit.storage.buckets import bucket_at
from testkit.storage.google_tokens import service_account
from testkit.storage.parts import put_in_parts
from testkit.storage.servers import SshServer

SECRET = "hushhush"
AWS = {"type": "aws", "access_key": "AKEY", "secret": SECRET, "bucket": "films", "region": "eu-west-1"}


@pytest.fixture
def bucket(s3_endpoint: str) -> Iterator[Any]:
    with bucket_at(s3_endpoint, "customer-films") as films:
        yield films


def target_of(**fields: Any) -> Target:
    target: Target = TARGET.validate_python(fields)
    return target


def s3_target(endpoint: str, **fields: Any) -> Target:
    return target_of(
        **AWS | {"type": "s3", "endpoint": endpoint, "region": "", "bucket": "customer-films"} | fields
    )


def sftp_target(server: SshServer, **fields: Any) -> Target:
    return target_of(
        **{"type": "sftp", "host": "127.0.0.1", "port": server.port, "username": getuser()}
        | {"auth_method": "KEY", "private_key": server.key}
        | fields
    )


def key_in(target: Target, name: str) -> str:
    return key_of(target.path, name, {"meeting_id": "m"}, now())


def test_file_should_arrive_in_s3_with_all_that_the_target_asks_for(
    s3_endpoint: str, bucket: Any, film: Path, checkpoint: Checkpoint
) -> None:
    target = s3_target(
        s3_endpoint,
        path="/{meeting_id}/films/",
        encryption={"type": "SSE-KMS", "kms_key_id": "arn:aws:kms:us-east-1:1:key/k"},
        metadata={"Team": "a b"},
        tags={"team + co": "a/b=c"},
    )
    placed = open_backend(target, None).upload(film, key_in(target, "film.mp4"), checkpoint, "video/mp4")
    assert placed.location == "s3://customer-films/m/films/film.mp4"
    head = bucket.Object("m/films/film.mp4")
    assert head.content_length == film.stat().st_size
    assert (head.server_side_encryption, head.metadata) == ("aws:kms", {"team": "a b"})
    tags = bucket.meta.client.get_object_tagging(Bucket=bucket.name, Key="m/films/film.mp4")["TagSet"]
    assert tags == [{"Key": "team + co", "Value": "a/b=c"}]


@pytest.mark.parametrize(
    ("fields", "host", "region"),
    [
        (AWS, "https://s3.eu-west-1.amazonaws.com", "eu-west-1"),
        (AWS | {"type": "digitalocean", "region": "SGP1"}, "https://sgp1.digitaloceanspaces.com", "sgp1"),
        (
            AWS | {"type": "cloudflare", "account_id": "0ab", "region": ""},
            "https://0ab.r2.cloudflarestorage.com",
            "auto",
        ),
        (
            AWS | {"type": "s3", "endpoint": "http://a.example:9000", "region": ""},
            "http://a.example:9000",
            "us-east-1",
        ),
    ],
)
def test_s3_and_its_relatives_should_be_reached_where_they_are(
    fields: dict[str, Any], host: str, region: str
) -> None:
    place = open_backend(target_of(**fields), None)._backend
    meta = place._client.meta  # type: ignore[attr-defined]
    assert (meta.endpoint_url, meta.region_name) == (host, region)


@pytest.mark.parametrize("absolute", [True, False])
def test_sftp_path_should_stay_absolute_or_relative(
    ssh_server: SshServer, tmp_path: Path, film: Path, checkpoint: Checkpoint, absolute: bool
) -> None:
    home = Path.home()
    path = f"{tmp_path}/films/" if absolute else f"farm-test-{tmp_path.name}/films"
    target = sftp_target(ssh_server, path=path)
    place = open_backend(target, None)
    placed = place.upload(film, key_in(target, "film.mp4"), checkpoint, "video/mp4")
    arrived = (home / path) / "film.mp4"
    try:
        assert placed.location.endswith(f"{path.strip('/')}/film.mp4")
        assert arrived.read_bytes() == film.read_bytes()
    finally:
        arrived.unlink()
        arrived.parent.rmdir()
        if not absolute:
            arrived.parent.parent.rmdir()


def test_other_host_key_should_be_refused_with_the_way_to_accept_it(ssh_server: SshServer) -> None:
    target = sftp_target(ssh_server)
    assert open_backend(target, None).host_key is None
    place = open_backend(target, None)
    place.check_writing()
    assert place.host_key == ssh_server.host_key
    with pytest.raises(StorageError, match="set it as host_key in the storage_config") as raised:
        open_backend(target, None, host_key="SHA256:" + "A" * 43).check_writing()
    assert (raised.value.reason, raised.value.lasting) == ("wrong_host_key", True)
    accepting = sftp_target(ssh_server, host_key=ssh_server.host_key)
    open_backend(accepting, None, host_key="SHA256:" + "A" * 43).check_writing()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (AWS | {"region": "eu west 1"}, "unreachable"),
        ({"type": "azure", "access_key": SECRET, "bucket": "films"}, "wrong_key"),
        ({"type": "gcs", "secret": SECRET, "bucket": "films"}, "wrong_key"),
        (
            {"type": "sftp", "host": "a", "username": "u", "auth_method": "KEY", "private_key": SECRET},
            "wrong_key",
        ),
    ],
)
def test_target_that_can_be_no_place_should_be_said_without_its_secret(
    fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(StorageError) as raised:
        open_backend(target_of(**fields), None)
    assert (raised.value.reason, raised.value.lasting) == (reason, True)
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_bucket_that_can_be_none_should_be_said(s3_endpoint: str) -> None:
    with pytest.raises(StorageError, match="not a valid bucket name") as raised:
        open_backend(s3_target(s3_endpoint, bucket="a b/c"), None).check_writing()
    assert (raised.value.reason, raised.value.lasting) == ("no_bucket", True)


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "gcs", "secret": service_account(), "bucket": "-films-"},
        {"type": "gcs", "secret": "[" * 5000, "bucket": "films"},
        {
            "type": "azure",
            "bucket": "films",
            "access_key": f"AccountName=a;AccountKey={AZURE_KEY};BlobEndpoint=http://a..b",
        },
    ],
)
def test_what_a_library_takes_ill_should_be_said_and_no_other_error(
    fields: dict[str, Any], film: Path, checkpoint: Checkpoint
) -> None:
    with pytest.raises(StorageError) as raised:
        open_backend(target_of(**fields), None, tries=1).upload(film, "film.mp4", checkpoint, "video/mp4")
    for secret in (SECRET, AZURE_KEY, "PRIVATE KEY"):
        assert secret not in "".join(traceback.format_exception(raised.value))


def test_google_place_should_be_made_of_a_service_account() -> None:
    place = open_backend(target_of(type="gcs", secret=service_account(), bucket="films"), AddressRule())
    assert place.host_key is None


@pytest.mark.parametrize(
    "fields",
    [
        AWS | {"type": "s3", "endpoint": "http://127.0.0.1:9000"},
        AWS | {"type": "s3", "endpoint": "http://0x7f.1/"},
        AWS | {"type": "s3", "endpoint": "http://[::1]:9000"},
        AWS | {"type": "s3", "endpoint": "http://169.254.169.254"},
        {
            "type": "azure",
            "bucket": "b",
            "access_key": "BlobEndpoint=http://10.0.0.1/a;AccountName=a;AccountKey=a",
        },
        {
            "type": "azure",
            "bucket": "b",
            "access_key": "blobendpoint=http://localhost/a;sharedaccesssignature=s",
        },
        {"type": "azure", "bucket": "b", "access_key": "UseDevelopmentStorage=true"},
        {"type": "sftp", "host": "127.0.0.1", "username": "u", "auth_method": "PASSWORD", "password": "p"},
        {"type": "sftp", "host": "::1", "username": "u", "auth_method": "PASSWORD", "password": "p"},
    ],
)
async def test_target_at_a_private_address_should_be_refused_when_it_is_named(fields: dict[str, Any]) -> None:
    target = target_of(**fields)
    with pytest.raises(AddressRefusedError):
        await check_target_address(target, AddressRule())
    await check_target_address(target, parse_address_rule("all"))


async def test_target_at_a_public_address_should_be_taken() -> None:
    rule = AddressRule()
    await check_target_address(target_of(**AWS), rule)
    await check_target_address(s3_target("https://8.8.8.8"), rule)
    await check_target_address(s3_target("http://127.0.0.1:9000"), parse_address_rule("127.0.0.0/8"))
    await check_target_address(target_of(type="gcs", secret="{}", bucket="b"), rule)


def test_upload_should_leave_no_secret_in_the_log(
    s3_endpoint: str,
    azurite_port: int,
    ssh_server: SshServer,
    bucket: Any,  # noqa: ARG001
    tmp_path: Path,
    film: Path,
    checkpoint: Checkpoint,
    caplog: pytest.LogCaptureFixture,
) -> None:
    targets = [
        s3_target(s3_endpoint),
        target_of(type="azure", access_key=connection_string(azurite_port), bucket="films-of-log"),
        sftp_target(ssh_server, path=str(tmp_path / "remote")),
    ]
    with BlobServiceClient.from_connection_string(connection_string(azurite_port)) as service:
        service.create_container("films-of-log")
        with caplog.at_level(logging.DEBUG):
            for target in targets:
                place = open_backend(target, None)
                place.upload(film, "film.mp4", checkpoint, "video/mp4")
                place.link("film.mp4", 60, "film.mp4", "video/mp4")
                place.delete("film.mp4")
        service.delete_container("films-of-log")
    text = "\n".join(f"{record.name} {record.getMessage()}" for record in caplog.records)
    assert "recording_farm.farm.storage" in text
    for secret in (SECRET, AZURE_KEY, ssh_server.key.splitlines()[2], "ignature"):
        assert secret not in text


def test_signature_of_a_connection_string_should_be_in_no_message() -> None:
    text = "BlobEndpoint=http://127.0.0.1:9/a;SharedAccessSignature=sv=2022-11-02&sig=hushhush"
    assert SECRET not in AzureBackend(AzureContainer("films", text)).endpoint
    place = open_backend(target_of(type="azure", access_key=text, bucket="films"), None, tries=1)
    with pytest.raises(StorageError, match="cannot be reached") as raised:
        place.check_writing()
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_libraries_should_be_loaded_with_their_first_place_only() -> None:
    code = (
        "import sys\n"
        "from recording_farm.farm.storage import check, customer, presets\n"
        "print(sys.modules.keys() & {'boto3', 'botocore', 'azure', 'google.cloud', 'paramiko'})"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
    assert loaded.stdout.decode().strip() == "set()"


def test_file_should_be_uploaded_in_parts_with_all_that_the_target_asks_for(
    s3_endpoint: str, bucket: Any
) -> None:
    target = s3_target(s3_endpoint, metadata={"Team": "a b"}, tags={"a": "b"})
    place = open_backend(target, parse_address_rule("127.0.0.0/8"))
    assert place.part_rules.smallest == 5 << 20
    placed = put_in_parts(place, "m/film.mp4", b"head and body", ())
    assert (placed.location, placed.size) == ("s3://customer-films/m/film.mp4", 13)
    assert bucket.Object("m/film.mp4").metadata == {"team": "a b"}
    begun = place.begin_parts("m/film.mp4", "video/mp4")
    place.abort_parts("m/film.mp4", begun)
    assert list(bucket.multipart_uploads.all()) == []


def test_parts_should_go_to_allowed_addresses_only(s3_endpoint: str) -> None:
    place = open_backend(s3_target(s3_endpoint), AddressRule())
    for act in (
        lambda: place.begin_parts("film.mp4", "video/mp4"),
        lambda: place.send_part("film.mp4", {"upload_id": "1"}, Part(1, 0, 1), b"1"),
        lambda: place.finish_parts(
            "film.mp4", {"upload_id": "1", "began": 0}, [SentPart(Part(1, 0, 1), {"etag": "", "md5": ""})]
        ),
        lambda: place.abort_parts("film.mp4", {"upload_id": "1"}),
    ):
        with pytest.raises(StorageError) as raised:
            act()
        assert raised.value.reason == "address_refused"
        assert raised.value.__cause__ is None
