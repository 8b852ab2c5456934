"""FARM_CA_FILE: certificate authorities to trust in addition to the system's.

Most libraries read authorities from environment variables: OpenSSL (webhooks, watermarks, Redis, and ffmpeg,
see `farm.live.outputs`) from SSL_CERT_FILE, requests (Azure, Google, traces) from REQUESTS_CA_BUNDLE, boto3
from AWS_CA_BUNDLE. These are set to a bundle of all authorities in the data directory, for this process and
its children. Chromium reads authorities from an NSS database in its home directory; each stage gets a copy
of one that is built here.
"""

import hashlib
import os
import re
import shlex
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from recording_farm.browser_bot.stage.programs import child_environment
from recording_farm.farm.errors import SettingsError
from recording_farm.farm.host.programs import NSS_PACKAGE, required_program

_VARIABLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")
_DIRECTORY: Final = "authorities"
"""In the data directory."""

_MAX_BYTES: Final = 4 << 20
_CERTUTIL_SECONDS: Final = 60.0
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII)


def read_authorities(file: Path) -> tuple[str, ...]:
    """The certificates in a PEM file, as PEM. Raises ValueError, for the operator, if there are none."""
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise ValueError(f"the file has more than {_MAX_BYTES >> 20} MiB")
    from cryptography import x509  # a slow import

    found = tuple(_PEM.findall(content.decode("latin-1")))
    if not found or content.count(b"BEGIN CERTIFICATE-----") != len(found):
        raise ValueError("the file has no certificates as PEM (-----BEGIN CERTIFICATE-----), or broken ones")
    for number, certificate in enumerate(found, 1):
        try:
            x509.load_pem_x509_certificate(certificate.encode())
        except ValueError:
            raise ValueError(f"certificate {number} in the file is broken") from None
    return found


def trust(file: Path | None, data_dir: Path) -> None:
    """Make this process and its children trust the authorities in `file` in addition to the system's.

    Raises SettingsError when the data directory is not writable, and ValueError as `read_authorities`.
    """
    if file is None:
        return
    import certifi

    own = "\n".join(read_authorities(file)) + "\n"
    named = {Path(name) for variable in _VARIABLES if (name := os.environ.get(variable))}
    if any(_is_ours(path, data_dir) and path.read_text().startswith(own) for path in named):
        return  # the parent process has already done it
    named |= {Path(certifi.where()), Path(ssl.get_default_verify_paths().openssl_cafile)}
    others = sorted(path for path in named if path.is_file() and not _is_ours(path, data_dir))
    content = own + "".join(path.read_text(errors="replace") + "\n" for path in others)

    def write(directory: Path) -> None:
        (directory / "all.pem").write_text(content)

    bundle = _made(data_dir, "bundle", content, write) / "all.pem"
    os.environ.update(dict.fromkeys(_VARIABLES, str(bundle)))


def _is_ours(path: Path, data_dir: Path) -> bool:
    return path.parent.parent == data_dir / _DIRECTORY and path.is_file()


def nss_database(file: Path | None, data_dir: Path) -> Path | None:
    """The directory of an NSS database with the authorities in `file`; built on first use.

    Raises ProgramMissingError without `certutil`, SettingsError when the database cannot be built, and
    ValueError as `read_authorities`.
    """
    if file is None:
        return None
    certificates = read_authorities(file)

    def write(directory: Path) -> None:
        certutil = [str(required_program("certutil", NSS_PACKAGE)), "-d", f"sql:{directory}"]
        with tempfile.TemporaryDirectory() as name:
            commands = []
            for number, certificate in enumerate(certificates):
                one = Path(name) / f"{number}.pem"
                one.write_text(certificate + "\n")
                # C: an authority for servers. P: a self-signed certificate of one server.
                commands.append(f"-A -n farm-{number} -t CP,, -i {shlex.quote(str(one))}\n")
            batch = Path(name) / "batch"
            batch.write_text("".join(commands))
            _run([*certutil, "-N", "--empty-password"])
            _run([*certutil, "-B", "-i", str(batch)])

    return _made(data_dir, "nssdb", "\n".join(certificates), write)


def _made(data_dir: Path, name: str, content: str, write: Callable[[Path], None]) -> Path:
    """A directory filled by `write`; cached by the hash of `content`."""
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    directory = data_dir / _DIRECTORY / f"{name}-{digest}"
    if directory.is_dir():
        return directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{name}-draft-", dir=directory.parent))
        try:
            write(draft)
            draft.chmod(0o755)
            try:
                draft.rename(directory)
            except OSError:
                if not directory.is_dir():  # else another process was faster
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise SettingsError(f"FARM_CA_FILE: {directory} cannot be written: {error}") from None
    return directory


def _run(words: list[str]) -> None:
    try:
        subprocess.run(
            words,
            check=True,
            capture_output=True,
            text=True,
            timeout=_CERTUTIL_SECONDS,
            env=child_environment(),
        )
    except subprocess.TimeoutExpired:
        raise SettingsError("certutil takes too long to read FARM_CA_FILE") from None
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        raise SettingsError(f"certutil cannot read FARM_CA_FILE: {lines[-1]}") from None
