"""Takes that grow as a recorder writes them, and what becomes of them."""

import time
from fractions import Fraction
from pathlib import Path

import av
import pytest

from recording_farm.encoder.journal import Journal, Lag, write_journal
from recording_farm.farm.progressive.following import Following, StoppedError
from recording_farm.farm.spool.spool import Spool
from testkit.encoder.beeps import make_take

EPOCH = 1_790_000_000
BEGIN = Fraction(7, 2)
SECONDS = 12
"""A take of `make_takes` begins at BEGIN, and is so long."""


def make_takes(spool: Spool, count: int) -> None:
    """Write whole takes."""
    for number in range(count):
        begin = float(BEGIN) + number / 90
        make_take(spool.media(number), 3.4, begin + SECONDS, picture_from=begin)


def grow(takes: Spool, spool: Spool, number: int, share: Fraction = Fraction(1)) -> None:
    """Write a take, or the first part of it, as a recorder does at this moment."""
    data = takes.media(number).read_bytes()
    with spool.media(number).open("ab") as file:
        file.write(data[spool.media(number).stat().st_size : int(len(data) * share)])
    seconds = BEGIN + SECONDS * share
    began_us = time.monotonic_ns() // 1000 - int(seconds * 1_000_000)
    journal = Journal(number, EPOCH, EPOCH * 1_000_000, began_us, 0, lags=(Lag(0, 0),))
    write_journal(spool.media(number).with_suffix(".json"), journal)


def cut_for(spool: Spool, name: str, seconds: float) -> None:
    """Cut what there is of the takes for some seconds."""
    stop = time.monotonic() + seconds
    with pytest.raises(StoppedError):
        Following(spool, name, "title", lambda: time.monotonic() > stop).run()


def packets_of(path: Path) -> list[tuple[str, int | None, int]]:
    """The packets of a file: kind, time, and a hash of the data."""
    with av.open(str(path)) as source:
        return sorted(
            (packet.stream.type, packet.pts, hash(bytes(packet))) for packet in source.demux() if packet.size
        )


def seconds_of(path: Path) -> float:
    """The length of a file."""
    with av.open(str(path)) as source:
        assert source.duration is not None
        return source.duration / 1_000_000
