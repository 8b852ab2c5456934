"""How far copies are, read from spools as recorder, cut and senders leave them."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import av
import pytest

from recording_farm.encoder.cut.growing_cut import GrowingCut
from recording_farm.encoder.journal import Journal, read_journal, write_journal
from recording_farm.farm.progressive.copies import Arrived, CopiesOfSpool, Made, copy_in_parts, whole_copy
from recording_farm.farm.progressive.following import cut_directory, finish_cut
from recording_farm.farm.progressive.sent_parts import Ahead, forget_ahead, save_ahead
from recording_farm.farm.recording.copies import Copy
from recording_farm.farm.recording.formats import format_of
from recording_farm.farm.recording.transfers import Transfer
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.record_copy import save_record
from recording_farm.farm.spool.spool import Spool, take_of
from recording_farm.farm.storage.backend import Part
from recording_farm.farm.storage.parts import SentPart
from testkit.encoder.beeps import make_take
from testkit.recordings import new_recording

MIB = 1 << 20
PART = 8 * MIB
SECONDS = 6
BEGIN = 3.5
TARGETS = ("store", "s3", "sftp")


@pytest.mark.parametrize(
    ("made", "arrived", "arrived_us", "behind", "has_fallen_behind"),
    [
        # Little moves: the first part needs minutes.
        (Made(12 * MIB, 470_000_000, 13_000_000), Arrived(), 0, 483.0, False),
        (Made(52 * MIB, 900_000_000, 13_000_000), Arrived("", 40 * MIB, 45 * MIB), 600_000_000, 313.0, False),
        # Much moves: three parts are some seconds.
        (Made(80 * MIB, 100_000_000, 13_000_000), Arrived("", 40 * MIB, 45 * MIB), 60_000_000, 53.0, False),
        (Made(30 * MIB, 600_000_000, 13_000_000), Arrived(), 0, 613.0, True),
        (Made(69 * MIB, 600_000_000, 13_000_000), Arrived("", 40 * MIB, 45 * MIB), 300_000_000, 313.0, True),
        # Nobody cuts.
        (Made(46 * MIB, 600_000_000, 400_000_000), Arrived("", 40 * MIB, 45 * MIB), 600_000_000, 400.0, True),
    ],
)  # fmt: skip
def test_copy_should_have_fallen_behind_when_more_waits_than_a_storage_that_keeps_up_leaves(
    made: Made, arrived: Arrived, arrived_us: int, behind: float, has_fallen_behind: bool
) -> None:
    assert copy_in_parts(made, arrived, arrived_us, PART) == Copy(
        uploaded_bytes=arrived.size,
        behind_seconds=behind,
        in_parts=True,
        has_fallen_behind=has_fallen_behind,
    )


def test_copy_that_goes_up_as_a_whole_should_be_behind_by_all_and_never_fallen_behind() -> None:
    assert whole_copy(Made(80 * MIB, 7000_000_000, 13_000_000)) == Copy(
        uploaded_bytes=0, behind_seconds=7013.0
    )


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_take(tmp_path_factory.mktemp("take") / "take.mp4", BEGIN, BEGIN + SECONDS, picture_from=BEGIN)


@pytest.fixture
def spool(take: Path, tmp_path: Path) -> Spool:
    """A spool with a take that is recorded, and cut as far as it is."""
    recording = new_recording(transfers=[Transfer(target=target) for target in TARGETS])
    spool = Spool(tmp_path / str(recording.id), format_of(recording))
    Outbox.of(spool).make()
    save_record(spool, recording, {})
    add_take(spool, 0, take)
    cut = GrowingCut(cut_directory(Outbox.of(spool)), spool.format)
    with av.open(str(spool.media(0))) as source:
        cut.add(take_of(spool.media(0)), source)
    cut.close()
    return spool


def add_take(spool: Spool, number: int, take: Path) -> None:
    spool.media(number).write_bytes(take.read_bytes())
    wall_us = time.time_ns() // 1000
    journal = Journal(number, wall_us // 1_000_000, wall_us, time.monotonic_ns() // 1000, 0)
    write_journal(spool.media(number).with_suffix(".json"), journal)
    set_recorded(spool, number, SECONDS)


def set_recorded(spool: Spool, number: int, seconds: float) -> None:
    """The take was written so many seconds after it began."""
    journal = read_journal(spool.media(number).with_suffix(".json"))
    assert journal is not None
    moment = journal.wall_us / 1e6 + seconds
    os.utime(spool.media(number), (moment, moment))


def send(spool: Spool, target: str, held_back: int, *sizes: int) -> None:
    """Save receipts of parts of these sizes, behind what is held back."""
    state = json.loads((cut_directory(Outbox.of(spool)) / "state").read_text())
    parts = tuple(
        SentPart(Part(number + 2, sum(sizes[:number]), size), {}) for number, size in enumerate(sizes)
    )
    save_ahead(Outbox.of(spool), target, Ahead({}, PART, state["identity"], parts, held_back=held_back))


def test_each_copy_should_be_as_far_as_its_storage_has_the_file(spool: Spool) -> None:
    body = (cut_directory(Outbox.of(spool)) / "body").stat().st_size
    copies = CopiesOfSpool(spool.directory)
    sizes = {"store": PART, "s3": PART}
    nothing = copies.look(sizes, None)
    assert set(nothing) == set(TARGETS)
    assert nothing["s3"].behind_seconds == pytest.approx(SECONDS, abs=0.2)
    assert nothing["sftp"] == Copy(uploaded_bytes=0, behind_seconds=nothing["s3"].behind_seconds)
    send(spool, "s3", body // 3, body // 3)
    send(spool, "store", body // 3, body // 3, body - 2 * (body // 3))
    found = copies.look(sizes, None)
    assert found["s3"].uploaded_bytes == body // 3
    assert found["store"].uploaded_bytes == body - body // 3
    assert found["store"].behind_seconds is not None
    assert found["s3"].behind_seconds is not None
    # All that is cut has arrived; the last half second is not cut yet.
    assert found["store"].behind_seconds < 1.5 < found["s3"].behind_seconds < SECONDS - 1
    # Once the storage has forgotten the upload, it begins again.
    forget_ahead(Outbox.of(spool), "s3")
    assert copies.look(sizes, None)["s3"] == nothing["s3"]


def test_copy_should_fall_behind_while_it_is_recorded_and_not_while_it_is_paused(spool: Spool) -> None:
    copies = CopiesOfSpool(spool.directory)
    set_recorded(spool, 0, 60)
    assert copies.look({"s3": PART}, None)["s3"].behind_seconds == pytest.approx(60, abs=0.2)
    file = spool.media(0).with_suffix(".json")
    journal = read_journal(file)
    assert journal is not None
    end_us = journal.wall_us + SECONDS * 1_000_000 - journal.epoch * 1_000_000
    write_journal(file, replace(journal, end_us=end_us))
    assert copies.look({"s3": PART}, None)["s3"].behind_seconds == pytest.approx(SECONDS, abs=0.2)
    add_take(spool, 1, spool.media(0))
    set_recorded(spool, 1, 30)
    assert copies.look({"s3": PART}, None)["s3"].behind_seconds == pytest.approx(SECONDS + 30, abs=0.2)


def test_parts_of_another_body_should_not_count(spool: Spool) -> None:
    save_ahead(Outbox.of(spool), "s3", Ahead({}, PART, "another", (SentPart(Part(2, 0, PART), {}),)))
    assert CopiesOfSpool(spool.directory).look({"s3": PART}, None)["s3"].uploaded_bytes == 0


def test_store_in_the_data_directory_should_have_no_figures(spool: Spool) -> None:
    found = CopiesOfSpool(spool.directory).look({"s3": PART}, "store")
    assert found["store"] == Copy()
    assert found["sftp"].uploaded_bytes == 0


def test_rest_that_is_sent_after_the_stop_should_count_and_the_last_figures_stay(spool: Spool) -> None:
    copies = CopiesOfSpool(spool.directory)
    send(spool, "s3", 1000, 1000)
    running = copies.look({"s3": PART}, None)
    result = finish_cut(spool, "film.mp4", "title")
    assert copies.look({"s3": PART}, None)["sftp"] == running["sftp"]
    rest = result.body_bytes - 2000
    parts = (SentPart(Part(2, 0, 1000), {}), SentPart(Part(3, 1000, rest), {}))
    save_ahead(Outbox.of(spool), "s3", Ahead({}, PART, result.identity, parts, held_back=1000))
    sent = copies.look({"s3": PART}, None)["s3"]
    assert sent == Copy(uploaded_bytes=1000 + rest, behind_seconds=0.0, in_parts=True)
    forget_ahead(Outbox.of(spool), "s3")
    assert copies.look({"s3": PART}, None)["s3"] == sent


def test_spool_that_has_nothing_yet_should_have_no_copies(tmp_path: Path) -> None:
    assert CopiesOfSpool(tmp_path / "gone").look({}, None) == {}
