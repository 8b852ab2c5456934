import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from recording_farm.farm.errors import SettingsError
from recording_farm.farm.webhooks.signature import load_signing_key
from testkit.settings import settings_with


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def test_key_should_be_made_once_and_be_readable_by_the_owner_alone(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, None)
    with ThreadPoolExecutor(4) as threads:
        keys = list(threads.map(lambda _: load_signing_key(settings).public_pem, range(4)))
    assert len(set(keys)) == 1
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_key_of_the_settings_should_be_used(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    file = tmp_path / "key.pem"
    file.write_bytes(pem(key))
    settings = settings_with(tmp_path / "data", None, webhook_key=file)
    assert load_signing_key(settings).sign(b"x") == load_signing_key(settings).sign(b"x")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"secret text",
        pem(rsa.generate_private_key(65537, 1024)),
        pem(ec.generate_private_key(ec.SECP256R1())),
        pem(rsa.generate_private_key(65537, 2048), b"password"),
    ],
    ids=["empty", "binary", "text", "short", "elliptic", "encrypted"],
)
def test_unusable_key_should_be_refused_without_being_shown(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="FARM_WEBHOOK_KEY") as refused:
        load_signing_key(settings_with(tmp_path, None, webhook_key=file))
    assert "secret" not in str(refused.value)


def test_missing_key_should_be_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"FARM_WEBHOOK_KEY: .*cannot be read"):
        load_signing_key(settings_with(tmp_path, None, webhook_key=tmp_path / "none.pem"))
