"""Single requests to receivers that are far, false, slow or hostile."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from recording_farm.browser_bot.network.addresses import AddressRule, parse_address_rule
from recording_farm.browser_bot.network.dns import DnsAnswer
from recording_farm.farm.webhooks.request import Answer, Poster, retry_after

LOOPBACK = parse_address_rule("127.0.0.0/8")
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve connections on a free port of 127.0.0.1; yields it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the sender has had enough
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


def answering(answer: bytes, seen: list[bytes] | None = None) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(head)
        await reader.readexactly(2)
        writer.write(answer)
        await writer.drain()

    return serve


async def post(url: str, rule: AddressRule = LOOPBACK, seconds: float = 2) -> Answer:
    async with Poster(rule, seconds) as poster:
        return await poster.post(url, b"{}", {"webhook-id": "x"})


def resolving_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Have names resolve to `answers`, one after another; returns the names that are asked for."""
    asked: list[str] = []

    async def look_up(host: str, *_: object) -> DnsAnswer:
        asked.append(host)
        return DnsAnswer(tuple(ip_address(address) for address in answers[len(asked) - 1]), is_final=True)

    monkeypatch.setattr("recording_farm.browser_bot.network.addresses.look_up", look_up)
    return asked


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_name_should_be_looked_up_once_and_stay_in_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    # A name that leads to a good address when it is checked, and elsewhere a moment later.
    asked = resolving_to(monkeypatch, ["127.0.0.1"], ["169.254.169.254"])
    seen: list[bytes] = []
    async with serving(answering(OK, seen)) as port:
        answer = await post(f"http://hook.test:{port}/path?x=%C3%A4")
    assert answer.is_success
    assert answer.text == "ok"
    assert asked == ["hook.test"]
    assert seen[0].startswith(f"POST /path?x=%C3%A4 HTTP/1.1\r\nHost: hook.test:{port}\r\n".encode())


async def test_next_address_should_be_tried_when_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving_to(monkeypatch, ["127.0.0.2", "127.0.0.3", "127.0.0.1"])
    async with serving(answering(OK)) as port:
        assert (await post(f"http://hook.test:{port}/")).is_success


async def test_one_bad_address_should_spoil_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving_to(monkeypatch, ["127.0.0.1", "10.0.0.1"])
    async with serving(answering(OK)) as port:
        answer = await post(f"http://hook.test:{port}/")
    assert answer.unreachable
    assert answer.error is not None
    assert "hook.test has a private address; allow" in answer.error


async def test_name_without_address_should_be_an_error() -> None:
    assert (await post("http://nosuch.invalid/")).error == "the host name nosuch.invalid does not resolve"


async def test_closed_port_should_be_an_error() -> None:
    async with serving(answering(OK)) as port:
        pass
    answer = await post(f"http://127.0.0.1:{port}/")
    assert answer.unreachable
    assert answer.status is None
    assert answer.error == "the receiver does not accept the connection"


async def test_connection_closed_without_an_answer_should_be_an_error() -> None:
    async with serving(answering(b"")) as port:
        answer = await post(f"http://127.0.0.1:{port}/")
    assert answer.unreachable
    assert answer.error == "the receiver closed the connection before it answered"


def certificate(directory: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's TLS for a name, and that of a client which trusts it."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    present = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(present - datetime.timedelta(days=1))
        .not_valid_after(present + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / f"{name}.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + built.public_bytes(Encoding.PEM)
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=built.public_bytes(Encoding.PEM).decode())


@pytest.mark.parametrize(("asked", "good"), [("hook.test", True), ("other.test", False)])
async def test_certificate_should_be_that_of_the_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: str, good: bool
) -> None:
    server, client = certificate(tmp_path, "hook.test")
    names: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: names.append(name)
    monkeypatch.setattr("recording_farm.farm.safe_http._tls", lambda: client)
    resolving_to(monkeypatch, ["127.0.0.1"])
    async with serving(answering(OK), server) as port:
        answer = await post(f"https://{asked}:{port}/")
    assert set(names) == {asked}
    assert answer.is_success is good
    if not good:
        assert answer.error == "the server's certificate is not valid: it is for another name: hook.test"


async def test_certificate_of_nobody_should_be_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server, _ = certificate(tmp_path, "hook.test")
    resolving_to(monkeypatch, ["127.0.0.1"])
    async with serving(answering(OK), server) as port:
        answer = await post(f"https://hook.test:{port}/")
    assert "certificate is not valid: it is signed by hook.test, an authority that is not trusted" in str(
        answer.error
    )


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nX: "])
async def test_whole_request_should_end_in_time_however_little_comes(head: bytes) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        while True:
            await asyncio.sleep(0.05)
            writer.write(b"x" if head.endswith(b": ") else b"")
            await writer.drain()
            if reader.at_eof():
                return

    async with serving(drip) as port:
        answer = await post(f"http://127.0.0.1:{port}/", seconds=0.5)
    assert (answer.status, answer.error) == (None, "no answer within 0.5 s")
    assert answer.unreachable
    assert 0.45 < answer.seconds < 2


async def test_success_should_count_although_the_answer_has_no_end() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 202 Accepted\r\n\r\n")
        while not reader.at_eof():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serving(endless) as port:
        answer = await post(f"http://127.0.0.1:{port}/", seconds=0.5)
    assert (answer.status, answer.error) == (202, None)
    assert answer.is_success
    assert answer.text.startswith("xx")


@pytest.mark.parametrize(
    "noise",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"",
        b"\x00" * 1000,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**20,
    ],
    ids=["ssh", "status", "nothing", "zeros", "endless header"],
)
async def test_what_is_no_http_should_be_an_error(noise: bytes) -> None:
    async with serving(answering(noise)) as port:
        answer = await post(f"http://127.0.0.1:{port}/")
    assert answer.unreachable
    assert answer.error


@pytest.mark.parametrize(
    "url", ["http://", "ftp://127.0.0.1/", "http://127.0.0.1:99999/", "http://a b/", "x"]
)
async def test_url_that_is_none_should_be_an_error(url: str) -> None:
    assert (await post(url)).error


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "30"}, 30),
        ({"retry-after": " 0 "}, 0),
        ({"retry-after": "9" * 30}, 1e30),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1e9"}, None),
        # Counted by the clock of the receiver.
        ({"retry-after": "Mon, 01 Jan 2001 00:00:30 GMT", "date": "Mon, 01 Jan 2001 00:00:00 GMT"}, 30),
        ({"retry-after": "Mon, 01 Jan 2001 00:00:00 GMT", "date": "Mon, 01 Jan 2001 00:00:30 GMT"}, 0),
        ({"retry-after": "Mon, 01 Jan 2001 00:00:00 GMT"}, 0),
        ({"retry-after": "Mon, 99 Jan 2001 00:00:00 GMT"}, None),
    ],
)
def test_retry_after_should_be_read_as_a_number_or_a_date(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("status", "after", "definite"),
    [
        *((400, None, True), (404, None, True), (302, None, True), (403, 5.0, False), (408, None, False)),
        *((429, None, False), (425, None, False), (500, None, False), (None, None, False)),
    ],
)
def test_refusal_should_be_definite_when_the_same_would_be_refused_again(
    status: int | None, after: float | None, definite: bool
) -> None:
    assert Answer(status=status, retry_after=after).is_permanent is definite
