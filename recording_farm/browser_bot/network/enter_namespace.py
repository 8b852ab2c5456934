"""Runs a program in a network namespace of its own, whose every packet only the farm sees.

    python -I -S enter_namespace.py SOCKET PROGRAM ARGUMENT…
    python -I -S enter_namespace.py --check

A stage's Chromium starts through this file. It needs root, or user namespaces as Chromium's own sandbox does;
no device, no packet filter, no program. The namespace has no way out. An interface without a wire makes
browsers see a network, and every address is local there (`ip route add local default dev lo`): what the
browser sends arrives at raw sockets. These, the socket of the browser's proxy and those of its DNS server
are created here and sent through the Unix socket SOCKET to the farm, which answers in the name of every
peer; see `browser_bot.network.udp_relay`. When the program and the farm's sockets are gone, the kernel
removes the namespace.

Only the standard library is imported, and nothing of the farm, because this file delays each browser.
"""

import ctypes
import errno
import os
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

ADDRESS_V4: Final = "198.18.0.1"
"""The stage's own address, of a network for benchmarks (RFC 2544), so that no peer has it."""

ADDRESS_V6: Final = "fd9f:6172:6d00::1"

PROXY_PORT: Final = 3128
"""Where the gateway listens on the namespace's loopback interface."""

DNS_PORT: Final = 53
ACCEPTED: Final = b"+"
"""The farm's answer once it has the sockets."""

MAX_SOCKETS: Final = 5
"""How many sockets are sent: the proxy's and, for each version of IP, the raw and the DNS server's one."""

_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000

# linux/in.h, in6.h, asm-generic/socket.h; the socket module lacks them in Python 3.11.
_IP_PKTINFO: Final = 8
_IPV6_CHECKSUM: Final = 7
_IPV6_FREEBIND: Final = 78
_SO_ATTACH_FILTER: Final = 26

# linux/rtnetlink.h, if_link.h, if_addr.h
_RTM_NEWLINK, _RTM_NEWADDR, _RTM_NEWROUTE = 16, 20, 24
_REQUEST, _ACK, _CREATE, _EXCLUSIVE = 1, 4, 0x400, 0x200
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_AF_SPEC = 3, 18, 26
_INFO_KIND, _INFO_DATA, _VETH_PEER, _ADDR_GEN_MODE, _ADDR_GEN_NONE = 1, 2, 1, 8, 1
_IFA_ADDRESS, _IFA_LOCAL, _NO_DAD = 1, 2, 0x02
_RTA_OIF, _RTA_PREFSRC = 4, 7
_TABLE_LOCAL, _PROTO_BOOT, _SCOPE_HOST, _ROUTE_LOCAL = 255, 3, 254, 2
_ERROR: Final = 2
_INTERFACE: Final = "eth0"


class _Netlink:
    """A connection to the kernel's routing tables (rtnetlink(7))."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        self._socket.bind((0, 0))

    def close(self) -> None:
        self._socket.close()

    def request(self, kind: int, flags: int, body: bytes) -> None:
        """Send a request and wait for its acknowledgment. Raises OSError if the kernel refuses."""
        size = 16 + len(body)
        self._socket.send(struct.pack("=IHHII", size, kind, _REQUEST | _ACK | flags, 1, 0) + body)
        answer = self._socket.recv(8192)
        answered, code = struct.unpack_from("=H", answer, 4)[0], struct.unpack_from("=i", answer, 16)[0]
        if answered == _ERROR and code:
            raise OSError(-code, os.strerror(-code))

    def set_up(self, interface: str) -> None:
        up = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, socket.if_nametoindex(interface), 1, 1)
        self.request(_RTM_NEWLINK, 0, up)

    def create(self, kind: str, name: str, data: bytes = b"") -> None:
        info = _attribute(_INFO_KIND, kind.encode()) + (_attribute(_INFO_DATA, data) if data else b"")
        body = _LINK + _attribute(_IFLA_IFNAME, name.encode() + b"\0") + _attribute(_IFLA_LINKINFO, info)
        self.request(_RTM_NEWLINK, _CREATE | _EXCLUSIVE, body)

    def without_link_local(self, interface: str) -> None:
        """Give an interface no IPv6 address of its own, which browsers would offer to their peers."""
        mode = _attribute(_ADDR_GEN_MODE, bytes([_ADDR_GEN_NONE]))
        link = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, socket.if_nametoindex(interface), 0, 0)
        self.request(_RTM_NEWLINK, 0, link + _attribute(_IFLA_AF_SPEC, _attribute(socket.AF_INET6, mode)))

    def add_address(self, family: int, address: bytes, interface: str) -> None:
        head = struct.pack("=BBBBi", family, len(address) * 8, _NO_DAD, 0, socket.if_nametoindex(interface))
        both = _attribute(_IFA_LOCAL, address) + _attribute(_IFA_ADDRESS, address)
        self.request(_RTM_NEWADDR, _CREATE | _EXCLUSIVE, head + both)

    def make_everything_local(self, family: int, source: bytes) -> None:
        head = struct.pack(
            "=BBBBBBBBI", family, 0, 0, 0, _TABLE_LOCAL, _PROTO_BOOT, _SCOPE_HOST, _ROUTE_LOCAL, 0
        )
        oif = _attribute(_RTA_OIF, struct.pack("=i", socket.if_nametoindex("lo")))
        self.request(_RTM_NEWROUTE, _CREATE, head + oif + _attribute(_RTA_PREFSRC, source))


_LINK: Final = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)


def _attribute(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + bytes(-size % 4)


def unshare_network() -> None:
    """Move this process into a new network namespace; as an ordinary user, in a new user namespace.

    Raises OSError if the machine does not allow it.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        with suppress(OSError):  # root of a container without CAP_SYS_ADMIN
            _unshare(_CLONE_NEWNET)
            return
    _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {uid} 1")
    _write("/proc/self/gid_map", f"{gid} {gid} 1")


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        code = ctypes.get_errno()
        reason = os.strerror(code)
        if code == errno.ENOSPC:
            reason = "the limit is user.max_user_namespaces or user.max_net_namespaces (sysctl)"
        raise OSError(code, f"unshare: {reason}")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def set_up_network() -> list[socket.socket]:
    """Set up this process's new namespace, and return the sockets that the farm needs.

    IPv6 is left out where the kernel has none. Raises OSError.
    """
    netlink = _Netlink()
    try:
        netlink.set_up("lo")
        _create_interface(netlink)
        v4 = socket.inet_pton(socket.AF_INET, ADDRESS_V4)
        netlink.add_address(socket.AF_INET, v4, _INTERFACE)
        netlink.make_everything_local(socket.AF_INET, v4)
        proxy = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        proxy.bind(("127.0.0.1", PROXY_PORT))
        proxy.listen(128)
        sockets = [proxy, _raw(socket.AF_INET, v4), _dns(socket.AF_INET)]
        with suppress(OSError):
            v6 = socket.inet_pton(socket.AF_INET6, ADDRESS_V6)
            netlink.add_address(socket.AF_INET6, v6, _INTERFACE)
            netlink.make_everything_local(socket.AF_INET6, v6)
            sockets += [_raw(socket.AF_INET6, v6), _dns(socket.AF_INET6)]
        return sockets
    finally:
        netlink.close()


def _create_interface(netlink: _Netlink) -> None:
    peer = _attribute(_VETH_PEER, _LINK + _attribute(_IFLA_IFNAME, b"unused\0"))
    try:
        netlink.create("veth", _INTERFACE, peer)
        ends = [_INTERFACE, "unused"]
    except OSError:  # this kernel has no veth
        netlink.create("dummy", _INTERFACE)
        ends = [_INTERFACE]
    for end in ends:
        with suppress(OSError):
            netlink.without_link_local(end)
        netlink.set_up(end)


def _raw(family: int, own: bytes) -> socket.socket:
    """Return a socket that receives what is sent to any address but the stage's own, and sends to that."""
    raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP)
    _receive_unless_sent_to(raw, 16 if family == socket.AF_INET else 24, own)
    if family == socket.AF_INET6:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_CHECKSUM, 6)
        raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    return raw


def _receive_unless_sent_to(raw: socket.socket, offset: int, address: bytes) -> None:
    """Attach a filter (BPF) on the destination, which is at `offset` of the IP header."""
    words = struct.unpack(f"!{len(address) // 4}I", address)
    program = []
    for number, word in enumerate(words):
        # Load a word of the network header; unless it is equal, jump to the last instruction.
        program.append((0x20, 0, 0, 0xFFF00000 + offset + 4 * number))
        program.append((0x15, 0, 2 * (len(words) - number) - 1, word))
    program += [(0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)]  # drop; accept
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    raw.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code))
    )


def _dns(family: int) -> socket.socket:
    server = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        server.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        server.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    server.bind(("", DNS_PORT))
    return server


def _enter(path: str, program: Sequence[str]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as farm:
        farm.connect(path)
        unshare_network()
        sockets = set_up_network()
        socket.send_fds(farm, [bytes([len(sockets)])], [each.fileno() for each in sockets])
        if farm.recv(1) != ACCEPTED:
            raise OSError("the farm did not take the sockets")
    for each in sockets:
        each.close()
    os.execvp(program[0], list(program))  # noqa: S606


def main(arguments: Sequence[str]) -> int:
    """Run the program; its arguments are those of this file's first lines."""
    try:
        if list(arguments) == ["--check"]:
            unshare_network()
            set_up_network()
        else:
            _enter(arguments[0], arguments[1:])
    except OSError as error:
        print(f"network namespace: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
