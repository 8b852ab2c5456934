"""FARM_WEBRTC_UDP: the addresses that pages may send UDP packets to, which pass by every HTTP proxy."""

from enum import StrEnum


class UdpPolicy(StrEnum):
    """The UDP packets of WebRTC: media, STUN and TURN.

    FILTERED: to the addresses that the address rule allows; off where the machine cannot filter them.
    OFF: none; WebRTC may still use TURN servers and peers by TCP, through the gateway.
    OPEN: to every address that the machine reaches.
    """

    FILTERED = "filtered"
    OFF = "off"
    OPEN = "open"
