"""The UDP relay and its namespace, with real packets: a script is where a stage's browser is."""

import asyncio
import json
import os
import signal
import socket
import sys
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from recording_farm.browser_bot.network.addresses import parse_address_rule
from recording_farm.browser_bot.network.stun import binding_response, is_binding_request
from recording_farm.browser_bot.network.udp_policy import UdpPolicy
from recording_farm.browser_bot.network.udp_relay import (
    MAX_DECISIONS,
    MAX_PEERS,
    Bucket,
    Decisions,
    Port,
    parse_name_servers,
)
from recording_farm.browser_bot.stage.network import IsolatedNetwork, namespace_problem
from testkit.browser_bot.networks import (
    listening,
    machine_addresses,
    namespace_of,
    network_without_browser,
    run_inside,
    running_inside,
)

needs_namespaces = pytest.mark.skipif(
    namespace_problem() is not None, reason=f"this machine has no namespaces: {namespace_problem()}"
)

BINDING_REQUEST = bytes.fromhex("0001 0000 2112a442") + bytes(range(12))
INSIDE = ("127.0.0.1", "127.0.0.3", "::1")
ALLOWED = "127.0.0.2"

SEND = """
import socket, sys
for word in sys.argv[1:]:
    host, port = word.rsplit("=", 1)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(3):
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"from the page", (host, int(port)))
    with socket.socket(family) as caller:
        caller.settimeout(0.2)
        try:
            caller.connect((host, int(port)))
            print("connected to", word)
        except OSError:
            pass
"""
ECHO = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.settimeout(10)
    sender.sendto(b"ping", (sys.argv[1], int(sys.argv[2])))
    answer, peer = sender.recvfrom(9000)
    print(len(answer), *peer)
"""
QUERY = """
import socket
for line in open("/etc/resolv.conf"):
    if line.startswith("nameserver"):
        server = line.split()[1]
        break
with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(15)
    client.connect((server, 53))
    client.send(bytes.fromhex("abcd01000001000000000000066e6f7375636807696e76616c69640000010001"))
    answer = client.recv(500)
    assert answer[:2] == bytes.fromhex("abcd")
    print("answered", answer[3] & 15)
"""
WAIT_FOR_PEERS = """
import json, socket, sys
stun, request = (sys.argv[1].rsplit(":", 1)), bytes.fromhex(sys.argv[2])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
    own.settimeout(10)
    own.sendto(request, (stun[0], int(stun[1])))
    print(own.recv(100).hex(), flush=True)
    sys.stdin.readline()
    for _ in range(2):
        packet, peer = own.recvfrom(100)
        print(json.dumps([packet.hex(), peer]), flush=True)
        own.sendto(b"answer", peer)
    sys.stdin.readline()
"""


@needs_namespaces
async def test_packets_should_go_to_allowed_addresses_only(short_path: Path) -> None:
    inside = [*INSIDE, *machine_addresses()]
    with listening(*inside, ALLOWED) as listeners:
        async with network_without_browser(short_path, f"{ALLOWED}/32") as network:
            targets = [f"{each.address}={each.port}" for each in listeners]
            mapped = [f"::ffff:{each.address}={each.port}" for each in listeners if ":" not in each.address]
            extra = [f"{each}={listeners[0].port}" for each in ("0.0.0.0", "::")]
            output = await run_inside(network, SEND, *targets, *mapped, *extra, targets[-1])
            assert output == "", "nothing is reached by TCP"
            *refused, allowed = listeners
            # The relay forwards packets in order, so it has seen the others before this one.
            assert await allowed.hears(), "what may be reached got nothing"
            assert {each.address: each.heard() for each in refused} == dict.fromkeys(inside, 0)


@needs_namespaces
async def test_without_udp_names_should_resolve_and_no_packet_should_leave(short_path: Path) -> None:
    with listening("127.0.0.1") as (listener,):
        async with network_without_browser(short_path, "all", UdpPolicy.OFF) as network:
            output = await run_inside(network, SEND + QUERY, f"127.0.0.1={listener.port}")
            # The answer comes after the relay has seen the packets.
            assert output.split() == ["answered", "3"]
            assert listener.heard() == 0


@needs_namespaces
async def test_answers_should_come_from_the_peer_whole(short_path: Path) -> None:
    with listening("127.0.0.1") as (listener,):
        loop = asyncio.get_running_loop()

        async def answer() -> None:
            _, sender = await loop.sock_recvfrom(listener.udp, 100)
            listener.udp.sendto(bytes(4000), sender)

        async with network_without_browser(short_path, "127.0.0.0/8") as network:
            answering = asyncio.ensure_future(answer())
            output = await run_inside(network, ECHO, "127.0.0.1", str(listener.port))
            await answering
            assert output.split() == ["4000", "127.0.0.1", str(listener.port)]


@needs_namespaces
async def test_peer_that_asks_first_should_get_answers_and_others_should_not(short_path: Path) -> None:
    async with network_without_browser(short_path) as network:
        assert isinstance(network, IsolatedNetwork)
        words = network.stun, BINDING_REQUEST.hex()
        async with running_inside(network, WAIT_FOR_PEERS, *words) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            response = bytes.fromhex((await process.stdout.readline()).decode())
            port = int.from_bytes(response[26:28]) ^ 0x2112
            own = machine_addresses()[0] if machine_addresses() else "127.0.0.1"
            assert response == binding_response(BINDING_REQUEST, ip_address(own), port)
            with (
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
            ):
                peer.settimeout(10)
                stranger.sendto(b"not a check", ("127.0.0.1", port))
                peer.sendto(BINDING_REQUEST, ("127.0.0.1", port))
                process.stdin.write(b"\n")
                packet, sender = json.loads(await process.stdout.readline())
                assert bytes.fromhex(packet) == BINDING_REQUEST
                assert sender == ["127.0.0.1", peer.getsockname()[1]]
                assert await asyncio.to_thread(peer.recv, 100) == b"answer"
                peer.sendto(b"media", ("127.0.0.1", port))
                packet, sender = json.loads(await process.stdout.readline())
                assert bytes.fromhex(packet) == b"media"
                assert await asyncio.to_thread(peer.recv, 100) == b"answer"


@needs_namespaces
async def test_name_servers_should_be_answered_for_by_the_farm(short_path: Path) -> None:
    async with network_without_browser(short_path) as network:
        assert (await run_inside(network, QUERY)).split() == ["answered", "3"]


@needs_namespaces
async def test_relay_and_namespace_should_end_with_a_killed_recorder(short_path: Path) -> None:
    recorder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RECORDER, str(short_path)), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert recorder.stdout is not None
        relay, browser = map(int, (await asyncio.wait_for(recorder.stdout.readline(), 30)).split())
        assert namespace_of(browser) != namespace_of(relay) == namespace_of(os.getpid())
        processes = [psutil.Process(relay), psutil.Process(browser)]
    finally:
        recorder.send_signal(signal.SIGKILL)
        await recorder.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 5)
    assert alive == []


RECORDER = """
import asyncio, sys
from pathlib import Path
from recording_farm.browser_bot.stage.programs import DIES_WITH_PARENT
from testkit.browser_bot.networks import network_without_browser
async def main():
    async with network_without_browser(Path(sys.argv[1])) as network:
        browser = await asyncio.create_subprocess_exec(*network.entrance, *DIES_WITH_PARENT, "sleep", "60")
        await network.ready.wait()
        await asyncio.sleep(0.3)
        print(network.relay.pid, browser.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("8.8.8.8", True),
        ("10.1.2.3", True),
        ("10.2.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.251", False),
        ("255.255.255.255", False),
        ("0.0.0.0", False),
        ("2001:4860:4860::8888", True),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("fe80::1", False),
        ("ff02::fb", False),
        ("fd00::2", False),
    ],
)
def test_decision_should_be_the_rule_s(address: str, allowed: bool) -> None:
    decisions = Decisions(parse_address_rule("10.1.0.0/16"), ip_address("198.18.0.1").packed)
    assert decisions.of(ip_address(address).packed)[1] == allowed


@pytest.mark.parametrize("address", ["224.0.0.251", "255.255.255.255", "0.0.0.0", "198.18.0.1", "fe80::1"])
def test_groups_and_the_stage_itself_should_be_refused_where_all_is_allowed(address: str) -> None:
    decisions = Decisions(parse_address_rule("all"), ip_address("198.18.0.1").packed)
    assert decisions.of(ip_address("127.0.0.1").packed)[1]
    assert not decisions.of(ip_address(address).packed)[1]


def test_decisions_should_be_bounded() -> None:
    decisions = Decisions(parse_address_rule("all"), b"")
    for number in range(MAX_DECISIONS + 10):
        decisions.of((0x0A000000 + number).to_bytes(4))
    assert len(decisions._texts) == MAX_DECISIONS


def test_consent_should_expire_and_be_bounded() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
        port = Port(5000, outside, 0)
        peer = (b"\x7f\0\0\1", 9)
        assert not port.may_answer(peer, 0)
        assert not port.heard(peer, b"data", 0)
        assert port.heard(peer, BINDING_REQUEST, 0)
        assert port.heard(peer, b"data", 20)
        assert port.may_answer(peer, 49)
        assert not port.may_answer(peer, 50)
        assert not port.heard(peer, b"data", 51)
        for number in range(MAX_PEERS + 5):
            port.heard((b"\x7f\0\0\2", number), BINDING_REQUEST, 60)
        assert len(port.asked) == MAX_PEERS


def test_bucket_should_let_its_rate_pass() -> None:
    bucket = Bucket(100)
    start = bucket._at
    assert sum(bucket.take(start) for _ in range(500)) == 100
    assert sum(bucket.take(start + 0.5) for _ in range(500)) == 50


def test_name_servers_should_be_read_from_resolv_conf() -> None:
    text = "search a\nnameserver 10.0.0.2\n# nameserver 1.1.1.1\nnameserver fd00::53\nnameserver junk\n"
    assert parse_name_servers(text) == [ip_address("10.0.0.2").packed, ip_address("fd00::53").packed]
    assert parse_name_servers("") == [ip_address("127.0.0.1").packed]


def test_binding_request_should_be_recognized() -> None:
    assert is_binding_request(BINDING_REQUEST)
    assert not is_binding_request(BINDING_REQUEST[:-1])
    assert not is_binding_request(b"\x01\x01" + BINDING_REQUEST[2:])
    assert not is_binding_request(BINDING_REQUEST + b"more")
