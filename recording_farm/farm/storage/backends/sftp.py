"""SFTP, to any SSH server.

A file is uploaded as `.NAME.part` and renamed at the end. After a lost connection the upload resumes: the
partial file is read back for verification anyway, so no checkpoint is needed. In a write-only drop box, the
server's acknowledgments count, and the size if it is readable. Uploads in parts: see `sftp_parts`.
"""

import errno
import hashlib
import io
import logging
import posixpath
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)
from paramiko.sftp import CMD_VERSION

from recording_farm.farm.storage.backend import (
    CHECK_NAME,
    CHECK_TEXT,
    NOT_READ_BACK,
    Checkpoint,
    Part,
    StorageError,
    StoredObject,
    check_came_back,
    check_key,
    is_time_out,
    key_parts,
    left_behind,
)
from recording_farm.farm.storage.backends.counted_socket import CountedSocket
from recording_farm.farm.storage.backends.sftp_parts import (
    COPY_DATA,
    RULES,
    PartFiles,
    abort,
    begin,
    extensions_of,
    is_there,
    join,
    receipt_of,
)
from recording_farm.farm.storage.parts import (
    Data,
    PartRules,
    SentPart,
    check_part,
    in_order,
    no_parts,
    size_of,
    upload_gone,
)

logger = logging.getLogger(__name__)

WINDOW_BYTES: Final = 4 << 20
"""So much is on its way at a time."""
COMPARED_BYTES: Final = 4 << 20
"""So much of the end of what is there must be the file's before the upload goes on from it."""
_PIECE_BYTES: Final = 32 << 10
"""What every server takes and gives in one request."""

_TIMED_OUT: Final = "the server did not answer in time"
_UNREACHABLE: Final = (ConnectionError, socket.gaierror, paramiko.ssh_exception.NoValidConnectionsError)
_NO_WAY: Final = {errno.EHOSTUNREACH, errno.ENETUNREACH}

_KEY_KINDS: Final[dict[type, type[paramiko.PKey]]] = {
    RSAPrivateKey: paramiko.RSAKey,
    Ed25519PrivateKey: paramiko.Ed25519Key,
    EllipticCurvePrivateKey: paramiko.ECDSAKey,
}


@dataclass(frozen=True)
class SftpServer:
    """A server, its login, and the directory for files (created if missing).

    `path` is relative to the home directory unless it starts with a slash. With a `private_key` (PEM or
    OpenSSH format: RSA, Ed25519 or ECDSA), `password` is its passphrase. `host_key` is the fingerprint
    (`SHA256:…`) of the expected host key; None accepts any.
    """

    host: str
    username: str
    port: int = 22
    password: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    path: str = ""
    host_key: str | None = None


class SftpBackend:
    """The backend for a directory on an SSH server. It has no links."""

    host_key: str | None
    """The fingerprint of the server's host key at the last connection.

    For trust on first use, save it and pass it as the expected one from then on.
    """

    def __init__(self, server: SftpServer, *, connect_timeout: float = 10, read_timeout: float = 60) -> None:
        """Does not connect yet. The time-outs (s) apply to the login and to each response.

        Raises StorageError when the private key cannot be read, or needs another passphrase.
        """
        self._server = server
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._private_key = None if server.private_key is None else _private_key(server)
        self.host_key = server.host_key
        self._renames = True

    def upload(self, source: Path, key: str, checkpoint: Checkpoint, content_type: str) -> StoredObject:  # noqa: ARG002 - a file on an SSH server has no type
        """See `StorageBackend`. Resumes a partial file, and reads all of it back before it renames it."""
        size = source.stat().st_size
        target = self._path(key)
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
            with self._connected() as sftp:
                is_there = self._is_there(sftp, target, size, digest)
                if not is_there:
                    _make_directories(sftp, posixpath.dirname(target))
                    is_there = self._put(sftp, file, target, size, digest)
        checkpoint.clear()
        note = None if is_there else NOT_READ_BACK
        return StoredObject(f"{self._address}/{target.removeprefix('/')}", size, note)

    @property
    def part_rules(self) -> PartRules:
        """See `PartsBackend`."""
        return RULES

    def begin_parts(self, key: str, content_type: str) -> dict[str, Any]:  # noqa: ARG002 - see `upload`
        """See `PartsBackend`. The state has the host key: only this server gets the parts."""
        files = PartFiles.create(self._path(key))
        with self._connected() as sftp:
            if COPY_DATA not in sftp.extensions:
                raise no_parts(f"its server cannot copy files ({COPY_DATA})")
            _make_directories(sftp, posixpath.dirname(files.target))
            is_begun = False
            with _MayBeRefused(sftp):
                begin(sftp, files)
                is_begun = True
        if not is_begun:
            raise no_parts("its user may not make directories, or not read files")
        return {"token": files.token, "host_key": self.host_key}

    def send_part(self, key: str, begun: dict[str, Any], part: Part, data: Data) -> dict[str, Any]:
        """See `PartsBackend`. Reads the part back."""
        check_part(part, data)
        files = PartFiles.of(self._path(key), begun)
        with self._connected(begun["host_key"]) as sftp:
            try:
                with sftp.open(files.part(part.number), "w+b") as file:
                    _write_all(sftp, file, memoryview(data))
                    is_same = _has(file, memoryview(data))
            except FileNotFoundError:
                raise upload_gone() from None
        if not is_same:
            raise StorageError("damaged", f"part {part.number} was damaged in transit")
        return receipt_of(data)

    def finish_parts(self, key: str, begun: dict[str, Any], sent: Sequence[SentPart]) -> StoredObject:
        """See `PartsBackend`. The server joins the parts, each of which was read back before."""
        sent = in_order(sent)
        size = size_of(sent)
        files = PartFiles.of(self._path(key), begun)
        with self._connected(begun["host_key"]) as sftp:
            # An earlier attempt may have come as far as that, with its response lost.
            if not self._was_finished(sftp, files, sent):
                if not is_there(sftp, files):
                    raise upload_gone()
                join(sftp, files, sent)
                if not _rename(sftp, files.draft, files.target):
                    raise no_parts("its user may not rename files")
            with _MayBeRefused(sftp):
                abort(sftp, files)
        return StoredObject(f"{self._address}/{files.target.removeprefix('/')}", size)

    def abort_parts(self, key: str, begun: dict[str, Any]) -> None:
        """See `PartsBackend`."""
        with self._connected(begun["host_key"]) as sftp:
            abort(sftp, PartFiles.of(self._path(key), begun))

    def _was_finished(self, sftp: paramiko.SFTPClient, files: PartFiles, sent: Sequence[SentPart]) -> bool:
        """Whether an upload has become this file already."""
        first = sent[0]
        try:
            if sftp.stat(files.target).st_size != size_of(sent):
                return False
            with sftp.open(files.target, "rb") as file:
                # The beginning has the index: it is of this file alone.
                return receipt_of(b"".join(_read(file, 0, first.part.size))) == first.receipt
        except FileNotFoundError:
            return False

    def link(self, key: str, seconds: int, name: str, content_type: str) -> str | None:  # noqa: ARG002 - there is none
        """See `StorageBackend`: None."""
        return None

    def delete(self, key: str) -> None:
        """See `StorageBackend`."""
        with self._connected() as sftp:
            _remove(sftp, self._path(key))

    def check_writing(self, directory: str = "") -> list[str]:
        """See `CustomerBackend`. Writes, reads back and deletes a small file, as far as permitted.

        Directories created for it are deleted too.
        """
        key = check_key(directory, CHECK_NAME)
        with self._connected() as sftp:
            made = _make_directories(sftp, posixpath.dirname(self._path(key)))
            read, notes = _check_with(sftp, self._path(key))
            if read not in {None, CHECK_TEXT} and not notes:
                # Another check may have written the same file just then.
                read, notes = _check_with(sftp, self._path(check_key(directory)))
            for directory_made in reversed(made):
                try:
                    sftp.rmdir(directory_made)
                except OSError:  # it is not allowed, or an upload has put something there
                    notes.append(f"the check's directory {directory_made} stays there")
                    break
        if read is not None:
            check_came_back(read)
        return notes

    def _put(
        self, sftp: paramiko.SFTPClient, file: BinaryIO, target: str, size: int, digest: bytes
    ) -> bool | None:
        """Upload a file; returns whether it was verified, None if it is not readable."""
        directory, name = posixpath.split(target)
        draft = posixpath.join(directory, f".{name}.part")
        if self._renames:
            _send(sftp, file, draft, size)
            is_there = self._is_there(sftp, draft, size, digest)
            if is_there is False:
                sftp.remove(draft)
                raise StorageError("damaged", "the file was damaged in transit")
            if _rename(sftp, draft, target):
                return is_there
            _remove_or_empty(sftp, draft)
            # This server does not permit renames: write files under their final names.
            self._renames = False
        _send(sftp, file, target, size)
        is_there = self._is_there(sftp, target, size, digest)
        if is_there is False:
            raise StorageError("damaged", "the file was damaged in transit")
        return is_there

    def _path(self, key: str) -> str:
        return posixpath.join(self._server.path, *key_parts(key))

    @property
    def _address(self) -> str:
        host = f"[{self._server.host}]" if ":" in self._server.host else self._server.host
        return f"sftp://{self._server.username}@{host}:{self._server.port}"

    @contextmanager
    def _connected(self, host_key: str | None = None) -> Iterator["_Sftp"]:
        """A session on the server, if that has the expected `host_key`; errors become StorageErrors."""
        address = (self._server.host, self._server.port)
        with (
            self._explained(),
            socket.create_connection(address, self._connect_timeout) as connection,
            _counted(connection) as counted,
            paramiko.SSHClient() as client,
        ):
            # The library waits forever until the server accepts what it sends.
            milliseconds = round(self._read_timeout * 1000)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
            with _closed_after(self._connect_timeout, client):
                sftp = self._login(client, counted, host_key)
            with sftp:
                channel = sftp.get_channel()
                assert channel is not None
                channel.settimeout(self._read_timeout)
                try:
                    yield sftp
                except OSError as error:
                    if channel.closed and not isinstance(error, TimeoutError):
                        # The library raises several errors for a closed connection, none of its own.
                        raise EOFError from error
                    raise

    def _login(self, client: paramiko.SSHClient, connection: CountedSocket, expected: str | None) -> "_Sftp":
        host_key = _HostKey(self._server.host_key or expected)
        client.set_missing_host_key_policy(host_key)
        client.connect(
            self._server.host,
            self._server.port,
            self._server.username,
            password=None if self._private_key else self._server.password,
            pkey=self._private_key,
            timeout=self._connect_timeout,
            banner_timeout=self._connect_timeout,
            auth_timeout=self._connect_timeout,
            channel_timeout=self._connect_timeout,
            sock=connection,  # type: ignore[arg-type]  # it has what the library uses
            # Use no keys of the farm's own user.
            allow_agent=False,
            look_for_keys=False,
        )
        self.host_key = host_key.shown
        return _sftp_of(client, connection)

    def _is_there(self, sftp: paramiko.SFTPClient, path: str, size: int, digest: bytes) -> bool | None:
        """Whether this file is complete on the server; None if it is not readable."""
        found = hashlib.sha256()
        with _MayBeRefused(sftp):
            try:
                if sftp.stat(path).st_size != size:
                    return False
            except FileNotFoundError:
                return False
            with sftp.open(path, "rb") as file:
                for data in _read(file, 0, size):
                    found.update(data)
            return found.digest() == digest
        return None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors into StorageErrors for the customer."""
        server = f"{self._server.host}:{self._server.port}"
        try:
            yield
        except paramiko.BadAuthenticationType as error:
            ways = " or ".join(error.allowed_types)
            text = f"the server does not support this login, only {ways}"
            raise StorageError("wrong_key", text, lasting=True) from error
        except paramiko.AuthenticationException as error:
            raise self._login_explanation(error) from error
        except paramiko.SFTPError as error:
            raise StorageError("bad_answer", f"{server} does not speak SFTP: {error}") from error
        except (paramiko.SSHException, EOFError) as error:
            if _is_time_out(error):
                raise StorageError("timed_out", _TIMED_OUT) from error
            raise StorageError("unreachable", f"the connection to {server} was lost") from error
        except TimeoutError as error:
            raise StorageError("timed_out", _TIMED_OUT) from error
        except FileNotFoundError as error:
            raise StorageError("no_bucket", "the directory does not exist", lasting=True) from error
        except PermissionError as error:
            raise StorageError(
                "no_permission", "the user has no permission for this there", lasting=True
            ) from error
        except OSError as error:
            if isinstance(error, _UNREACHABLE) or error.errno in _NO_WAY:
                raise StorageError("unreachable", f"{server} cannot be reached") from error
            raise StorageError("failed", f"the server failed: {error}") from error

    def _login_explanation(self, error: paramiko.AuthenticationException) -> StorageError:
        # Only the message distinguishes a rejected login from a lost or silent server.
        if "timeout" in str(error):
            return StorageError("timed_out", _TIMED_OUT)
        if "EOF" in str(error):
            return StorageError("unreachable", "the server closed the connection during the login")
        kind = "password" if self._private_key is None else "key"
        return StorageError("wrong_key", f"the server rejects this user name and {kind}", lasting=True)


class _Sftp(paramiko.SFTPClient):
    """A client that refuses packets beyond the protocol's size."""

    counted: CountedSocket
    extensions: frozenset[str] = frozenset()

    def _read_packet(self) -> tuple[int, bytes]:
        kind, data = super()._read_packet()  # type: ignore[misc]
        if kind == CMD_VERSION:
            self.extensions = extensions_of(data)
        return kind, data

    def _read_all(self, n: int) -> bytes:
        self.counted.check_packet(n)
        data: bytes = super()._read_all(n)  # type: ignore[misc]
        return data


def _sftp_of(client: paramiko.SSHClient, connection: CountedSocket) -> _Sftp:
    transport = client.get_transport()
    assert transport is not None
    packets = transport.packetizer
    read_all = packets.read_all

    def read_checked(n: int, check_rekey: bool = False) -> bytes:
        connection.check_packet(n)
        return read_all(n, check_rekey)

    packets.read_all = read_checked  # type: ignore[method-assign]
    channel = transport.open_session()
    channel.invoke_subsystem("sftp")
    connection.follow(channel)
    sftp = type("_SftpOfConnection", (_Sftp,), {"counted": connection})(channel)
    assert isinstance(sftp, _Sftp)
    return sftp


@contextmanager
def _counted(connection: socket.socket) -> Iterator[CountedSocket]:
    """A socket with a limit; raises StorageError when the server exceeds it."""
    counted = CountedSocket(connection)
    try:
        yield counted
    except Exception as error:
        if counted.is_exceeded:
            text = "the server sends more than it was asked for; is this an SFTP server?"
            raise StorageError("bad_answer", text) from error
        raise


class _HostKey(paramiko.MissingHostKeyPolicy):
    """Accepts the expected host key, or any if there is none, before any credentials are sent."""

    def __init__(self, expected: str | None) -> None:
        self.shown = expected
        self._expected = expected

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002 - the library's signature
        self.shown = key.fingerprint
        if self._expected is not None and key.fingerprint != self._expected.rstrip("="):
            text = (
                f"{hostname} has the host key {key.fingerprint}, not the expected one; "
                "to accept it, set it as host_key in the storage_config"
            )
            raise StorageError("wrong_host_key", text, lasting=True)


@contextmanager
def _closed_after(seconds: float, client: paramiko.SSHClient) -> Iterator[None]:
    """Close the client after a time-out, which the library lacks for some steps.

    Raises TimeoutError then.
    """
    late = threading.Event()

    def close() -> None:
        late.set()
        client.close()

    timer = threading.Timer(seconds, close)
    timer.start()
    try:
        yield
    except (paramiko.SSHException, EOFError, OSError) as error:
        if late.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()


def _is_time_out(error: paramiko.SSHException | EOFError) -> bool:
    # The library's error when the server sent nothing in time and it then reads the host key.
    return is_time_out(error) or "No existing session" in str(error)


def _private_key(server: SftpServer) -> paramiko.PKey:
    # paramiko reads fewer formats than customers have.
    data = f"{(server.private_key or '').strip()}\n".encode()
    load = load_ssh_private_key if b"BEGIN OPENSSH" in data else load_pem_private_key
    passphrase = server.password.encode() if server.password else None
    try:
        try:
            key = load(data, passphrase)
        except TypeError:  # a passphrase for a key that has none, or none for one that has
            if passphrase is None:
                raise
            key = load(data, None)
        kind = _KEY_KINDS[next(base for base in _KEY_KINDS if isinstance(key, base))]
        text = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        return kind.from_private_key(io.StringIO(text))
    except (ValueError, TypeError, UnsupportedAlgorithm, StopIteration, paramiko.SSHException) as error:
        text = "the private key must be RSA, Ed25519 or ECDSA, and match the passphrase"
        raise StorageError("wrong_key", text, lasting=True) from error


def _send(sftp: paramiko.SFTPClient, file: BinaryIO, draft: str, size: int) -> None:
    """Append the rest of `file` to `draft`."""
    begin = _agreed(sftp, file, draft, size)
    logger.info("%s: uploading from byte %d of %d", draft, begin, size)
    with sftp.open(draft, "r+b" if begin else "wb") as remote:
        remote.seek(begin)
        file.seek(begin)
        while data := file.read(WINDOW_BYTES):
            _write_all(sftp, remote, data)


def _agreed(sftp: paramiko.SFTPClient, file: BinaryIO, draft: str, size: int) -> int:
    """How many bytes of `file` `draft` already has; 0 if it belongs to another file or is not readable."""
    with _MayBeRefused(sftp):
        try:
            there = sftp.stat(draft).st_size or 0
        except FileNotFoundError:
            return 0
        if there > size:
            return 0
        begin = max(0, there - COMPARED_BYTES)
        file.seek(begin)
        with sftp.open(draft, "rb") as remote:
            same = all(file.read(len(data)) == data for data in _read(remote, begin, there))
        return there if same and file.tell() == there else 0
    return 0


def _write_all(sftp: paramiko.SFTPClient, remote: paramiko.SFTPFile, data: bytes | memoryview) -> None:
    """Write some data at the position of an open file, up to a window at a time."""
    try:
        for begin in range(0, len(data), WINDOW_BYTES):
            _write(remote, bytes(data[begin : begin + WINDOW_BYTES]))
    except OSError as error:
        raise _writing_explanation(sftp, error) from error


def _write(remote: paramiko.SFTPFile, data: bytes) -> None:
    """Write with pipelining; when this returns, the server has acknowledged all writes."""
    remote.set_pipelined(True)
    remote.write(data[:-_PIECE_BYTES])
    # When the library waits for one response, it reads all pending ones.
    remote.set_pipelined(False)
    remote.write(data[-_PIECE_BYTES:])


def _writing_explanation(sftp: paramiko.SFTPClient, error: OSError) -> OSError | StorageError:
    channel = sftp.get_channel()
    if error.errno is not None or isinstance(error, TimeoutError) or channel is None or channel.closed:
        return error
    # The protocol has no code for a full disk, but writes to an open file rarely fail otherwise.
    return StorageError("full", "the server's disk is full, or a quota is exceeded")


def _read(remote: paramiko.SFTPFile, begin: int, end: int) -> Iterator[bytes]:
    """Read the bytes from `begin` to `end` with pipelining, up to a window."""
    for window in range(begin, end, WINDOW_BYTES):
        window_end = min(window + WINDOW_BYTES, end)
        yield from remote.readv(
            [
                (offset, min(_PIECE_BYTES, window_end - offset))
                for offset in range(window, window_end, _PIECE_BYTES)
            ]
        )


def _has(remote: paramiko.SFTPFile, data: memoryview) -> bool:
    """Whether an open file begins with `data`."""
    position = 0
    for piece in _read(remote, 0, len(data)):
        if piece != data[position : position + len(piece)]:
            return False
        position += len(piece)
    return position == len(data)


def _make_directories(sftp: paramiko.SFTPClient, path: str) -> list[str]:
    """Create a directory with its missing parents; returns the created ones."""
    if path in {"", "/"}:
        return []
    is_missing = False
    with _MayBeRefused(sftp):
        try:
            sftp.stat(path)
            return []
        except FileNotFoundError:
            is_missing = True
    if not is_missing:
        # The directory is not readable. If it cannot be created either, writing the file fails later.
        with _MayBeRefused(sftp):
            sftp.mkdir(path)
            return [path]
        return []
    made = _make_directories(sftp, posixpath.dirname(path))
    try:
        sftp.mkdir(path)
    except PermissionError:
        raise
    except OSError:
        sftp.stat(path)  # another upload may have been faster
        return made
    return [*made, path]


def _rename(sftp: paramiko.SFTPClient, draft: str, target: str) -> bool:
    """Rename a file; false if that is not permitted."""
    with _MayBeRefused(sftp):
        sftp.posix_rename(draft, target)
        return True
    # Servers other than OpenSSH may not support posix-rename, and a plain rename does not overwrite.
    with _MayBeRefused(sftp):
        _remove(sftp, target)
    with _MayBeRefused(sftp):
        sftp.rename(draft, target)
        return True
    return False


class _MayBeRefused:
    """Suppresses missing permissions in its block.

    Servers report "permission denied" or just "failure"; lost connections and time-outs are not suppressed.
    """

    def __init__(self, sftp: paramiko.SFTPClient) -> None:
        self._sftp = sftp

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, where: object) -> bool:
        channel = self._sftp.get_channel()
        is_lost = channel is None or channel.closed
        # The library sets no errno for the protocol's codes FAILURE and OP_UNSUPPORTED.
        is_failure = type(error) is OSError and error.errno is None and not is_lost
        if isinstance(error, PermissionError) or is_failure:
            logger.info("refused by the server: %s", error)
            return True
        return False


def _remove_or_empty(sftp: paramiko.SFTPClient, path: str) -> None:
    with _MayBeRefused(sftp):
        sftp.remove(path)
        return
    with _MayBeRefused(sftp):
        sftp.open(path, "wb").close()


def _check_with(sftp: paramiko.SFTPClient, path: str) -> tuple[bytes | None, list[str]]:
    """Write, read back and delete a small file; returns the data read, None if reading is not permitted."""
    read: bytes | None = None
    notes = []
    with sftp.open(path, "wb") as file:
        file.write(CHECK_TEXT)
    try:
        with _MayBeRefused(sftp), sftp.open(path, "rb") as file:
            read = file.read(len(CHECK_TEXT) + 1)
        if read is None:
            notes.append("the user may not read, so files are not read back after the upload")
        with _MayBeRefused(sftp):
            sftp.remove(path)
            return read, notes
    except FileNotFoundError:
        return read or b"", notes
    return read, [*notes, left_behind(path)]


def _remove(sftp: paramiko.SFTPClient, path: str) -> None:
    try:
        sftp.remove(path)
    except FileNotFoundError:
        logger.debug("%s was not there", path)
