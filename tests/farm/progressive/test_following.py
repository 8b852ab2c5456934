"""Takes of test pictures that grow as a recorder writes them, and a process that stops anywhere."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import av
import pytest

from recording_farm.encoder.cut import growing_cut
from recording_farm.encoder.cut.growing_cut import CutFile
from recording_farm.encoder.errors import CutError
from recording_farm.encoder.formats import Codec, Format
from recording_farm.encoder.journal import Journal, Lag, write_journal
from recording_farm.farm.progressive import following
from recording_farm.farm.progressive.following import CLAIM, Following, StoppedError, finish_cut
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import Spool
from recording_farm.farm.storage.crc32c import crc32c
from testkit.encoder.beeps import make_take

SECONDS = 6
FORMATS = [Format(Codec.H264, 320, 180), Format(Codec.VP8, 320, 180)]
NEVER = (False).__bool__


@pytest.fixture(autouse=True)
def _settled_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "SETTLE_US", 500_000)
    monkeypatch.setattr(following, "AUDIO_SETTLE_US", 500_000)


@pytest.fixture(scope="module", params=FORMATS, ids=lambda fmt: fmt.codec)
def takes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Spool:
    """A spool with three whole takes."""
    fmt: Format = request.param
    spool = Spool(tmp_path_factory.mktemp("takes"), fmt)
    for number in range(3):
        begin = 3.5 + number / 90
        make_take(spool.media(number), 3.4, begin + SECONDS, picture_from=begin)
        note(spool, number)
    return spool


def note(spool: Spool, number: int, began_us: int | None = None, **changes: object) -> None:
    """Write a take's journal; it began long ago unless `began_us` tells (µs of CLOCK_MONOTONIC)."""
    now = time.monotonic_ns() // 1000
    journal = Journal(
        *(number, 1_790_000_000, 1_790_000_003_500_000, began_us or now - 60_000_000, 0),
        lags=(Lag(0, 0),),
    )
    write_journal(spool.media(number).with_suffix(".json"), replace(journal, **changes))  # type: ignore[arg-type]


def content(file: CutFile) -> tuple[object, ...]:
    """All that a player finds in a file: packets with their times."""
    with av.open(str(file.path)) as source:
        packets = [
            (packet.stream.type, packet.pts, packet.is_keyframe, hash(bytes(packet)))
            for packet in source.demux()
            if packet.size
        ]
    check_blocks(file)
    # A block that was not full ends where a process stopped.
    checksums = replace(file.checksums, blocks=())
    return sorted(packets), replace(file, path=Path(), identity="", checksums=checksums)


def check_blocks(file: CutFile) -> None:
    """Compare the checksums of a file with its content behind the head."""
    body = file.path.read_bytes()[-file.body_bytes :]
    assert crc32c(body) == file.checksums.crc32c
    position = 0
    for block in file.checksums.blocks:
        data = body[position : position + block.size]
        assert sha256(data).hexdigest() == block.sha256
        position += block.size
    assert position == len(body)


def whole(takes: Spool, directory: Path) -> tuple[object, ...]:
    """The file that is cut of whole takes at once."""
    return content(takes.cut(directory / f"whole{takes.format.take_suffix}", "title"))


@pytest.fixture
def spool(takes: Spool, tmp_path: Path) -> Spool:
    """An empty spool for the same format."""
    spool = Spool(tmp_path / "spool", takes.format)
    Outbox.of(spool).make()
    return spool


@pytest.fixture
def name(takes: Spool) -> str:
    return f"out{takes.format.take_suffix}"


def copy(takes: Spool, spool: Spool, number: int, share: Fraction = Fraction(1)) -> None:
    """Write a take, or the first part of it."""
    data = takes.media(number).read_bytes()
    with spool.media(number).open("ab") as file:
        file.write(data[spool.media(number).stat().st_size : int(len(data) * share)])
    note(spool, number)


class Follower(threading.Thread):
    """Follows takes in a thread until it is stopped, or has the file."""

    def __init__(self, spool: Spool, name: str) -> None:
        super().__init__()
        self._stopping = threading.Event()
        self._outbox = Outbox.of(spool)
        self.following = Following(spool, name, "title", self._stopping.is_set)
        self.file: CutFile | None = None

    def run(self) -> None:
        with self._outbox.claimed(CLAIM) as mine:
            assert mine
            try:
                self.file = self.following.run()
            except StoppedError:
                return

    def stop(self) -> None:
        self._stopping.set()
        self.join(30)
        assert not self.is_alive()


@pytest.fixture
def followers() -> Iterator[list[Follower]]:
    """Followers that are stopped in the end."""
    started: list[Follower] = []
    yield started
    for each in started:
        each.stop()


def start(followers: list[Follower], spool: Spool, name: str) -> Follower:
    follower = Follower(spool, name)
    followers.append(follower)
    follower.start()
    return follower


def wait_for_body(follower: Follower, size: int) -> None:
    deadline = time.monotonic() + 60
    while follower.following.body_size < size:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_takes_that_grow_should_become_the_same_file_as_whole_ones(
    takes: Spool, spool: Spool, name: str, tmp_path: Path, followers: list[Follower]
) -> None:
    copy(takes, spool, 0, Fraction(1, 3))
    follower = start(followers, spool, name)
    for number in range(3):
        for step in (2, 5, 9, 10):
            copy(takes, spool, number, Fraction(step, 10))
            time.sleep(0.15)
        # Most of it is in the file before the recording ends.
    wait_for_body(follower, sum(takes.media(number).stat().st_size for number in range(2)) // 2)
    assert content(finish_cut(spool, name, "title")) == whole(takes, tmp_path)
    follower.join(30)
    assert follower.file is not None
    assert {file.name for file in (spool.directory / "out").iterdir()} >= {name}
    assert not (spool.directory / "out" / ".cut").exists()


@pytest.mark.parametrize("take", range(3))
def test_cut_that_was_stopped_should_continue_in_another_process(
    takes: Spool, spool: Spool, name: str, tmp_path: Path, followers: list[Follower], take: int
) -> None:
    for number in range(take + 1):
        copy(takes, spool, number, Fraction(1) if number < take else Fraction(7, 10))
    follower = start(followers, spool, name)
    wait_for_body(follower, takes.media(take).stat().st_size // 3)
    follower.stop()
    assert follower.file is None
    for number in range(take, 3):
        copy(takes, spool, number)
    assert content(finish_cut(spool, name, "title")) == whole(takes, tmp_path)


def test_state_that_makes_no_sense_should_cost_the_work_and_nothing_else(
    takes: Spool, spool: Spool, name: str, tmp_path: Path, followers: list[Follower]
) -> None:
    for number in range(3):
        copy(takes, spool, number)
    follower = start(followers, spool, name)
    wait_for_body(follower, 1)
    follower.stop()
    cut = spool.directory / "out" / ".cut"
    (cut / "body").write_bytes(b"")
    assert content(finish_cut(spool, name, "title")) == whole(takes, tmp_path)


def test_take_that_was_discarded_should_not_be_in_the_file(
    takes: Spool, spool: Spool, name: str, tmp_path: Path, followers: list[Follower]
) -> None:
    now = time.monotonic_ns() // 1000
    spool.media(0).write_bytes(takes.media(2).read_bytes())
    note(spool, 0, began_us=now + 600_000_000)
    start(followers, spool, name)
    time.sleep(0.5)
    spool.media(0).unlink()
    spool.media(0).with_suffix(".json").unlink()
    for number in range(3):
        copy(takes, spool, number)
    assert content(finish_cut(spool, name, "title")) == whole(takes, tmp_path)


def test_paused_take_should_be_cut_before_the_next_one_begins(
    takes: Spool, spool: Spool, name: str, followers: list[Follower]
) -> None:
    copy(takes, spool, 0)
    follower = start(followers, spool, name)
    wait_for_body(follower, takes.media(0).stat().st_size // 2)


def test_process_that_dies_with_half_a_head_in_front_should_cost_the_work_and_nothing_else(
    takes: Spool, spool: Spool, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(head: bytes, body: Path, target: Path) -> None:  # noqa: ARG001
        body.write_bytes(bytes(len(head)) + body.read_bytes())
        raise OSError("the machine is gone")

    for number in range(3):
        copy(takes, spool, number)
    with monkeypatch.context() as patch:
        patch.setattr(growing_cut, "put_in_front", die)
        (spool.directory / "out" / ".takes-ended").touch()
        with pytest.raises(CutError, match="the machine is gone"):
            Following(spool, name, "title", NEVER).run()
    assert content(finish_cut(spool, name, "title")) == whole(takes, tmp_path)
