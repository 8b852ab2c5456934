"""The API with a certificate of its own."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from recording_farm.api import listener, server
from recording_farm.browser_bot.network.addresses import parse_address_rule
from recording_farm.browser_bot.network.gateway import open_gateway
from recording_farm.farm.cli.health import check_health
from recording_farm.farm.config.settings import Settings, load_settings
from recording_farm.farm.errors import SettingsError
from recording_farm.farm.host import tls_files
from recording_farm.farm.host.tls_files import TlsFiles
from testkit.network.authorities import Authority, own_authority
from testkit.network.ports import free_port, wait_for_port


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return own_authority(tmp_path)


def pair(authority: Authority, directory: Path, *, expired: bool = False) -> TlsFiles:
    """A certificate and its key, in two files."""
    put_pair(authority, directory, "farm.test", expired=expired)
    return TlsFiles(directory / "cert.pem", directory / "key.pem")


def put_pair(authority: Authority, directory: Path, name: str, *, expired: bool = False) -> None:
    authority.server(name, expired=expired)
    both = (authority.file.with_name(f"{name}-{'old' if expired else 'good'}.pem")).read_text()
    certificate, _, key = both.partition("-----BEGIN PRIVATE KEY-----")
    (directory / "cert.pem").write_text(certificate)
    (directory / "key.pem").write_text(f"-----BEGIN PRIVATE KEY-----{key}")


@pytest.fixture
def secure(
    settings: Settings, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """The settings of an API that runs with TLS."""
    monkeypatch.setattr(tls_files, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(server, "CHECK_SECONDS", 0.1)
    put_pair(authority, tmp_path, "farm.test")
    changes = {
        "tls_certificate": tmp_path / "cert.pem",
        "tls_key": tmp_path / "key.pem",
        "port": free_port(),
    }
    settings = settings.model_copy(update=changes)
    api = server.server_of(settings)
    thread = threading.Thread(target=api.run, daemon=True)
    thread.start()
    wait_for_port(settings.port)
    yield settings
    api.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def test_api_should_speak_https(secure: Settings, authority: Authority) -> None:
    trusting = ssl.create_default_context(cafile=authority.file)
    assert secure.base_url == f"https://127.0.0.1:{secure.port}"
    with httpx.Client(verify=trusting, base_url=secure.base_url) as client:
        assert client.get("/healthz").status_code == 200
        login = client.get("/login")
        assert login.status_code == 200
    assert check_health(secure) == {"api": True}
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{secure.port}/healthz", trust_env=False)


@pytest.mark.parametrize(("version", "is_accepted"), [("--tlsv1.2", True), ("--tlsv1.1", False)])
def test_oldest_version_should_be_1_2(
    secure: Settings, authority: Authority, version: str, is_accepted: bool
) -> None:
    command = ["curl", "-s", "--cacert", str(authority.file), version, "--tls-max", version[-3:]]
    command += ["--ciphers", "DEFAULT@SECLEVEL=0", "--noproxy", "*", f"{secure.local_url}/healthz"]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert (done.returncode == 0) is is_accepted


def served_names(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port))


def test_renewed_certificate_should_be_served_without_a_restart(
    secure: Settings, authority: Authority, tmp_path: Path
) -> None:
    before = served_names(secure.port)
    (tmp_path / "cert.pem").write_text("half")
    time.sleep(0.5)
    assert served_names(secure.port) == before
    put_pair(authority, tmp_path, "renewed.test")
    deadline = time.monotonic() + 15
    while served_names(secure.port) == before:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_handshake_without_end_should_be_given_up(secure: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HEADER_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", secure.port), timeout=15) as client:
        assert client.recv(1) == b""


async def test_recorders_browser_should_open_the_meeting_whatever_name_the_certificate_has(
    secure: Settings,
) -> None:
    rule = parse_address_rule("")
    page = secure.page_of("demo")
    assert page.startswith("http://127.0.0.1:")
    async with open_gateway(rule, secure.built_in_meetings, secure.local_tls) as (gateway, proxy):
        async with httpx.AsyncClient(proxy=proxy) as client:
            assert (await client.get(page)).status_code == 200
            assert (await client.get(f"http://127.0.0.1:{secure.port}/v2/recordings")).status_code == 403
        assert await gateway.can_reach(page)


def test_bad_files_should_be_named(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"FARM_TLS_CERTIFICATE: .*has expired on"):
        pair(authority, tmp_path, expired=True)
    put_pair(authority, tmp_path, "a.test")
    shutil.copy(tmp_path / "key.pem", tmp_path / "other.pem")
    put_pair(authority, tmp_path, "b.test")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    with pytest.raises(SettingsError, match=r"FARM_TLS_KEY: .*other\.pem is not the key of"):
        TlsFiles(certificate, tmp_path / "other.pem")
    with pytest.raises(SettingsError, match=r"FARM_TLS_KEY: .* cannot be read: No such file"):
        TlsFiles(certificate, tmp_path / "missing.pem")
    with pytest.raises(SettingsError, match=r"FARM_TLS_CERTIFICATE: .* has no certificate as PEM"):
        TlsFiles(key, key)
    with pytest.raises(SettingsError, match=r"FARM_TLS_KEY: .* has no private key as PEM"):
        TlsFiles(certificate, certificate)
    locked = tmp_path / "locked.pem"
    command = ["openssl", "pkcs8", "-topk8", "-in", str(key), "-out", str(locked), "-passout", "pass:secret"]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(SettingsError, match="has a passphrase"):
        TlsFiles(certificate, locked)


def test_pair_that_cannot_be_used_should_leave_the_one_before(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = pair(authority, tmp_path)
    before = files.context
    key = (tmp_path / "key.pem").read_text()
    put_pair(authority, tmp_path, "renewed.test")
    renewed = (tmp_path / "key.pem").read_text()
    (tmp_path / "key.pem").write_text(key)
    for _ in range(3):
        files.reload()
    assert files.context is before
    assert len([line for line in caplog.records if "stays in use" in line.message]) == 1
    (tmp_path / "key.pem").write_text(renewed)
    files.reload()
    assert files.context is not before


def test_one_of_the_two_settings_should_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_TLS_CERTIFICATE", "/etc/hostname")
    with pytest.raises(SettingsError, match="set FARM_TLS_KEY too"):
        load_settings()
