"""Packets of a media file that may break off anywhere, and their times."""

import logging
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, TypeAlias

import av
from av.container import InputContainer
from av.packet import Packet as AvPacket
from av.stream import Stream

from recording_farm.encoder.formats import SAMPLE_RATE

logger = logging.getLogger(__name__)

Packet: TypeAlias = "AvPacket[Any]"
"""Generic for the type checker only."""

MICROSECOND = Fraction(1, 1_000_000)


def whole_packets(source: InputContainer, *streams: Stream) -> Iterator[Packet]:
    """The whole packets of a file, of all its streams or these, up to where a killed ffmpeg left off.

    It must have been opened as a file object: then only what is in it ends it early, and a disk that fails
    raises OSError.
    """
    try:
        for packet in source.demux(*streams):
            # What follows may be of another stream, and from before the break.
            if packet.pts is not None and packet.size and not packet.is_corrupt:
                yield packet
    except av.FFmpegError as error:
        logger.info("%s ends early: %s", source.name, error)


def time_of(packet: Packet) -> int:
    """A packet's time, in µs."""
    assert packet.pts is not None
    base = packet.time_base
    # As `round` does it with a Fraction, which costs ten times as much; each packet is asked three times.
    whole, rest = divmod(packet.pts * base.numerator * 1_000_000, base.denominator)
    is_up = 2 * rest > base.denominator or (2 * rest == base.denominator and whole % 2 == 1)
    return whole + is_up


def samples_of(packet: Packet) -> int:
    """A packet's time, in samples."""
    assert packet.pts is not None
    return round(packet.pts * packet.time_base * SAMPLE_RATE)
