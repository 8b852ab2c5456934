"""Networks of stages without a browser: a Python script is in the namespace, and listeners are outside."""

import asyncio
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

from recording_farm.browser_bot.network.addresses import parse_address_rule
from recording_farm.browser_bot.network.udp_policy import UdpPolicy
from recording_farm.browser_bot.stage.network import StageNetwork, open_network

MDNS_GROUP_V4: Final = "224.0.0.251"
MDNS_GROUP_V6: Final = "ff02::fb"
MDNS_PORT: Final = 5353


class Listener:
    """A UDP and a TCP socket with the same port at an address, which note all that arrives."""

    def __init__(self, address: str) -> None:
        self.address = address
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.udp = socket.socket(family, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.udp.bind((address, 0))
        self.port = self.udp.getsockname()[1]
        self.tcp = socket.socket(family, socket.SOCK_STREAM)
        self.tcp.bind((address, self.port))
        self.tcp.listen()
        for each in (self.udp, self.tcp):
            each.setblocking(False)

    @property
    def host(self) -> str:
        return f"[{self.address}]" if ":" in self.address else self.address

    def heard(self) -> int:
        """How many packets and connections arrived since the last call."""
        count = 0
        for take in (lambda: self.udp.recv(2000), lambda: self.tcp.accept()[0].close()):
            try:
                while True:
                    take()
                    count += 1
            except BlockingIOError:
                pass
        return count

    async def hears(self, seconds: float = 15) -> bool:
        """Whether a packet arrives within some seconds."""
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.udp, 2000), seconds)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()


@contextmanager
def listening(*addresses: str) -> Iterator[list[Listener]]:
    """Listeners at some of this machine's addresses."""
    listeners = [Listener(address) for address in addresses]
    try:
        yield listeners
    finally:
        for each in listeners:
            each.close()


class MdnsListener:
    """A member of mDNS's groups on each interface of this machine."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            member = socket.socket(family, socket.SOCK_DGRAM)
            self.sockets.append(member)
            member.setblocking(False)
            member.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # beside Avahi
            if family == socket.AF_INET6:
                member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            member.bind(("", MDNS_PORT))
            for interface, _ in socket.if_nameindex():
                with suppress(OSError):  # the interface is down
                    join(member, interface)

    async def packets_until(self, name: str) -> list[bytes]:
        """The packets that arrived, from the first to the one about `name`."""
        packets: list[bytes] = []
        async with asyncio.timeout(15):
            while not any(is_about(packet, name) for packet in packets):
                await asyncio.sleep(0.05)
                for member in self.sockets:
                    with suppress(BlockingIOError):
                        while True:
                            packets.append(member.recv(9000))
        return packets


def join(member: socket.socket, interface: int) -> None:
    """Join mDNS's group on an interface."""
    if member.family == socket.AF_INET:
        request = struct.pack("=4s4si", socket.inet_aton(MDNS_GROUP_V4), bytes(4), interface)
        member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    else:
        request = struct.pack("=16si", socket.inet_pton(socket.AF_INET6, MDNS_GROUP_V6), interface)
        member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)


@contextmanager
def mdns_listening() -> Iterator[MdnsListener]:
    """A listener for mDNS."""
    listener = MdnsListener()
    try:
        yield listener
    finally:
        for each in listener.sockets:
            each.close()


def dns_name(name: str) -> bytes:
    """A name as in a DNS message."""
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def ask_by_mdns(name: str) -> None:
    """Query a name by mDNS on this machine's loopback interface."""
    query = bytes.fromhex("0000 0000 0001 0000 0000 0000") + dns_name(name) + bytes.fromhex("0001 0001")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        loopback = struct.pack("=4s4si", bytes(4), bytes(4), socket.if_nametoindex("lo"))
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
        sender.sendto(query, (MDNS_GROUP_V4, MDNS_PORT))


def is_about(packet: bytes, name: str) -> bool:
    """Whether an mDNS packet asks for a name or announces it."""
    return dns_name(name)[: len(name.split(".")[0]) + 1] in packet


@asynccontextmanager
async def network_without_browser(
    directory: Path, rule: str = "", udp: UdpPolicy = UdpPolicy.FILTERED
) -> AsyncIterator[StageNetwork]:
    """A stage's network; `run_inside` starts what is in it."""
    async with open_network(parse_address_rule(rule), (), udp) as network, network.opened(directory):
        yield network


async def run_inside(network: StageNetwork, script: str, *words: str) -> str:
    """Run a Python script in a stage's network, the only one; return what it printed."""
    async with running_inside(network, script, *words) as process:
        output, errors = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0, errors.decode()
        return output.decode()


@asynccontextmanager
async def running_inside(
    network: StageNetwork, script: str, *words: str, before: Sequence[str] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python script in a stage's network, which is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *before,
        *network.entrance,
        *(sys.executable, "-I", "-c", script, *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def machine_addresses() -> list[str]:
    """This machine's addresses besides those of its loopback interface; none if it has no network."""
    found = []
    for family, public in ((socket.AF_INET, "198.51.100.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((public, 9))
            except OSError:
                continue
            found.append(probe.getsockname()[0])
    return found


def namespace_of(pid: int) -> str:
    """The network namespace of a process."""
    return os.readlink(f"/proc/{pid}/ns/net")
