"""A file of which another node has sent a part of the body to the store."""

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import pytest

from recording_farm.encoder.formats import Codec, Format
from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.jobs.finish import _restore
from recording_farm.farm.progressive import following
from recording_farm.farm.progressive.lost_parts import finish_whole_cut
from recording_farm.farm.progressive.places import place_in_store
from recording_farm.farm.progressive.replica import ReplicaWriter
from recording_farm.farm.progressive.replica_format import MAX_OBJECT_BYTES, newest, unpack
from recording_farm.farm.progressive.restore import NotRestorableError, restore_if_behind
from recording_farm.farm.progressive.restored import (
    RestoredCutLostError,
    begin_restoring,
    give_up_restoring,
    is_restoring,
    read_restored,
)
from recording_farm.farm.progressive.sent_parts import Ahead, export_key, read_ahead, save_ahead
from recording_farm.farm.recording.model import FileKind, FinishedFile, Recording, TimelineEntry
from recording_farm.farm.recording.transfers import STORE
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import Spool
from recording_farm.farm.storage.parts import SentPart
from recording_farm.farm.storage.store import Store, open_store
from testkit.encoder.growing_takes import SECONDS, cut_for, grow, make_takes, packets_of, seconds_of
from testkit.recordings import new_recording
from testkit.settings import settings_with

PART_BYTES = 20_000
HELD_BACK = 10_000


@pytest.fixture(autouse=True)
def _settled_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "SETTLE_US", 500_000)
    monkeypatch.setattr(following, "_JOURNAL_SECONDS", 0.1)


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> Spool:
    """A spool with two whole takes."""
    spool = Spool(tmp_path_factory.mktemp("takes"), Format(Codec.H264, 320, 180))
    make_takes(spool, 2)
    return spool


@pytest.fixture
def settings(tmp_path: Path, redis_address: str) -> Settings:
    return settings_with(tmp_path / "data", redis_address, store_url=f"file://{tmp_path}/store")


@pytest.fixture
def store(settings: Settings) -> Store:
    return open_store(settings)


@pytest.fixture
def recording() -> Recording:
    return new_recording()


@pytest.fixture
def second(takes: Spool, tmp_path: Path, store: Store, settings: Settings, recording: Recording) -> Spool:
    """The spool of a node that takes over from one that had sent parts; both have a take."""
    first = Spool(tmp_path / "first", takes.format)
    Outbox.of(first).make()
    writer = ReplicaWriter(first, store, recording.id)
    for tenths in range(2, 10):
        grow(takes, first, 0, Fraction(tenths, 10))
        cut_for(first, recording.output_file_name, 0.3)
        send(first, recording, store, settings)
        writer.write()
    assert len(read(first).parts) > 2
    shutil.rmtree(first.directory)
    second = Spool(tmp_path / "second", takes.format)
    Outbox.of(second).make()
    grow(takes, second, 1)
    restore_if_behind(second, store, recording, settings)
    return second


def read(spool: Spool) -> Ahead:
    ahead = read_ahead(Outbox.of(spool), STORE)
    assert ahead is not None
    return ahead


def send(spool: Spool, recording: Recording, store: Store, settings: Settings) -> None:
    """Send the parts of the body that are there, as a sender does."""
    outbox = Outbox.of(spool)
    state = outbox.directory / ".cut" / "state"
    if not state.exists():
        return
    saved = json.loads(state.read_text())
    body = (outbox.directory / ".cut" / "body").read_bytes()[: saved["body"]]
    place = place_in_store(store, recording, settings)
    assert place is not None
    ahead = read_ahead(outbox, STORE)
    if ahead is None:
        ahead = Ahead(place.begin(), PART_BYTES, saved["identity"], held_back=HELD_BACK)
    while (end := HELD_BACK + ahead.body_bytes + PART_BYTES) <= len(body):
        part = ahead.next_part
        receipt = place.send(ahead.begun, part, body[end - PART_BYTES : end])
        ahead = replace(ahead, parts=(*ahead.parts, SentPart(part, receipt)))
    save_ahead(outbox, STORE, ahead)


def test_parts_of_another_node_should_be_in_the_file(
    takes: Spool, second: Spool, store: Store, recording: Recording, settings: Settings, tmp_path: Path
) -> None:
    restored = read_restored(Outbox.of(second))
    assert restored is not None
    assert restored.hole_end - restored.hole_begin > 2 * PART_BYTES
    made = finish_whole_cut(recording, second, settings)
    whole = Spool(tmp_path / "whole", takes.format)
    Outbox.of(whole).make()
    grow(takes, whole, 0, Fraction(9, 10))
    grow(takes, whole, 1)
    assert packets_of(made.path) == packets_of(finish_whole_cut(recording, whole, settings).path)
    # The store has it, and the transfer has nothing to do.
    store.fetch(recording.id, recording.output_file_name, tmp_path / "stored.mp4")
    assert (tmp_path / "stored.mp4").read_bytes() == made.path.read_bytes()
    file = FinishedFile(kind=FileKind.VIDEO, name=made.path.name, size=1, sha256="")
    assert Outbox.of(second).arrival(STORE, file) is not None
    # It may be done again after a crash.
    assert finish_whole_cut(recording, second, settings) == made


def test_attempt_that_died_with_the_upload_finished_should_be_repeated(
    second: Spool, recording: Recording, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Store, "fetch", dying)
        with pytest.raises(ConnectionAbortedError):
            finish_whole_cut(recording, second, settings)
    assert seconds_of(finish_whole_cut(recording, second, settings).path) > SECONDS * 1.8


def dying(*_: object) -> None:
    raise ConnectionAbortedError


def test_file_should_begin_with_what_is_here_when_the_store_has_lost_the_parts(
    second: Spool, store: Store, recording: Recording, settings: Settings
) -> None:
    store.abort_parts(recording.id, recording.output_file_name, read(second).begun)
    made = finish_whole_cut(recording, second, settings)
    assert [joint.take for joint in made.joints] == [0, 1]
    assert SECONDS < seconds_of(made.path) < SECONDS * 1.8


def test_cut_that_is_lost_again_should_be_restored_again(
    takes: Spool, second: Spool, store: Store, recording: Recording, settings: Settings, tmp_path: Path
) -> None:
    (Outbox.of(second).directory / ".cut" / "state").unlink()
    with pytest.raises(RestoredCutLostError):
        finish_whole_cut(recording, second, settings)
    # The parts are still there, and nothing is cut before all is.
    with pytest.raises(RestoredCutLostError):
        finish_whole_cut(recording, second, settings)
    restore_if_behind(second, store, recording, settings)
    check_whole(takes, second, recording, settings, tmp_path)


def test_cut_that_is_lost_with_its_replica_should_be_made_from_the_takes(
    second: Spool, recording: Recording, settings: Settings, tmp_path: Path
) -> None:
    (Outbox.of(second).directory / ".cut" / "state").unlink()
    with pytest.raises(RestoredCutLostError):
        finish_whole_cut(recording, second, settings)
    for each in (tmp_path / "store" / ".spool" / str(recording.id)).iterdir():
        each.write_bytes(b"damaged")
    # The finish job, which restores before it cuts.
    elsewhere = TimelineEntry(event="take_began", take=0, time=now())
    recording = recording.model_copy(update={"timeline": (elsewhere,), "stopped_time": now()})
    with pytest.raises(NotRestorableError):
        _restore(recording, second, settings)
    recording = recording.model_copy(update={"stopped_time": now() - timedelta(minutes=2)})
    _restore(recording, second, settings)
    made = finish_whole_cut(recording, second, settings)
    assert [joint.take for joint in made.joints] == [0, 1]
    assert SECONDS < seconds_of(made.path) < SECONDS * 1.8


@pytest.mark.parametrize("crashed", [True, False])
def test_replica_that_is_given_up_should_leave_no_unknown_hole(second: Spool, crashed: bool) -> None:
    outbox = Outbox.of(second)
    before = read_restored(outbox)
    assert before is not None
    assert before.hole_end
    if crashed:
        begin_restoring(outbox)
    give_up_restoring(outbox, 2)
    after = read_restored(outbox)
    assert after is not None
    # The cut is either gone, or its hole is still known.
    assert (outbox.directory / ".cut").exists() == bool(after.hole_end) == (not crashed)
    assert bool(after.identity) == (not crashed)


def test_restore_that_is_interrupted_should_be_done_again(
    takes: Spool,
    second: Spool,
    store: Store,
    recording: Recording,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outbox = Outbox.of(second)
    begin_restoring(outbox)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "adopt_parts", dying)
        with pytest.raises(ConnectionAbortedError):
            restore_if_behind(second, store, recording, settings)
    assert is_restoring(outbox)
    restore_if_behind(second, store, recording, settings)
    assert not is_restoring(outbox)
    check_whole(takes, second, recording, settings, tmp_path)


def check_whole(
    takes: Spool, spool: Spool, recording: Recording, settings: Settings, directory: Path
) -> None:
    """Check that a file has all that both nodes recorded."""
    whole = Spool(directory / "whole", takes.format)
    Outbox.of(whole).make()
    grow(takes, whole, 0, Fraction(9, 10))
    grow(takes, whole, 1)
    made = finish_whole_cut(recording, spool, settings)
    assert packets_of(made.path) == packets_of(finish_whole_cut(recording, whole, settings).path)


def test_receipts_of_exports_should_not_be_replicated(
    takes: Spool, tmp_path: Path, store: Store, recording: Recording
) -> None:
    spool = Spool(tmp_path / "spool", takes.format)
    Outbox.of(spool).make()
    grow(takes, spool, 0)
    save_ahead(Outbox.of(spool), export_key(STORE, "sound.m4a"), Ahead({}, 4, "sound"))
    writer = ReplicaWriter(spool, store, recording.id)
    while writer.write():
        pass
    name = newest(store.list_names(recording.id))
    index, _ = unpack(store.get_bytes(recording.id, str(name), MAX_OBJECT_BYTES))
    assert set(index.files) == {"take-000.mp4", "take-000.json"}


def test_part_that_the_lost_node_still_sends_should_be_in_no_file(
    tmp_path: Path, store: Store, recording: Recording, settings: Settings
) -> None:
    place = place_in_store(store, recording, settings)
    assert place is not None
    ahead = Ahead(place.begin(), 4, "body")
    part = ahead.next_part
    receipt = place.send(ahead.begun, part, b"mine")
    ahead = replace(ahead, parts=(SentPart(part, receipt),))
    adopted = ahead.taken_over(store.adopt_parts(recording.id, recording.output_file_name, ahead.begun))
    with pytest.raises(Exception, match="no longer has the parts"):
        place.send(ahead.begun, ahead.next_part, b"late")
    later = adopted.next_part
    assert later.number > ahead.next_part.number
    sent = [*adopted.parts, SentPart(later, place.send(adopted.begun, later, b"ours"))]
    # Also one that knows the state of before may adopt it, if the node in between died.
    again = store.adopt_parts(recording.id, recording.output_file_name, ahead.begun)
    head = replace(part, number=1, offset=0)
    sent.append(SentPart(head, place.send(again, head, b"head")))
    place.finish(again, sent)
    store.fetch(recording.id, recording.output_file_name, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"headmineours"
