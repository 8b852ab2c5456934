import asyncio
import base64
import gc
import hashlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from recording_farm.browser_bot.errors import PageError, PageLostError
from recording_farm.browser_bot.network import gateway as gateway_module
from recording_farm.browser_bot.network.addresses import AddressRule, parse_address_rule
from recording_farm.browser_bot.network.gateway import Gateway, open_gateway
from recording_farm.browser_bot.network.udp_policy import UdpPolicy
from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.stage.network import StageNetwork, open_network
from recording_farm.browser_bot.stage.stage import Stage, open_stage
from testkit.browser_bot.sites import Site, answer, open_site, redirect
from testkit.browser_bot.stages import blank
from testkit.machine.processes import run
from testkit.network.ports import free_port

PUBLIC_ONLY = AddressRule()
ALL = AddressRule(allow_all=True)
MEGABYTE = 1 << 20

SOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455
TRY_SOCKET = """url => new Promise(resolve => { const socket = new WebSocket(url);
    socket.onmessage = event => { socket.close(); resolve(event.data) };
    socket.onerror = () => resolve("refused") })"""
# All the ways in which a page opens connections; each tells how it ended.
REACH_OUT = """async origin => {
    const loaded = (tag, attribute) => new Promise(resolve => {
        const element = document.createElement(tag);
        element.onload = () => resolve("loaded");
        element.onerror = () => resolve("refused");
        element[attribute] = `${origin}/${tag}`;
        if (tag === "link") element.rel = "stylesheet";
        document.body.append(element);
    });
    const socket = new Promise(resolve => {
        const opened = new WebSocket(origin.replace("http", "ws") + "/socket");
        opened.onopen = () => resolve("loaded");
        opened.onerror = () => resolve("refused");
    });
    const fetched = fetch(`${origin}/fetch`, { mode: "no-cors" }).then(() => "loaded", () => "refused");
    navigator.sendBeacon(`${origin}/beacon`, "x");
    const peer = new RTCPeerConnection({ iceTransportPolicy: "relay", iceServers: [
        { urls: origin.replace("http://", "turn:") + "?transport=tcp", username: "a", credential: "b" }] });
    peer.createDataChannel("x");
    await peer.setLocalDescription();
    await Promise.all([loaded("img", "src"), loaded("script", "src"), loaded("link", "href"), fetched]);
    loaded("iframe", "src");
    const told = await socket;
    await new Promise(resolve => setTimeout(resolve, 700));
    return told;
}"""


@pytest.fixture(autouse=True)
async def _no_loose_ends() -> AsyncIterator[None]:
    """No exception that nobody sees, and no task left."""
    loop = asyncio.get_running_loop()
    troubles: list[object] = []
    loop.set_exception_handler(lambda _, context: troubles.append(context))
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()]
    gc.collect()
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    assert troubles == []
    assert left == []


async def ask(proxy: str, request: bytes, *, more: bytes = b"", timeout: float = 5) -> bytes:
    """Send raw bytes to the gateway and return all that comes until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.rpartition(":")[2]))
    said = b""
    try:
        writer.write(request)
        await writer.drain()
        if more:
            await asyncio.sleep(0.1)
            writer.write(more)
        async with asyncio.timeout(timeout):
            while chunk := await reader.read(65536):
                said += chunk
    except ConnectionError:
        pass
    finally:
        writer.close()
    return said


def get(url: str, *fields: str) -> bytes:
    host = url.split("/")[2]
    return "\r\n".join([f"GET {url} HTTP/1.1", f"host: {host}", *fields, "", ""]).encode("latin-1")


async def test_allowed_request_should_be_passed_on_and_answered() -> None:
    async with open_site() as site, open_gateway(ALL) as (_, proxy):
        site.add("/a%20b?c=d", answer("hello", more="x-of: the site"))
        said = await ask(proxy, get(site.url("/a%20b?c=d"), "Proxy-Connection: keep-alive", "X-Mine: 1"))
        assert said.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"x-of: the site\r\n" in said
        assert said.endswith(b"\r\n\r\nhello")
        (header,) = site.headers
        assert header.startswith(f"GET /a%20b?c=d HTTP/1.1\r\nhost: 127.0.0.1:{site.port}\r\nX-Mine: 1\r\n")
        assert "proxy-connection" not in header.lower()
        assert "connection: close" in header


@pytest.mark.parametrize(
    ("tail", "path"), [("", "/"), ("?a=/b", "/?a=/b"), ("//x", "//x"), ("/?u=http://y/z", "/?u=http://y/z")]
)
async def test_path_should_be_passed_on_as_it_is(tail: str, path: str) -> None:
    async with open_site() as site, open_gateway(ALL) as (_, proxy):
        await ask(proxy, get(f"http://127.0.0.1:{site.port}{tail}"))
        assert site.asked == [path]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "LOCALHOST", "2130706433", "0x7f.1", "0177.1", "127.1", "0", "[::1]",
     "[::ffff:127.0.0.1]", "user:password@127.0.0.1", "8.8.8.8@127.0.0.1", "8.8.8.8\\@127.0.0.1"],
)  # fmt: skip
async def test_private_address_should_be_refused_however_it_is_written(host: str) -> None:
    async with open_site() as site, open_gateway(PUBLIC_ONLY) as (gateway, proxy):
        for request in (
            get(f"http://{host}:{site.port}/"),
            f"CONNECT {host}:{site.port} HTTP/1.1\r\n\r\n".encode(),
        ):
            gateway.problem = None
            said = await ask(proxy, request)
            assert said.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 502 "))
            assert b"x-farm-gateway: 1\r\n" in said
            assert said.endswith(str(gateway.problem).encode())
        assert site.connections == 0


async def test_exception_should_open_one_port_and_path_only() -> None:
    async with (
        open_site() as site,
        open_site() as other,
        open_gateway(PUBLIC_ONLY, [f"http://127.0.0.1:{site.port}/meet/"]) as (_, proxy),
    ):
        for each in (site, other):
            each.add("/meet/m", "hello")
        assert (await ask(proxy, get(site.url("/meet/m")))).endswith(b"hello")
        refused = [
            get(other.url("/meet/m")),
            get(site.url("/v2/recordings")),
            get(site.url("/meet/../v2/recordings")),
            get(site.url("/meet/%2e%2E/v2/recordings")),
            get(site.url("/meet/..%2fv2/recordings")),
            get(site.url("/meet/..%252fv2/recordings")),
            get(site.url("/meet/..%5cv2/recordings")),
            # A name that means the same address is not the one that was allowed.
            get(site.url("/meet/m", host="localhost")),
            # In a tunnel the path cannot be seen.
            f"CONNECT 127.0.0.1:{site.port} HTTP/1.1\r\n\r\n".encode(),
        ]
        for request in refused:
            assert (await ask(proxy, request)).startswith(b"HTTP/1.1 403 ")
        assert (site.connections, other.connections) == (1, 0)


async def test_operators_networks_should_be_allowed() -> None:
    async with open_site() as site, open_gateway(parse_address_rule("127.0.0.0/8")) as (_, proxy):
        site.add("/", "hello")
        assert (await ask(proxy, get(site.url()))).endswith(b"hello")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 400),
        (b"GET ftp://127.0.0.1/ HTTP/1.1\r\n\r\n", 400),
        (b"GET file:///etc/passwd HTTP/1.1\r\n\r\n", 400),
        (b"GET https://127.0.0.1/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http:/// HTTP/1.1\r\n\r\n", 400),
        (b"GET http://[::1/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://[nonsense]/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://127.0.0.1:99999/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://127.0.0.1:x/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://127.0.0.1\0.example/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://\xff\xfe/ HTTP/1.1\r\n\r\n", 400),
        (b"GET  http://127.0.0.1/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://127.0.0.1/ HTTP/2\r\n\r\n", 400),
        (b"get http://127.0.0.1/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://127.0.0.1/ HTTP/1.1\r\na: b\nc: d\r\n\r\n", 400),
        (b"GET http://127.0.0.1/ HTTP/1.1\r\na: b\rc: d\r\n\r\n", 400),
        (b"GET http://127.0.0.1/ HTTP/1.1\r\na: b\0c\r\n\r\n", 400),
        (b"CONNECT / HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT [::1:443 HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT 127.0.0.1:-1 HTTP/1.1\r\n\r\n", 400),
        (b"POST http://127.0.0.1/ HTTP/1.1\r\ncontent-length: x\r\n\r\n", 400),
        (b"POST http://127.0.0.1/ HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST http://127.0.0.1/ HTTP/1.1\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"POST http://127.0.0.1/ HTTP/1.1\r\ncontent-length: 1\r\nContent-Length : 2\r\n\r\n", 400),
        (b"POST http://127.0.0.1/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST http://127.0.0.1/ HTTP/1.1\r\ntransfer-encoding : x\r\ncontent-length: 3\r\n\r\n", 411),
        (b"GET http://" + b"a" * 64 + b"/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://a..b/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://nosuch.invalid/ HTTP/1.1\r\n\r\n", 502),
    ],
)  # fmt: skip
async def test_nonsense_should_be_answered_with_a_problem(request_: bytes, status: int) -> None:
    async with open_gateway(ALL) as (gateway, proxy):
        said = await ask(proxy, request_)
        assert said.startswith(f"HTTP/1.1 {status} ".encode())
        assert gateway.problem is not None
        assert len(gateway.problem) < 300


async def test_endless_header_should_be_cut_off() -> None:
    async with open_gateway(ALL) as (_, proxy):
        assert await ask(proxy, b"GET http://127.0.0.1/ HTTP/1.1\r\nx: " + b"y" * 10 * MEGABYTE) == b""
        assert await ask(proxy, b"GET http://127.0.0.1/ HTTP/1.1\r\n" + b"x: y\r\n" * 20_000) == b""


async def test_request_that_never_ends_should_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "HEADER_TIMEOUT", 0.2)
    async with open_gateway(ALL) as (_, proxy):
        assert await ask(proxy, b"GET http://127", timeout=2) == b""
        assert await ask(proxy, b"", timeout=2) == b""


async def test_second_request_on_a_connection_should_not_be_passed_on() -> None:
    async with open_site() as site, open_gateway(ALL) as (_, proxy):
        site.add("/", "one")
        site.add("/secret", "two")
        smuggled = get(site.url("/secret"))
        assert b"two" not in await ask(proxy, get(site.url()) + smuggled)
        assert b"two" not in await ask(proxy, get(site.url(), "content-length: 3") + b"abc" + smuggled)
        assert "/secret" not in site.asked
        assert all("secret" not in header for header in site.headers)


async def test_body_should_be_passed_on_whole_and_no_further() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await reader.readexactly(3 * MEGABYTE)
        await answer(hashlib.sha256(body).hexdigest())(reader, writer)

    async with open_site() as site, open_gateway(ALL) as (_, proxy):
        site.add("/", echo)
        body = bytes(range(256)) * (3 * MEGABYTE // 256)
        request = get(site.url(), f"Content-Length: {len(body)}").replace(b"GET", b"POST", 1)
        assert (await ask(proxy, request + body)).endswith(hashlib.sha256(body).hexdigest().encode())


async def test_server_that_keeps_its_connection_should_not_hold_up_the_browsers_next_request() -> None:
    async def keep(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nhi")
        await asyncio.Event().wait()

    async with open_site() as site, open_gateway(ALL) as (_, proxy):
        site.add("/", keep)
        said = await ask(proxy, get(site.url()), more=get(site.url()))
        assert said.endswith(b"hi")


async def test_connection_should_end_when_the_browser_goes() -> None:
    gone = asyncio.Event()

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await reader.read(1)
        gone.set()

    async with open_site() as site, open_gateway(ALL) as (_, proxy):
        site.add("/", stream)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.rpartition(":")[2]))
        writer.write(get(site.url()))
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await asyncio.wait_for(gone.wait(), 2)


@pytest.mark.parametrize("words", [b"", b"GET http://127", get("http://127.0.0.1:1/")])
async def test_gateway_should_close_with_connections_half_open(words: bytes) -> None:
    async with open_gateway(ALL) as (_, proxy):
        connections = [
            await asyncio.open_connection("127.0.0.1", int(proxy.rpartition(":")[2])) for _ in range(5)
        ]
        for _, writer in connections:
            writer.write(words)
    for reader, writer in connections:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(10_000), 2)
        writer.close()


async def test_server_that_refuses_should_be_named() -> None:
    port = free_port()
    async with open_gateway(ALL) as (gateway, proxy):
        assert (await ask(proxy, get(f"http://127.0.0.1:{port}/"))).startswith(b"HTTP/1.1 502 ")
        assert gateway.problem == f"the server 127.0.0.1:{port} refused the connection"


async def test_server_that_says_nothing_should_close_the_connection() -> None:
    async def nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        return

    async with open_site() as site, open_gateway(ALL) as (_, proxy):
        site.add("/", nothing)
        assert await ask(proxy, get(site.url())) == b""


async def test_tls_should_pass_through_a_tunnel(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    code, _, complaints = await run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"),
        *("-keyout", str(key), "-out", str(certificate)),
        env={"HOME": str(tmp_path)},
    )
    assert code == 0, complaints
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certificate, key)

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0, ssl=ours)
    port = server.sockets[0].getsockname()[1]
    async with server, open_gateway(ALL) as (_, proxy):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.rpartition(":")[2]))
        writer.write(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n".encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
        await writer.start_tls(ssl.create_default_context(cafile=certificate), server_hostname="127.0.0.1")
        writer.write(b"hello\n")
        assert await asyncio.wait_for(reader.read(), 5) == b"HELLO\n"
        writer.close()


async def test_large_download_should_be_passed_on_quickly_and_not_be_kept_in_memory() -> None:
    size = 50 * MEGABYTE
    sent = 0

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode())
        for _chunk in range(size // MEGABYTE):
            writer.write(bytes(MEGABYTE))
            await writer.drain()
            sent += MEGABYTE

    async with open_site() as site, open_gateway(ALL) as (_, proxy):
        site.add("/", pour)
        before = psutil.Process().memory_info().rss
        reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.rpartition(":")[2]))
        writer.write(get(site.url()))
        await asyncio.sleep(0.5)
        # Nobody reads: only what the system's own socket buffers hold has been sent.
        assert sent < size // 2
        assert psutil.Process().memory_info().rss - before < 16 * MEGABYTE
        received = 0
        async with asyncio.timeout(10):
            while chunk := await reader.read(MEGABYTE):
                received += len(chunk)
        assert received > size
        assert psutil.Process().memory_info().rss - before < 16 * MEGABYTE
        writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with open_site() as site:
        yield site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def way_out(site: Site) -> AsyncIterator[tuple[Gateway, str]]:
    async with open_gateway(PUBLIC_ONLY, [site.url()]) as way_out:
        yield way_out


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stage(way_out: tuple[Gateway, str]) -> AsyncIterator[Stage]:
    async with open_stage(320, 180, 30, network=StageNetwork(*way_out, ())) as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def stage(shared_stage: Stage) -> Stage:
    return await blank(shared_stage)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("scheme", "host", "words"),
    [
        ("http", "127.0.0.1", "127.0.0.1 is a private address"),
        ("http", "localhost", "localhost has a private address; allow it"),
        ("http", "2130706433", "127.0.0.1 is a private address"),
        ("https", "127.0.0.1", "127.0.0.1 is a private address"),
        ("http", "nosuch.invalid", "the host name nosuch.invalid does not resolve"),
        ("https", "nosuch.invalid", "the host name nosuch.invalid does not resolve"),
    ],
)
async def test_page_that_may_not_be_opened_should_be_reported_in_words(
    stage: Stage, way_out: tuple[Gateway, str], scheme: str, host: str, words: str
) -> None:
    async with open_site() as other:
        bot = Bot(stage.browser, PageContract.PLAIN, way_out[0])
        with pytest.raises(PageError, match=words):
            await bot.join(f"{scheme}://{host}:{other.port}/", seconds=10, tries=1)
        assert other.connections == 0


@pytest.mark.asyncio(loop_scope="module")
async def test_redirect_to_a_private_address_should_be_refused(
    stage: Stage, site: Site, way_out: tuple[Gateway, str]
) -> None:
    async with open_site() as other:
        url = site.add("/redirect", redirect(other.url("/metadata")))
        bot = Bot(stage.browser, PageContract.PLAIN, way_out[0])
        with pytest.raises(PageError, match=r"127\.0\.0\.1 is a private address"):
            await bot.join(url, seconds=10, tries=1)
        assert other.connections == 0


@pytest.mark.asyncio(loop_scope="module")
async def test_allowed_page_should_reach_nothing_else(stage: Stage, site: Site) -> None:
    async with open_site() as other:
        await stage.browser.page.goto(site.add("/page", "<body>page"))
        async with asyncio.timeout(20):
            assert await stage.browser.page.evaluate(REACH_OUT, other.url("")) == "refused"
        assert other.connections == 0
        assert other.asked == []


@pytest.mark.asyncio(loop_scope="module")
async def test_page_that_goes_where_the_gateway_finds_nothing_should_be_lost(
    stage: Stage, site: Site, way_out: tuple[Gateway, str]
) -> None:
    bot = Bot(stage.browser, PageContract.PLAIN, way_out[0])
    await bot.join(
        site.add("/page", "<body>page<iframe src='http://nosuch.invalid/'></iframe>"), seconds=10, tries=1
    )
    over = asyncio.ensure_future(bot.over())
    done, _ = await asyncio.wait((over,), timeout=0.5)
    assert not done, "of a frame that does not load the page is not lost"
    await stage.browser.page.evaluate("void setTimeout(() => { location = 'http://nosuch.invalid/' })")
    with pytest.raises(PageLostError, match=r"does not load: the host name nosuch\.invalid does not"):
        await asyncio.wait_for(over, 10)


@pytest.mark.asyncio(loop_scope="module")
async def test_page_with_many_parts_should_load_through_the_gateway(stage: Stage, site: Site) -> None:
    picture = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    for number in range(40):
        site.add(f"/picture{number}", answer(picture, kind="image/svg+xml"))
    pictures = "".join(f'<img src="/picture{number}">' for number in range(40))
    await stage.browser.page.goto(site.add("/pictures", pictures))
    widths = await stage.browser.page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert widths == [9] * 40


async def test_web_socket_should_pass_through_the_gateway() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (key,) = (
            line.partition(": ")[2]
            for line in talker.headers[-1].split("\r\n")
            if line.lower().startswith("sec-websocket-key")
        )
        accept = base64.b64encode(hashlib.sha1((key + SOCKET_GUID).encode()).digest()).decode()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            + f"sec-websocket-accept: {accept}\r\n\r\n".encode()
            + b"\x81\x05hello"
        )
        await writer.drain()
        await asyncio.sleep(0.5)

    async with (
        open_site() as talker,
        open_network(ALL, udp=UdpPolicy.OPEN) as network,
        open_stage(320, 180, 30, network=network) as stage,
    ):
        talker.add("/socket", greet)
        await stage.browser.page.goto(talker.add("/page", "page"))
        said = await stage.browser.page.evaluate(TRY_SOCKET, f"ws://127.0.0.1:{talker.port}/socket")
        assert said == "hello"
