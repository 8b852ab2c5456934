"""Authorities of the operator's own, and what is said of certificates that are not valid."""

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from recording_farm.browser_bot.errors import PageError
from recording_farm.browser_bot.network.addresses import parse_address_rule
from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.stage.stage import Stage, open_stage
from recording_farm.farm.cli.doctor import CHECKS
from recording_farm.farm.config.settings import Settings, load_settings
from recording_farm.farm.errors import ProgramMissingError, SettingsError
from recording_farm.farm.host.ca_file import nss_database, read_authorities
from recording_farm.farm.pages.watermark import fetch
from recording_farm.farm.webhooks.request import Poster
from testkit.network.authorities import Authority, https_server, own_authority

VARIABLES = {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"}
LOOPBACK = parse_address_rule("127.0.0.0/8,::1")

# What each library says of a server at argv[1], in a process that was started as the farm starts its own.
CLIENTS = """
import asyncio, json, os, sys
from recording_farm.farm.host.ca_file import trust
from recording_farm.farm.config.settings import load_settings
settings = load_settings()
trust(settings.ca_file, settings.data_dir)
url, port = sys.argv[1], int(sys.argv[1].rpartition(":")[2])
from recording_farm.browser_bot.network.addresses import parse_address_rule
from recording_farm.farm.storage.backends.azure import AzureContainer, AzureBackend
from recording_farm.farm.storage.backends.gcs import GcsBucket, GcsBackend
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.backends.s3 import S3Backend
from recording_farm.farm.storage.backends.s3_client import S3Bucket
from recording_farm.farm.webhooks.request import Poster
import redis, requests
told = {}
def storage(name, make):
    try:
        make().check()
        told[name] = "trusted"
    except StorageError as error:
        told[name] = error.message if error.reason == "bad_certificate" else error.reason
storage("s3", lambda: S3Backend(S3Bucket("bucket", "a", "b", endpoint=url), tries=1))
connection = f"BlobEndpoint={url}/account;AccountName=account;AccountKey=a2V5"
storage("azure", lambda: AzureBackend(AzureContainer("container", connection), tries=1))
async def post():
    async with Poster(parse_address_rule("127.0.0.0/8,::1"), 5) as poster:
        answer = await poster.post(url, b"{}", {})
        told["webhook"] = answer.error or "trusted"
asyncio.run(post())
try:
    requests.post(url, b"", timeout=5)
    told["traces"] = "trusted"
except requests.exceptions.SSLError as error:
    told["traces"] = str(error)
try:
    redis.Redis.from_url(url.replace("https:", "rediss:"), socket_timeout=1, retry=None).ping()
except redis.RedisError as error:
    told["redis"] = "CERTIFICATE" if "CERTIFICATE_VERIFY" in str(error) else "trusted"
told["variables"] = [os.environ[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")
                     if name in os.environ]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return own_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def https(authority: Authority) -> Iterator[int]:
    with https_server(authority.server("localhost")) as port:
        yield port


def told_by_clients(port: int, **variables: str) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", CLIENTS, f"https://localhost:{port}"],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_every_client_should_trust_the_authorities_of_the_operator(
    authority: Authority, https: int, tmp_path: Path
) -> None:
    told = told_by_clients(https, FARM_CA_FILE=str(authority.file), FARM_DATA_DIR=str(tmp_path))
    variables = set(told.pop("variables"))
    # The server is none of these, but it is asked.
    assert told == dict.fromkeys(told, "trusted") | {"s3": "failed", "azure": "failed"}
    (bundle,) = variables
    # The system's are trusted as before.
    assert Path(bundle).read_text().count("BEGIN CERTIFICATE") > 50
    # A process that the first one starts finds what it needs.
    again = told_by_clients(
        https,
        FARM_CA_FILE=str(authority.file),
        FARM_DATA_DIR=str(tmp_path),
        SSL_CERT_FILE=bundle,
        REQUESTS_CA_BUNDLE=bundle,
        AWS_CA_BUNDLE=bundle,
    )
    assert set(again.pop("variables")) == {bundle}
    assert again == told


def test_every_client_should_say_that_it_is_the_certificate(https: int, tmp_path: Path) -> None:
    told = told_by_clients(https, FARM_DATA_DIR=str(tmp_path))
    assert told.pop("variables") == []
    assert told.pop("redis") == "CERTIFICATE"
    assert "CERTIFICATE_VERIFY_FAILED" in told.pop("traces")
    assert len(told) == 3
    assert "it is signed by Own Room CA, an authority that is not trusted here" in told["webhook"]
    for said in told.values():
        assert said.startswith("the server's certificate is not valid: it is signed by")
        assert "FARM_CA_FILE" in said


@pytest.mark.parametrize(
    ("name", "expired", "words"),
    [
        ("localhost", True, f"it has expired on {datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"),
        ("other.test", False, "it is for another name: other.test, 127.0.0.1"),
    ],
)
async def test_webhook_and_watermark_should_say_what_is_wrong_with_a_certificate(
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    expired: bool,
    words: str,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.setattr("recording_farm.farm.safe_http._tls", ssl.create_default_context)
    with https_server(authority.server(name, expired=expired)) as port:
        # Of localhost's two addresses the second one has no server.
        async with Poster(LOOPBACK, 5) as poster:
            answer = await poster.post(f"https://localhost:{port}/hook", b"{}", {})
        assert answer.error == f"the server's certificate is not valid: {words}"
        assert answer.unreachable
        with pytest.raises(Exception, match=f"cannot be fetched: the server's certificate .* {words}"):
            await fetch(f"https://localhost:{port}/mark.svg", LOOPBACK)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Any:
    database = nss_database(authority.file, tmp_path_factory.mktemp("data"))
    async with open_stage(640, 360, 30, authorities=database) as stage:
        yield stage


@pytest.mark.asyncio(loop_scope="module")
async def test_browser_should_trust_them_and_say_what_is_wrong_with_others(
    stage: Stage, authority: Authority, https: int, tmp_path: Path
) -> None:
    page = stage.browser.page
    await page.goto(f"https://localhost:{https}/")
    assert await page.inner_text("h1") == "a room of our own"
    stranger = own_authority(tmp_path, "Stranger CA")
    cases = {
        stranger.server("localhost"): "it is signed by an authority that is not trusted here",
        authority.server("localhost", expired=True): "it has expired",
        authority.server("other.test"): "it is for another name",
    }
    for tls, words in cases.items():
        with https_server(tls) as port:
            bot = Bot(stage.browser, PageContract.PLAIN)
            with pytest.raises(PageError, match=f"the server's certificate is not valid: {words}"):
                await bot.join(f"https://localhost:{port}/", seconds=20, tries=1)


def test_certificate_of_one_server_should_do(tmp_path: Path) -> None:
    # Many appliances sign for themselves, and that is what their operators have.
    database = nss_database(own_authority(tmp_path, "localhost").file, tmp_path / "data")
    assert database is not None
    assert {file.name for file in database.iterdir()} == {"cert9.db", "key4.db", "pkcs11.txt"}
    assert nss_database(own_authority(tmp_path, "other").file, tmp_path / "data") != database
    assert nss_database(None, tmp_path) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("", "no certificates as PEM"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "certificate 1 in the file is broken",
        ),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", "no certificates as PEM"),
    ],
)
def test_file_without_certificates_should_be_reported_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, words: str
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("FARM_CA_FILE", str(file))
    with pytest.raises(SettingsError, match=f"FARM_CA_FILE: .*{words}"):
        load_settings()
    (check,) = (check for name, _, check in CHECKS if name == "authorities")
    assert check(1.0).status == "broken"
    assert words in check(1.0).detail


@pytest.mark.parametrize("command", ["up", "worker", "api"])
def test_farm_should_not_start_without_the_file(tmp_path: Path, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "recording_farm.farm.cli", command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"FARM_DATA_DIR": str(tmp_path / "data"), "FARM_CA_FILE": str(tmp_path / "none")},
    )
    assert done.returncode
    assert "FARM_CA_FILE: the file cannot be read: No such file or directory" in done.stderr


def test_machine_without_certutil_should_be_reported(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramMissingError, match=r"certutil is not installed.*libnss3-tools"):
        nss_database(authority.file, tmp_path / "data")
    assert Settings(ca_file=authority.file).ca_file == authority.file
    assert len(read_authorities(authority.file)) == 1
