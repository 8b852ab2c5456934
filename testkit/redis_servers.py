"""Redis as companies run it: with TLS and users, and sets of Sentinels with a master and a replica."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import cast

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from redis.backoff import NoBackoff
from redis.retry import Retry

from testkit.network.ports import free_port
from testkit.waiting import wait_until

READY_SECONDS = 30.0
MASTER = "farm"
PASSWORD = "word-of-the-servers"

Server = subprocess.Popen[bytes]


@contextmanager
def running(directory: Path, *words: str) -> Iterator[Server]:
    """Run `redis-server` with these words in a directory of its own, until the block ends."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "redis.log").open("ab") as log:
        server = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", "redis-server", *words],
            cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield server
    finally:
        server.kill()
        server.wait(10)


@dataclass
class SentinelSet:
    """Three Sentinels, a master and a replica on the loopback."""

    directory: Path
    ports: tuple[int, int]
    sentinels: tuple[int, ...]
    servers: dict[int, Server] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """As FARM_REDIS_URL has it."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"redis+sentinel://:{PASSWORD}@{hosts}/{MASTER}/0"

    def master(self) -> int:
        """The master's port, as a Sentinel says."""
        with redis.Redis(port=self.sentinels[0], socket_timeout=5) as sentinel:
            return int(cast("tuple[str, int]", sentinel.sentinel_get_master_addr_by_name(MASTER))[1])

    def client(self, port: int) -> redis.Redis:
        """A client of one of the servers."""
        return redis.Redis(port=port, password=PASSWORD, socket_timeout=5)

    def fail_over(self) -> None:
        """Have the Sentinels make the replica the master, as for an upgrade."""
        with redis.Redis(port=self.sentinels[0], socket_timeout=5) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", MASTER)

    def wait_for_master_other_than(self, port: int, timeout: float = 60) -> None:
        """Wait until the Sentinels have agreed on another master."""
        wait_until(lambda: self.master() != port, timeout)


@contextmanager
def sentinel_set(directory: Path) -> Iterator[SentinelSet]:
    """Run such a set; the replica has all that the master has."""
    ports, sentinels = (free_port(), free_port()), tuple(free_port() for _ in range(3))
    with ExitStack() as parts:
        found = SentinelSet(directory, ports, sentinels)
        for port in ports:
            replica = () if port == ports[0] else ("--replicaof", f"127.0.0.1 {ports[0]}")
            found.servers[port] = parts.enter_context(
                running(
                    directory / str(port),
                    *("--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes", "--save", ""),
                    *("--requirepass", PASSWORD, "--masterauth", PASSWORD, *replica),
                    *("--repl-diskless-sync-delay", "0"),
                )
            )
        with found.client(ports[1]) as client:
            wait_until(lambda: client.info("replication").get("master_link_status") == "up")
        for port in sentinels:
            configuration = directory / f"sentinel-{port}.conf"  # it is the Sentinel's to write
            configuration.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
                f"sentinel monitor {MASTER} 127.0.0.1 {ports[0]} 2\n"
                f"sentinel auth-pass {MASTER} {PASSWORD}\n"
                f"sentinel down-after-milliseconds {MASTER} 2000\n"
                f"sentinel failover-timeout {MASTER} 20000\n"
            )
            parts.enter_context(running(directory / f"sentinel-{port}", str(configuration), "--sentinel"))
        for port in sentinels:
            wait_until(partial(_knows_the_others, port))
        yield found


def _knows_the_others(port: int) -> bool:
    with redis.Redis(port=port, socket_timeout=5) as sentinel:
        state = cast("dict[str, int]", sentinel.sentinel_master(MASTER))
        return state["num-other-sentinels"] == 2 and state["num-slaves"] == 1


@dataclass(frozen=True)
class Certificates:
    """Files of an authority of the tests' own, and of a server at 127.0.0.1 that it knows."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(directory: Path) -> Certificates:
    """Make them."""
    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests' authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    begin = datetime.now(UTC) - timedelta(hours=1)

    def signed(name: x509.Name, key: ec.EllipticCurvePublicKey, *, is_authority: bool) -> x509.Certificate:
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        usage = x509.KeyUsage(
            digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority,
            content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = (
            x509.CertificateBuilder(
                issuer, name, key, x509.random_serial_number(), begin, begin + timedelta(days=2)
            )
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(names, critical=False)
        )
        return builder.sign(authority, hashes.SHA256())

    directory.mkdir(parents=True, exist_ok=True)
    files = Certificates(directory / "authority.pem", directory / "server.pem", directory / "server-key.pem")
    root = signed(issuer, authority.public_key(), is_authority=True)
    files.authority.write_bytes(root.public_bytes(Encoding.PEM))
    leaf = signed(subject, server.public_key(), is_authority=False)
    files.certificate.write_bytes(leaf.public_bytes(Encoding.PEM))
    files.key.write_bytes(server.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


@dataclass
class FaultyRedis:
    """A Redis of a test's own, which it may break and mend in every way that a real one breaks."""

    directory: Path
    port: int
    server: Server
    administrator: redis.Redis
    """Has all rights, and a connection from the beginning."""

    @property
    def address(self) -> str:
        """As FARM_REDIS_URL has it; the user is one whose rights can be taken away."""
        return f"redis://farm:word@127.0.0.1:{self.port}/0"

    def do(self, *words: str) -> None:
        """Have it do what the words say."""
        self.administrator.execute_command(*words)  # type: ignore[no-untyped-call]

    def set_up(self, **options: str | int) -> None:
        """Set options, as CONFIG SET does; underscores stand for dashes."""
        for name, value in options.items():
            self.administrator.config_set(name.replace("_", "-"), value)

    def break_it(self, fault: str) -> None:
        """Have it refuse writes, or more, until `mend`."""
        client = self.administrator
        match fault:
            case "full":
                self.set_up(maxmemory=1)
            case "replica":
                self.do("REPLICAOF", "127.0.0.1", "1")
            case "stale replica":
                self.set_up(replica_serve_stale_data="no")
                self.do("REPLICAOF", "127.0.0.1", "1")
            case "without replicas":
                self.set_up(min_replicas_to_write=1)
            case "not saving":
                # Its directory is gone, so that not even root could write the file.
                shutil.rmtree(self.directory / "data")
                self.set_up(save="3600 1")
                client.set("other:key", 1)
                client.bgsave()
                wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
            case "without rights":
                self.do("ACL", "SETUSER", "farm", "-@write")
            case "other password":
                self.do("ACL", "SETUSER", "farm", "resetpass", ">other")
            case "without connections":
                self.set_up(maxclients=1)
            case "busy":
                self.set_up(busy_reply_threshold=1)
                with (
                    redis.Redis(port=self.port, socket_timeout=0.2, retry=Retry(NoBackoff(), 0)) as busy,
                    pytest.raises(redis.TimeoutError),
                ):
                    busy.eval("while true do end", 0)
            case "killed":
                self.server.kill()
                self.server.wait(10)
            case "hanging":
                self.server.send_signal(signal.SIGSTOP)
            case _:
                raise AssertionError(fault)

    def mend(self, fault: str) -> None:
        """Have it work again."""
        match fault:
            case "full":
                self.set_up(maxmemory=0)
            case "replica" | "stale replica":
                self.do("REPLICAOF", "NO", "ONE")
            case "without replicas":
                self.set_up(min_replicas_to_write=0)
            case "not saving":
                self.set_up(stop_writes_on_bgsave_error="no")
            case "without rights" | "other password":
                self.do("ACL", "SETUSER", "farm", ">word", "+@all")
            case "without connections":
                self.set_up(maxclients=1000)
            case "busy":
                self.administrator.script_kill()
            case "hanging":
                self.server.send_signal(signal.SIGCONT)
            case _:
                raise AssertionError(fault)


@contextmanager
def faulty_redis(directory: Path, *words: str) -> Iterator[FaultyRedis]:
    """Run such a Redis, with a user `farm` besides."""
    port = free_port()
    data = directory / "data"
    data.mkdir(parents=True)
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(data), *words)
    with running(directory, *options) as server, redis.Redis(port=port, socket_timeout=5) as client:
        wait_until(client.ping)
        found = FaultyRedis(directory, port, server, client)
        found.do("ACL", "SETUSER", "farm", "on", ">word", "~*", "&*", "+@all")
        yield found
