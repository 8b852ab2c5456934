"""The UDP relay of a stage: forwards what WebRTC sends to the addresses that the address rule allows.

    python -m recording_farm.browser_bot.network.udp_relay UDP RULE STUN SOCKET…

A stage's Chromium is in a network namespace without a way out (`browser_bot.network.enter_namespace`). This
program has the namespace's sockets. It is a NAT: for each port from which the browser sends, it has a socket
in the machine's network, with the same number if that is free, through which peers reach the browser.

- A packet to an address that the rule refuses is dropped, as are multicast and broadcast. There is one
  exception: a peer that sent a Binding request to the port first (ICE's connectivity check) gets answers, as
  long as it continues to send. So participants in the operator's own network can connect to a meeting's
  recorder, and no page can send the first byte to a host that did not ask for it.
- DNS queries to the machine's name servers, which WebRTC makes for the names of STUN and TURN servers, are
  answered here, without addresses that the rule refuses. If UDP is `off`, nothing else is.
- Binding requests to the address STUN are answered with the socket's own address in the machine's network.
  The built-in meeting's recorder learns from it where participants reach it. Other pages do not know STUN.

Media pass through here, so this is a process of its own: neither waits for the other.
"""

import select
import socket
import struct
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from threading import BoundedSemaphore
from typing import Final

from recording_farm.browser_bot.network.addresses import AddressRule, parse_address_rule
from recording_farm.browser_bot.network.dns import resolve_here
from recording_farm.browser_bot.network.dns_messages import answer_to, parse_query
from recording_farm.browser_bot.network.enter_namespace import ADDRESS_V4, ADDRESS_V6, DNS_PORT
from recording_farm.browser_bot.network.host_names import HostError, IpAddress, normalize_host
from recording_farm.browser_bot.network.stun import binding_response, is_binding_request
from recording_farm.browser_bot.network.udp_policy import UdpPolicy

CONSENT_SECONDS: Final = 30.0
"""How long a peer that the rule refuses gets answers after its last packet, as in RFC 7675."""

IDLE_SECONDS: Final = 180.0
"""A port is closed after this time without packets; RFC 4787 wants two minutes at least."""

MIN_SAME_PORT: Final = 1024
"""Ports below belong to the machine's services and are never taken, not even by a farm of root's."""

MAX_PORTS: Final = 128
"""Ports of one version of IP; the one that was idle longest is closed for the next."""

MAX_PEERS: Final = 64
"""Peers of one port that the rule refuses and that may be answered."""

PACKETS_PER_SECOND: Final = 4000
"""Limit of packets from the browser. A page with camera and microphone sends some hundred."""

MAX_DECISIONS: Final = 4096
MAX_TOLD: Final = 20
"""Refused addresses of each version of IP that the log names; a page may try any number."""

MAX_LOOKUPS: Final = 8
"""Names that are looked up at the same time; queries beyond wait."""

MAX_QUEUED_LOOKUPS: Final = 64
MAX_BATCH: Final = 64
"""Packets of one socket that are forwarded before another socket has its turn."""

MAX_PACKET: Final = 16_384
"""The longest packet (bytes). Those of WebRTC are not longer than an Ethernet frame."""

_BUFFER: Final = 1 << 20
_SWEEP_SECONDS: Final = 10.0
_IP_PKTINFO: Final = 8
_UDP: Final = struct.Struct("!4H")
_V4_INFO: Final = struct.Struct("=I4s4s")
_V6_INFO: Final = struct.Struct("=16sI")
_NO_LINK: Final = bytes(4)

Peer = tuple[bytes, int]
"""Packed address and port."""

Source = tuple[int, int, bytes]
"""Ancillary data of a packet: the address that it seems to come from."""

Sender = tuple[Peer, bool, Source]
"""A peer, whether the rule allows it, and its address as a source."""


class Bucket:
    """A token bucket: at most `rate` packets a second, and as many at once."""

    def __init__(self, rate: float) -> None:
        """Start with a full bucket."""
        self._rate = self._tokens = rate
        self._at = time.monotonic()

    def take(self, present: float) -> bool:
        """Take a token if there is one."""
        self._tokens = min(self._rate, self._tokens + (present - self._at) * self._rate)
        self._at = present
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Decisions:
    """What the address rule says of each peer, by packed address; decisions are kept."""

    def __init__(self, rule: AddressRule, own: bytes) -> None:
        """Apply `rule`, and refuse the stage's `own` address always."""
        self._rule = rule
        self._own = own
        self._texts: OrderedDict[bytes, tuple[str, bool]] = OrderedDict()
        self._told = 0

    def of(self, packed: bytes) -> tuple[str, bool]:
        """Return an address as text, and whether the rule allows it."""
        known = self._texts.get(packed)
        if known is None:
            ip = ip_address(packed)
            known = str(ip), packed != self._own and is_unicast(ip) and self._rule.is_allowed(ip)
            self._texts[packed] = known
            if not known[1] and is_unicast(ip) and self._told < MAX_TOLD:
                self._told += 1
                print(f"{ip}, not a public address, gets packets only after it sent some", flush=True)
            if len(self._texts) > MAX_DECISIONS:
                self._texts.popitem(last=False)
        return known


def is_unicast(ip: IpAddress) -> bool:
    """Whether an address may be one host's: not a group's, everybody's, nobody's or without an interface."""
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return is_unicast(ip.ipv4_mapped)
    if ip.is_multicast or ip.is_unspecified:
        return False
    if isinstance(ip, IPv4Address):
        return int(ip) >> 24 != 0 and int(ip) != 0xFFFFFFFF
    return not ip.is_link_local


@dataclass
class Port:
    """A port of the browser, its socket in the machine's network, and the peers that asked first."""

    number: int
    outside: socket.socket
    used: float
    asked: OrderedDict[Peer, float] = field(default_factory=OrderedDict)

    def may_answer(self, peer: Peer, present: float) -> bool:
        """Whether a peer that the rule refuses sent packets a short time ago."""
        return present - self.asked.get(peer, -CONSENT_SECONDS) < CONSENT_SECONDS

    def heard(self, peer: Peer, packet: bytes, present: float) -> bool:
        """Note a packet of a peer that the rule refuses; return whether the browser gets it."""
        if not self.may_answer(peer, present) and not is_binding_request(packet):
            return False
        self.asked[peer] = present
        self.asked.move_to_end(peer)
        if len(self.asked) > MAX_PEERS:
            self.asked.popitem(last=False)
        return True


class Side:
    """One version of IP: the stage's raw socket, and the ports that the browser uses."""

    def __init__(self, relay: "Relay", raw: socket.socket, dns: socket.socket) -> None:
        """Read packets of the browser from `raw` and DNS queries from `dns`."""
        self._relay = relay
        self._raw = raw
        self._dns = dns
        self._family = raw.family
        self._v4 = raw.family == socket.AF_INET
        own = ADDRESS_V4 if self._v4 else ADDRESS_V6
        self._decisions = Decisions(relay.rule, socket.inet_pton(self._family, own))
        self._ports: OrderedDict[int, Port] = OrderedDict()
        self._senders: dict[tuple[str, int], Sender] = {}
        self._to_browser = own, 0
        relay.watch(raw, self._read_raw)
        relay.watch(dns, self._read_dns)

    def sweep(self, present: float) -> None:
        """Close the ports that are idle."""
        for port in list(self._ports.values()):
            if present - port.used > IDLE_SECONDS:
                self._close(port)

    def _read_raw(self) -> None:
        """Read one packet of the browser. Raises BlockingIOError if there is none."""
        if self._v4:
            packet = self._raw.recv(MAX_PACKET)
            head = (packet[0] & 15) * 4
            destination = packet[16:20]
        else:
            packet, info, _, _ = self._raw.recvmsg(MAX_PACKET, 64)
            head = 0
            destination = info[0][2][:16]
        source, target, size, _ = _UDP.unpack_from(packet, head)
        self._send(source, (destination, target), packet[head + 8 : head + size])

    def _send(self, source: int, peer: Peer, payload: bytes) -> None:
        if source == DNS_PORT or (peer[1] == DNS_PORT and peer[0] in self._relay.name_servers):
            return  # `_read_dns` answers queries
        if not self._relay.forwards:
            return
        if peer == self._relay.stun:
            self._tell_address(source, payload)
            return
        present = time.monotonic()
        text, allowed = self._decisions.of(peer[0])
        port = self._ports.get(source)
        if not allowed and (port is None or not port.may_answer(peer, present)):
            return
        if not self._relay.bucket.take(present):
            return
        port = port or self._open(source, present)
        port.used = present
        # Its errors, such as no route, are those of one packet, which UDP may lose.
        with suppress(OSError):
            port.outside.sendto(payload, (text, peer[1]))

    def _open(self, number: int, present: float) -> Port:
        if len(self._ports) >= MAX_PORTS:
            self._close(min(self._ports.values(), key=lambda port: port.used))
        outside = socket.socket(self._family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        if not self._v4:
            outside.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        outside.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        try:
            outside.bind(("", number if number >= MIN_SAME_PORT else 0))
        except OSError:  # another stage or program has it
            outside.bind(("", 0))
        port = self._ports[number] = Port(number, outside, present)
        self._relay.watch(outside, lambda: self._read_outside(port))
        return port

    def _close(self, port: Port) -> None:
        del self._ports[port.number]
        self._relay.forget(port.outside)
        port.outside.close()

    def _read_outside(self, port: Port) -> None:
        """Read one packet of a peer. Raises BlockingIOError if there is none."""
        packet, address = port.outside.recvfrom(MAX_PACKET)
        present = time.monotonic()
        peer, allowed, source = self._senders.get(address) or self._sender(address)
        if not allowed and not port.heard(peer, packet, present):
            return
        port.used = present
        self._inject(peer, port.number, packet, source)

    def _sender(self, address: tuple[str, int]) -> Sender:
        """Look at the sender of a packet once, and not for each of its packets."""
        if len(self._senders) >= MAX_DECISIONS:
            self._senders.clear()
        peer = socket.inet_pton(self._family, address[0].partition("%")[0]), address[1]
        known = self._senders[address] = peer, self._decisions.of(peer[0])[1], self._from(peer[0])
        return known

    def _inject(self, peer: Peer, port: int, payload: bytes, source: Source) -> None:
        """Send a packet to the browser as if it came from a peer."""
        header = _UDP.pack(peer[1], port, (8 + len(payload)) & 0xFFFF, 0)
        with suppress(OSError):
            self._raw.sendmsg((header, payload), (source,), 0, self._to_browser)

    def _from(self, address: bytes) -> Source:
        """Return the ancillary data that makes an address the sender."""
        if self._v4:
            return socket.IPPROTO_IP, _IP_PKTINFO, _V4_INFO.pack(0, address, _NO_LINK)
        return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _V6_INFO.pack(address, 0)

    def _tell_address(self, source: int, packet: bytes) -> None:
        """Answer a Binding request with the address and port at which peers reach the browser's port."""
        own = own_address(self._family)
        if own is None or not is_binding_request(packet):
            return
        present = time.monotonic()
        port = self._ports.get(source) or self._open(source, present)
        port.used = present
        number = port.outside.getsockname()[1]
        answer = binding_response(packet, own, number)
        self._inject(self._relay.stun, source, answer, self._from(self._relay.stun[0]))

    def _read_dns(self) -> None:
        """Read one query, and answer it in a thread. Raises BlockingIOError if there is none."""
        message, info, _, client = self._dns.recvmsg(MAX_PACKET, 64)
        server = info[0][2][8:12] if self._v4 else info[0][2][:16]
        if server in self._relay.name_servers:
            self._relay.look_up(message, lambda answer: self._answer(answer, server, client))

    def _answer(self, answer: bytes, server: bytes, client: tuple[str, int]) -> None:
        with suppress(OSError):
            self._dns.sendmsg([answer], [self._from(server)], 0, client)


class Relay:
    """The relay of one stage."""

    def __init__(
        self,
        udp: UdpPolicy,
        rule: AddressRule,
        stun: Peer,
        name_servers: Sequence[bytes],
        sockets: Sequence[socket.socket],
    ) -> None:
        """Relay between the network and `sockets`: for each version of IP, a raw socket and a DNS server."""
        self.forwards = udp is not UdpPolicy.OFF
        self.rule = rule
        self.stun = stun
        self.name_servers = frozenset(name_servers)
        self.bucket = Bucket(PACKETS_PER_SECOND)
        self._poll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._lookups = ThreadPoolExecutor(MAX_LOOKUPS, thread_name_prefix="lookup")
        self._places = BoundedSemaphore(MAX_QUEUED_LOOKUPS)
        self._sides = [Side(self, *sockets[at : at + 2]) for at in range(0, len(sockets), 2)]

    def watch(self, source: socket.socket, read: Callable[[], None]) -> None:
        """Call `read` when packets arrive at a socket."""
        source.setblocking(False)
        self._readers[source.fileno()] = read
        self._poll.register(source, select.EPOLLIN)

    def forget(self, source: socket.socket) -> None:
        """Stop watching a socket, which is then closed."""
        self._poll.unregister(source)
        del self._readers[source.fileno()]

    def run(self) -> None:
        """Relay packets until the process is ended."""
        swept = time.monotonic()
        while True:
            for descriptor, _ in self._poll.poll(_SWEEP_SECONDS):
                self._read(descriptor)
            present = time.monotonic()
            if present - swept > _SWEEP_SECONDS:
                swept = present
                for side in self._sides:
                    side.sweep(present)

    def _read(self, descriptor: int) -> None:
        for _ in range(MAX_BATCH):
            read = self._readers.get(descriptor)
            if read is None:  # closed for another port
                return
            try:
                read()
            except BlockingIOError:
                return
            except (OSError, struct.error, IndexError):
                continue  # an ICMP error of an earlier packet, or a packet that is not UDP

    def look_up(self, message: bytes, answer: Callable[[bytes], None]) -> None:
        """Answer a DNS query in a thread; drop it while too many wait."""
        query = parse_query(message)
        if query is None or not self._places.acquire(blocking=False):
            return

        def work() -> None:
            try:
                answer(answer_to(query, self._addresses_of(query.name)))
            finally:
                self._places.release()

        self._lookups.submit(work)

    def _addresses_of(self, name: str) -> Sequence[IpAddress]:
        try:
            found = resolve_here(normalize_host(name))
        except HostError:
            return ()
        return [ip for ip in found if self.rule.is_allowed(ip)]


def own_address(family: int) -> IpAddress | None:
    """Return this machine's address towards other networks, or on its loopback interface without any."""
    everywhere = "198.51.100.1" if family == socket.AF_INET else "2001:db8::1"
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((everywhere, 9))
        except OSError:
            return IPv4Address("127.0.0.1") if family == socket.AF_INET else None
        return ip_address(probe.getsockname()[0])


def parse_name_servers(resolv_conf: str) -> list[bytes]:
    """Return the packed addresses of the name servers in resolv.conf(5), the local one if there are none."""
    servers = []
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            with suppress(ValueError):
                servers.append(ip_address(words[1]).packed)
    return servers or [IPv4Address("127.0.0.1").packed]


def main(arguments: Sequence[str]) -> None:
    """Relay packets; the arguments are those of this file's first lines, with SOCKET as file descriptor."""
    udp, rule, stun, *descriptors = arguments
    try:
        name_servers = parse_name_servers(Path("/etc/resolv.conf").read_text(errors="replace"))
    except OSError:
        name_servers = parse_name_servers("")
    address, _, port = stun.rpartition(":")
    Relay(
        UdpPolicy(udp),
        parse_address_rule(rule),
        (ip_address(address).packed, int(port)),
        name_servers,
        [socket.socket(fileno=int(each)) for each in descriptors],
    ).run()


if __name__ == "__main__":
    main(sys.argv[1:])
