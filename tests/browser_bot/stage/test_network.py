"""What a page reaches by UDP (WebRTC, QUIC, mDNS), with a real Chromium on a stage."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest
import pytest_asyncio
from playwright.async_api import Page

from recording_farm.browser_bot.network import enter_namespace
from recording_farm.browser_bot.network.addresses import AddressRule, parse_address_rule
from recording_farm.browser_bot.network.udp_policy import UdpPolicy
from recording_farm.browser_bot.stage import network as network_module
from recording_farm.browser_bot.stage.network import (
    LOOPBACK_PEERS,
    NO_DIRECT_UDP,
    IsolatedNetwork,
    _warn,
    namespace_problem,
    open_network,
)
from recording_farm.browser_bot.stage.programs import chromium_path
from recording_farm.browser_bot.stage.stage import Stage, open_stage
from testkit.browser_bot.networks import (
    Listener,
    ask_by_mdns,
    is_about,
    listening,
    machine_addresses,
    mdns_listening,
    namespace_of,
)
from testkit.browser_bot.sites import Site, open_site

needs_namespaces = pytest.mark.skipif(
    namespace_problem() is not None, reason=f"this machine has no namespaces: {namespace_problem()}"
)

ALLOWED = "127.0.0.2"
NOBODY = 65534

ATTACK = """
async (targets) => {
  const urls = targets.flatMap(({ host, port }) => [
    `stun:${host}:${port}`, `turn:${host}:${port}`, `turn:${host}:${port}?transport=tcp`,
    `turns:${host}:${port}?transport=tcp`,
  ]);
  const iceServers = urls.map((url) => ({ urls: url, username: "attack", credential: "attack" }));
  const connections = [];
  for (let at = 0; at < iceServers.length; at += 8) {
    connections.push(new RTCPeerConnection({ iceServers: iceServers.slice(at, at + 8) }));
  }
  const checking = new RTCPeerConnection();
  connections.push(checking);
  for (const each of connections) {
    each.createDataChannel("");
    await each.setLocalDescription();
  }
  const other = new RTCPeerConnection();
  await other.setRemoteDescription(checking.localDescription);
  await other.setLocalDescription();
  const answer = other.localDescription.sdp.replace(/^a=candidate.*\\r\\n/gm, "");
  await checking.setRemoteDescription({ type: "answer", sdp: answer });
  for (const [number, { address, port }] of targets.entries()) {
    const of = `candidate:${number} 1`;
    const add = (candidate) => checking.addIceCandidate({ candidate, sdpMid: "0" }).catch(() => {});
    await add(`${of} udp 2122260223 ${address} ${port} typ host`);
    await add(`${of} tcp 1518280447 ${address} ${port} typ host tcptype passive`);
  }
  globalThis.connections = [...connections, other];
}
"""

QUIC = """
(hosts) => Promise.allSettled(hosts.map((host) => new WebTransport(`https://${host}/`).ready))
"""
MDNS = """
async ({ names, port }) => {
  const connection = globalThis.connection = new RTCPeerConnection();
  connection.createDataChannel("");
  await connection.setLocalDescription();
  const other = globalThis.other = new RTCPeerConnection();
  await other.setRemoteDescription(connection.localDescription);
  await other.setLocalDescription();
  await gathered(connection);
  const answer = other.localDescription.sdp.replace(/^a=candidate.*\\r\\n/gm, "");
  await connection.setRemoteDescription({ type: "answer", sdp: answer });
  for (const name of names) {
    const candidate = `candidate:1 1 udp 2122260223 ${name} ${port} typ host`;
    await connection.addIceCandidate({ candidate, sdpMid: "0" });
  }
  return connection.localDescription.sdp.match(/[-0-9a-f]{36}\\.local/g);
}
"""

OFFER = """
async (stun) => {
  const iceServers = stun ? [{ urls: `stun:${stun}` }] : [];
  const connection = globalThis.connection = new RTCPeerConnection({ iceServers });
  globalThis.said = new Promise((heard) => {
    const channel = connection.createDataChannel("");
    channel.onmessage = ({ data }) => heard(data);
  });
  await connection.setLocalDescription();
  await gathered(connection);
  return connection.localDescription.sdp;
}
"""
ANSWER = """
async (sdp) => {
  const connection = globalThis.connection = new RTCPeerConnection();
  connection.ondatachannel = ({ channel }) => channel.send("hello");
  await connection.setRemoteDescription({ type: "offer", sdp });
  await connection.setLocalDescription();
  await gathered(connection);
  return connection.localDescription.sdp;
}
"""
CALL_ITSELF = """
async () => {
  const [one, other] = [new RTCPeerConnection(), new RTCPeerConnection()];
  one.onicecandidate = ({ candidate }) => candidate && other.addIceCandidate(candidate);
  other.onicecandidate = ({ candidate }) => candidate && one.addIceCandidate(candidate);
  other.ondatachannel = ({ channel }) => channel.send("hello");
  const said = new Promise((heard) => {
    one.createDataChannel("").onmessage = ({ data }) => heard(data);
  });
  await one.setLocalDescription();
  await other.setRemoteDescription(one.localDescription);
  await other.setLocalDescription();
  await one.setRemoteDescription(other.localDescription);
  return await said;
}
"""
GATHERED = """
globalThis.gathered = (connection) => new Promise((done) => {
  const look = () => connection.iceGatheringState === "complete" && done();
  connection.addEventListener("icegatheringstatechange", look);
  setTimeout(done, 3000);
  look();
});
"""


async def attack(page: Page, listeners: list[Listener]) -> None:
    targets = [{"host": each.host, "address": each.address, "port": each.port} for each in listeners]
    await page.evaluate(ATTACK, targets)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with open_site() as site:
        yield site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def isolated(site: Site) -> AsyncIterator[Stage]:
    rule = parse_address_rule(f"{ALLOWED}/32")
    async with (
        open_network(rule, [site.url()]) as network,
        open_stage(320, 180, 30, network=network) as stage,
    ):
        yield stage


@needs_namespaces
@pytest.mark.asyncio(loop_scope="module")
async def test_webrtc_should_reach_allowed_addresses_only(isolated: Stage, site: Site) -> None:
    page = isolated.browser.page
    assert namespace_of(isolated.browser.pid) != namespace_of(os.getpid())
    await page.goto(site.add("/attack", "<body>page"))
    assert await page.evaluate("navigator.onLine")
    inside = ["127.0.0.1", "127.0.0.3", "::1", *machine_addresses()]
    with listening(*inside, ALLOWED) as listeners:
        *refused, allowed = listeners
        await attack(page, listeners)
        assert await allowed.hears(), "an allowed server got nothing"
        await asyncio.sleep(1)  # requests are sent again after 0.25, 0.75 and 1.75 s
        assert {each.address: each.heard() for each in refused} == dict.fromkeys(inside, 0)


@needs_namespaces
@pytest.mark.asyncio(loop_scope="module")
async def test_mdns_queries_should_reach_nobody(isolated: Stage, site: Site) -> None:
    page = isolated.browser.page
    await page.goto(site.add("/mdns", f"<script>{GATHERED}</script>"))
    names = [f"{uuid4()}.local", "farm-test-printer.local"]
    with mdns_listening() as listener, listening(ALLOWED) as (allowed,):
        own = await page.evaluate(MDNS, {"names": names, "port": allowed.port})
        assert own, "Chromium has no mDNS names for its candidates"
        await asyncio.sleep(2)  # queries are sent again after a second
        await attack(page, [allowed])
        assert await allowed.hears(), "an allowed server got nothing"
        ask_by_mdns("farm-test.local")
        packets = await listener.packets_until("farm-test.local")
        assert [packet for packet in packets if any(is_about(packet, name) for name in (*names, *own))] == []


@needs_namespaces
async def test_quic_should_reach_allowed_addresses_only() -> None:
    inside = ["127.0.0.1", "127.0.0.3", "::1", *machine_addresses()]
    async with open_network(parse_address_rule(f"{ALLOWED}/32")) as network:
        # Chromium sends no QUIC where it has a proxy. Without one, only the relay is left to refuse it.
        network.switches = [*network.switches, "--no-proxy-server"]
        async with open_stage(320, 180, 30, network=network) as stage:
            page = stage.browser.page
            await page.context.grant_permissions(["local-network-access"], origin="https://page.test")
            await page.route("https://page.test/", lambda route: route.fulfill(body="page"))
            await page.goto("https://page.test/")
            with listening(*inside, ALLOWED) as listeners:
                *refused, allowed = listeners
                async with asyncio.timeout(60):
                    await page.evaluate(QUIC, [f"{each.host}:{each.port}" for each in listeners])
                assert await allowed.hears(), "an allowed server got nothing"
                assert {each.address: each.heard() for each in refused} == dict.fromkeys(inside, 0)


@needs_namespaces
async def test_killed_udp_relay_should_be_noticed() -> None:
    async with (
        open_network(AddressRule()) as network,
        open_stage(320, 180, 30, network=network) as stage,
    ):
        assert isinstance(network, IsolatedNetwork)
        assert network.relay is not None
        death = asyncio.ensure_future(stage.died())
        await asyncio.sleep(0)
        os.kill(network.relay.pid, signal.SIGKILL)
        assert "UDP relay ended with -9" in str(await asyncio.wait_for(death, 60))


@needs_namespaces
@pytest.mark.asyncio(loop_scope="module")
async def test_peer_that_connects_first_should_be_connected(isolated: Stage, site: Site) -> None:
    network, ours = isolated.network, isolated.browser.page
    assert isinstance(network, IsolatedNetwork)
    await ours.goto(site.add("/call", f"<script>{GATHERED}</script>"))
    playwright = await isolated.driver.start()
    browser = await playwright.chromium.launch(
        executable_path=chromium_path(), args=["--no-sandbox", LOOPBACK_PEERS]
    )
    try:
        theirs = await browser.new_page()
        await theirs.add_init_script(GATHERED)
        await theirs.goto("data:text/html,peer")
        sdp = await theirs.evaluate(ANSWER, await ours.evaluate(OFFER, network.stun))
        connected = "(sdp) => connection.setRemoteDescription({ type: 'answer', sdp }).then(() => said)"
        async with asyncio.timeout(20):
            assert await ours.evaluate(connected, sdp) == "hello"
    finally:
        await browser.close()


@needs_namespaces
@pytest.mark.asyncio(loop_scope="module")
async def test_page_should_be_able_to_call_itself(isolated: Stage, site: Site) -> None:
    page = isolated.browser.page
    await page.goto(site.add("/itself", f"<script>{GATHERED}</script>"))
    async with asyncio.timeout(20):
        assert await page.evaluate(CALL_ITSELF) == "hello"


@pytest.mark.asyncio(loop_scope="module")
async def test_switch_should_keep_udp_off_where_there_are_no_namespaces(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(network_module, "namespace_problem", lambda: "unshare: Operation not permitted")
    _warn.cache_clear()
    try:
        async with (
            open_network(parse_address_rule("all"), [site.url()]) as network,
            open_stage(320, 180, 30, network=network) as stage,
        ):
            assert not network.entrance
            assert "UDP is off" in caplog.text
            await stage.browser.page.goto(site.add("/attack", "<body>page"))
            with listening("127.0.0.1", *machine_addresses()) as listeners:
                await attack(stage.browser.page, listeners)
                await asyncio.sleep(2)
                for each in listeners:
                    with pytest.raises(BlockingIOError):
                        each.udp.recv(2000)
    finally:
        _warn.cache_clear()


@pytest.mark.parametrize(
    ("udp", "problem", "switches", "isolates"),
    [
        (UdpPolicy.FILTERED, None, (), True),
        (UdpPolicy.OFF, None, NO_DIRECT_UDP, True),
        (UdpPolicy.OPEN, None, (LOOPBACK_PEERS,), False),
        (UdpPolicy.FILTERED, "no", NO_DIRECT_UDP, False),
        (UdpPolicy.OFF, "no", NO_DIRECT_UDP, False),
        (UdpPolicy.OPEN, "no", (LOOPBACK_PEERS,), False),
    ],
)
async def test_policy_should_choose_how_udp_is_kept(
    monkeypatch: pytest.MonkeyPatch,
    udp: UdpPolicy,
    problem: str | None,
    switches: tuple[str, ...],
    isolates: bool,
) -> None:
    monkeypatch.setattr(network_module, "namespace_problem", lambda: problem)
    async with open_network(AddressRule(), (), udp) as network:
        assert tuple(network.switches) == switches
        assert isinstance(network, IsolatedNetwork) is isolates


async def test_only_the_built_in_meeting_should_be_told_the_stun_server() -> None:
    network = IsolatedNetwork(AddressRule(), ["http://127.0.0.1:8000/meet/"], UdpPolicy.FILTERED)
    meeting = "http://127.0.0.1:8000/meet/x"
    assert network.url_for_recorder(f"{meeting}#recorder=t") == f"{meeting}#recorder=t&stun={network.stun}"
    assert network.url_for_recorder(meeting) == f"{meeting}#stun={network.stun}"
    assert network.url_for_recorder("https://example.com/meet/x") == "https://example.com/meet/x"
    off = IsolatedNetwork(AddressRule(), ["http://127.0.0.1:8000/meet/"], UdpPolicy.OFF)
    assert off.url_for_recorder(meeting) == meeting


def may_drop_to_nobody() -> bool:
    return os.geteuid() == 0 and Path("/usr/bin/python3").exists() and Path("/usr/bin/chromium").exists()


@pytest.mark.skipif(not may_drop_to_nobody(), reason="wants root, Debian's Python and chromium")
@needs_namespaces
def test_sandbox_should_come_up_in_the_namespace_of_an_ordinary_user() -> None:
    # Whoever runs the tests keeps other users out of its own temporary directory.
    with TemporaryDirectory(prefix="farm-network-", dir="/var/tmp") as name:
        place = Path(name)
        entrance = shutil.copy(enter_namespace.__file__, place)
        os.chown(place, NOBODY, NOBODY)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
            door.bind(f"{place}/door")
            os.chmod(f"{place}/door", 0o777)
            door.listen()
            door.settimeout(20)
            chromium = subprocess.Popen(
                [
                    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
                    *("/usr/bin/python3", "-I", "-S", entrance, f"{place}/door"),
                    *("chromium", "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
                    *(f"--user-data-dir={place}/profile", "--dump-dom"),
                    "data:text/html,<script>document.write(6*7)</script>",
                ],
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": name},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            browser, _ = door.accept()
            with browser:
                browser.settimeout(20)
                _, descriptors, _, _ = socket.recv_fds(browser, 1, enter_namespace.MAX_SOCKETS)
                assert namespace_of(chromium.pid) != namespace_of(os.getpid())
                browser.sendall(enter_namespace.ACCEPTED)
            output, errors = chromium.communicate(timeout=60)
            for descriptor in descriptors:
                os.close(descriptor)
            assert b"42" in output, errors[-2000:].decode()
