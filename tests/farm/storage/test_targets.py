from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from recording_farm.farm.storage.targets import (
    TARGET,
    AwsTarget,
    PresetTarget,
    StorageConfig,
    endpoint_of,
    key_of,
    public,
    with_secrets,
)

AWS = {"type": "aws", "access_key": "AK", "secret": "hush", "bucket": "films", "region": "eu-west-1"}
SFTP = {
    "type": "sftp",
    "host": "files.example.com",
    "username": "u",
    "auth_method": "PASSWORD",
    "password": "hush",
}
ALL: list[dict[str, Any]] = [
    AWS,
    {**AWS, "path": "{meeting_id}/{date}", "encryption": {"type": "SSE-KMS", "kms_key_id": "k"}},
    {**AWS, "type": "digitalocean", "region": "SGP1"},
    {**AWS, "type": "cloudflare", "account_id": "0abc", "region": ""},
    {**AWS, "type": "s3", "endpoint": "https://s3.example.com:9000"},
    {"type": "azure", "access_key": "AccountKey=hush", "secret": "", "bucket": "films", "region": ""},
    {"type": "gcs", "secret": '{"private_key": "hush"}', "bucket": "films", "region": "US multi-region"},
    SFTP,
    {**SFTP, "auth_method": "KEY", "private_key": "hush", "port": 2222},
    {**AWS, "session_token": "hush"},
    {**AWS, "sessionToken": "hush", "type": "cloudflare", "account_id": "0abc"},
]


@pytest.mark.parametrize("config", ALL)
def test_target_should_come_back_whole_and_show_no_secret(config: dict[str, Any]) -> None:
    target = TARGET.validate_python(config)
    assert TARGET.validate_python(with_secrets(target)) == target
    assert "hush" not in str(public(target))
    assert "hush" not in repr(target)
    assert public(target)["type"] == config["type"]


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("Files.example.com.", "files.example.com"),
        ("straße.test", "xn--strae-oqa.test"),
        ("１２７.0.0.1", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("::1", "::1"),
        ("[2001:DB8::1]", "2001:db8::1"),
    ],
)
def test_host_of_an_sftp_server_should_be_read_as_in_urls(written: str, host: str) -> None:
    assert public(TARGET.validate_python({**SFTP, "host": written}))["host"] == host


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"type": "ftp"}, "type"),
        ({}, "type"),
        ({**AWS, "region": None}, "region"),
        ({**AWS, "secret": ""}, "secret"),
        ({**AWS, "secret_key": "x"}, "secret_key"),
        ({**AWS, "session_token": "a\nb"}, "session_token"),
        ({**AWS, "session_token": "a", "sessionToken": "b"}, "sessionToken"),
        ({**AWS, "path": "../up"}, "path"),
        ({**AWS, "path": "{user}"}, "path"),
        ({**AWS, "path": "{date"}, "path"),
        ({**AWS, "encryption": {"type": "SSE-S3", "kms_key_id": "k"}}, "encryption"),
        ({**AWS, "type": "s3", "endpoint": "file:///etc"}, "endpoint"),
        ({**AWS, "type": "s3", "endpoint": "http://u:p@host"}, "endpoint"),
        ({**AWS, "type": "digitalocean", "region": "evil.example.com/"}, "region"),
        ({**AWS, "tags": {str(i): "" for i in range(11)}}, "tags"),
        ({**AWS, "tags": {"a&b": "c"}}, "tags"),
        ({**AWS, "metadata": {str(i): "" for i in range(11)}}, "metadata"),
        ({**AWS, "metadata": {"team": "ä"}}, "metadata"),
        ({**AWS, "metadata": {"team": "a\nb"}}, "metadata"),
        ({**AWS, "metadata": {"te am": "a"}}, "metadata"),
        ({**AWS, "path": "a/./b"}, "path"),
        ({**AWS, "path": "a\u0007"}, "path"),
        ({**SFTP, "port": "22"}, "port"),
        ({**SFTP, "port": True}, "port"),
        ({**SFTP, "password": None}, "sftp"),
        ({**SFTP, "auth_method": "KEY"}, "sftp"),
        ({**SFTP, "port": 0}, "port"),
        ({**SFTP, "host": ""}, "host"),
        ({**SFTP, "host": "sftp://files.example.com"}, "host"),
        ({**SFTP, "host": "files example.com"}, "host"),
        ({**SFTP, "host": "files.example.com:22"}, "host"),
    ],
)
def test_wrong_field_should_be_named(config: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as raised:
        TARGET.validate_python(config)
    assert field in str(raised.value.errors(include_input=False))
    assert "hush" not in str(raised.value.errors(include_input=False))


@pytest.mark.parametrize("config", ALL)
def test_shown_target_should_be_its_public_part_alone(config: dict[str, Any]) -> None:
    shown = public(TARGET.validate_python(config))
    assert shown.keys() <= config.keys() - {"secret", "password", "private_key", "access_key"}


def test_request_should_name_a_storage_or_a_preset() -> None:
    config: TypeAdapter[StorageConfig] = TypeAdapter(StorageConfig)
    assert config.validate_python({"type": "preset", "name": "archive"}) == PresetTarget(
        type="preset", name="archive"
    )
    assert isinstance(config.validate_python(AWS), AwsTarget)
    for wrong in ({"type": "preset"}, {"type": "preset", "name": "a/b"}, {"type": "preset", "name": ""}):
        with pytest.raises(ValidationError):
            config.validate_python(wrong)


@pytest.mark.parametrize(
    ("number", "endpoint"),
    [
        (0, None),
        (2, "https://sgp1.digitaloceanspaces.com"),
        (3, "https://0abc.r2.cloudflarestorage.com"),
        (4, "https://s3.example.com:9000"),
    ],
)
def test_endpoint_should_follow_from_the_kind(number: int, endpoint: str | None) -> None:
    assert endpoint_of(TARGET.validate_python(ALL[number])) == endpoint


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("", "film.mp4"),
        ("/a//b/", "a/b/film.mp4"),
        ("{meeting_id}/{date}", "x_y/2026-01-31/film.mp4"),
        ("{year}/{month}/{day}/{recording_id}", "2026/01/31/r/film.mp4"),
        ("{organization_id}", "_/film.mp4"),
    ],
)
def test_key_should_fill_in_the_path_safely(path: str, key: str) -> None:
    values = {"meeting_id": "x/../y", "recording_id": "r", "organization_id": ".."}
    invoked = datetime(2026, 1, 31, 23, tzinfo=UTC)
    assert key_of(path, "film.mp4", values, invoked) == key.replace("x_y", "x_.._y")
