"""The parts of STUN (RFC 8489) that the UDP relay needs: is it a Binding request, and the answer to one."""

import struct
from typing import Final

from recording_farm.browser_bot.network.host_names import IpAddress

_COOKIE: Final = 0x2112A442
_BINDING_REQUEST: Final = 0x0001
_BINDING_SUCCESS: Final = 0x0101
_XOR_MAPPED_ADDRESS: Final = 0x0020
_HEADER: Final = struct.Struct("!HHI12s")


def is_binding_request(packet: bytes) -> bool:
    """Whether a packet is a Binding request, which ICE agents send to their peers."""
    if len(packet) < _HEADER.size:
        return False
    kind, size, cookie, _ = _HEADER.unpack_from(packet)
    return (kind, cookie, size) == (_BINDING_REQUEST, _COOKIE, len(packet) - _HEADER.size)


def binding_response(request: bytes, ip: IpAddress, port: int) -> bytes:
    """Return the answer that tells the sender of a Binding request its address and port."""
    transaction = _HEADER.unpack_from(request)[3]
    mask = struct.pack("!I", _COOKIE) + transaction
    address = bytes(one ^ other for one, other in zip(ip.packed, mask, strict=False))
    family = 1 if ip.version == 4 else 2
    value = struct.pack("!BBH", 0, family, port ^ (_COOKIE >> 16)) + address
    attribute = struct.pack("!HH", _XOR_MAPPED_ADDRESS, len(value)) + value
    return _HEADER.pack(_BINDING_SUCCESS, len(attribute), _COOKIE, transaction) + attribute
