"""What becomes of recordings whose node is gone, and what that node does when it is back."""

import shutil
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from recording_farm.encoder.journal import Journal, write_journal
from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.errors import NotFoundError, TakenOverError, WrongStateError
from recording_farm.farm.jobs.finish import finish
from recording_farm.farm.jobs.record import record
from recording_farm.farm.jobs.retention import sweep
from recording_farm.farm.jobs.settle import settle
from recording_farm.farm.nodes.registry import BEAT_SECONDS, GONE_KEY, NODES_KEY, Gone, Nodes
from recording_farm.farm.progressive.replica import ReplicaWriter
from recording_farm.farm.progressive.replica_format import Index, PieceName, pack
from recording_farm.farm.progressive.restore import NotRestorableError
from recording_farm.farm.queues.recordings import (
    continuations_queue,
    enqueue_continuation,
    has_live_job,
    node_recordings_queue,
)
from recording_farm.farm.queues.transfers import FINISH_LOST_JOB, transfers_queue, uploads_queue
from recording_farm.farm.recording.model import FileKind, Recording, Status, TimelineEntry
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.transfers import STORE, Transfer, TransferState, transfer_to
from recording_farm.farm.recovery.endings import fail_or_salvage
from recording_farm.farm.recovery.local_spool import (
    recover,
    recover_spool,
    recover_transfers,
    recover_unqueued,
    resume_lost,
)
from recording_farm.farm.recovery.lost_nodes import expect_nodes, finish_lost, look_after
from recording_farm.farm.spool.finished_file import describe
from recording_farm.farm.spool.record_copy import save_record
from recording_farm.farm.spool.spool import spool_of
from recording_farm.farm.storage.store import open_store
from recording_farm.farm.worker.heartbeat import Watcher
from testkit.encoder.beeps import make_take
from testkit.farm import Farm
from testkit.recordings import new_recording
from testkit.settings import set_environment, settings_with
from testkit.storage.targets import target_at

HERE, GONE = "node-1", "node-2"
DEAD = "http://127.0.0.1:9"


@pytest.fixture
def settings(redis_address: str, redis_client: redis.Redis, tmp_path: Path) -> Settings:  # noqa: ARG001
    return settings_with(tmp_path / "here", redis_address, store_url=f"file://{tmp_path}/store")


@pytest.fixture
def theirs(farm: Farm, redis_address: str, tmp_path: Path) -> Farm:
    """The farm as the node has it that is gone."""
    settings = settings_with(tmp_path / "theirs", redis_address, node=GONE, store_url=farm.settings.store_url)
    return replace(farm, settings=settings)


def lose(client: redis.Redis, node: str = GONE) -> None:
    nodes = Nodes(client)
    nodes.beat(node, 1)
    assert nodes.mark_gone(node, nodes.beats()[node])


def gone_for(**ago: float) -> dict[str, Gone]:
    return {GONE: Gone(heard=now() - timedelta(**ago), since=now() - timedelta(**ago))}


def lose_for(farm: Farm, monkeypatch: pytest.MonkeyPatch, **ago: float) -> None:
    """Another node looks after recordings of one that has been gone for so long, and runs what it queues."""
    gone = gone_for(**ago)
    farm.redis.hset(GONE_KEY, GONE, gone[GONE].model_dump_json())
    look_after(gone, farm.settings, farm.redis)
    set_environment(monkeypatch, farm.settings)
    for job in uploads_queue(farm.redis, None).jobs:
        assert job.func_name == FINISH_LOST_JOB
        finish_lost(*job.args)
        job.delete()


def recording_of(records: Records, recording: Recording, node: str) -> Recording:
    """A recording that a node records, with a take."""
    recording = records.add(recording)
    records.change_state(recording.id, Status.RECORDING, started_time=now(), node=node)
    records.note(recording.id, TimelineEntry(event="take_began", take=0, time=now()))
    return records.get(None, recording.id)


def take_over(records: Records, recording: Recording, node: str = HERE) -> Recording:
    entry = TimelineEntry(event="fault", fault="gone", node=recording.node, time=now())
    return records.claim(recording, node, entry)


def test_only_one_node_should_get_a_recording_and_only_while_its_own_is_gone(farm: Farm) -> None:
    recording = recording_of(farm.records, new_recording(), GONE)
    with pytest.raises(TakenOverError):
        take_over(farm.records, recording)
    lose(farm.redis)
    taken = take_over(farm.records, recording)
    assert (taken.node, taken.started_time) == (HERE, recording.started_time)
    assert taken.timeline[-1].node == GONE
    # The answer may have been lost; the second time nothing is noted.
    assert take_over(farm.records, recording) == taken
    with pytest.raises(TakenOverError):
        take_over(farm.records, recording, "node-3")
    assert farm.records.was_taken_over(recording.id, GONE)
    farm.records.change_state(recording.id, Status.UPLOADING)
    with pytest.raises(WrongStateError):
        take_over(farm.records, taken)


def test_recording_that_is_taken_over_should_be_in_a_slot_of_the_other_node(farm: Farm) -> None:
    here = farm.records.claim(farm.add(meeting_id="a"), HERE, slot=1)
    there = farm.records.claim(farm.add(meeting_id="b"), GONE, slot=1)
    lose(farm.redis)
    taken = farm.records.claim(there, HERE, slot=2)
    assert (taken.node, taken.slot) == (HERE, 2)
    assert farm.records.get(None, here.id).slot == 1


def test_node_that_lost_a_recording_should_change_nothing_of_it(farm: Farm) -> None:
    recording = recording_of(farm.records, new_recording(), GONE)
    lose(farm.redis)
    taken = take_over(farm.records, recording)
    with pytest.raises(TakenOverError):
        farm.records.change_state(recording.id, Status.UPLOADING, by=GONE)
    with pytest.raises(TakenOverError):
        farm.records.note(recording.id, TimelineEntry(event="take_ended", take=0, time=now()), by=GONE)
    assert farm.records.get(None, recording.id) == taken


def test_what_is_recorded_there_should_wait_for_any_slot_before_all_that_has_not_begun(farm: Farm) -> None:
    recording = recording_of(farm.records, new_recording(), GONE)
    other = recording_of(farm.records, new_recording(meeting_id="b"), HERE)
    # The node had died, come back, and died again before it could go on.
    enqueue_continuation(farm.redis, recording, GONE)
    for _ in range(2):
        look_after(gone_for(seconds=1), farm.settings, farm.redis)
    assert [tuple(job.args) for job in continuations_queue(farm.redis).jobs] == [(str(recording.id),)]
    assert node_recordings_queue(farm.redis, GONE).count == 0
    assert not has_live_job(farm.redis, other.id)
    # Should it be back before anybody took it, it goes on itself.
    recover(str(recording.id), farm.settings.model_copy(update={"node": GONE}), farm.redis)
    assert continuations_queue(farm.redis).count == 0
    assert node_recordings_queue(farm.redis, GONE).count == 1


def test_job_for_a_recording_of_a_living_node_should_do_nothing(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = recording_of(farm.records, new_recording(), GONE)
    set_environment(monkeypatch, farm.settings)
    lose(farm.redis)
    Nodes(farm.redis).beat(GONE, 1)
    record(str(recording.id))
    assert farm.records.get(None, recording.id) == recording
    assert not spool_of(recording, farm.settings).directory.exists()


def test_recording_that_goes_through_too_many_nodes_should_end(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = recording_of(farm.records, new_recording(), "node-5")
    for before, after in (("node-5", "node-4"), ("node-4", GONE)):
        lose(farm.redis, before)
        recording = take_over(farm.records, recording, after)
    lose(farm.redis)
    set_environment(monkeypatch, farm.settings)
    record(str(recording.id))
    after_all = farm.records.get(None, recording.id)
    # What there is lies on the node that recorded it.
    assert (after_all.status, after_all.node) == (Status.UPLOADING, "node-5")
    assert transfers_queue(farm.redis, "node-5").count == 1
    assert not spool_of(recording, farm.settings).directory.exists()


def test_node_that_records_nothing_should_leave_the_end_to_the_one_that_did(farm: Farm) -> None:
    recording = recording_of(farm.records, new_recording(), GONE)
    lose(farm.redis)
    take_over(farm.records, recording)
    fail_or_salvage(recording.id, farm.settings, farm.redis)
    ended_there = farm.records.get(None, recording.id)
    assert (ended_there.status, ended_there.node) == (Status.UPLOADING, GONE)
    assert transfers_queue(farm.redis, GONE).count == 1


def test_node_that_was_forgotten_should_be_found_gone_when_a_recording_is_handed_back_to_it(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = recording_of(farm.records, new_recording(), GONE)
    lose(farm.redis)
    take_over(farm.records, recording)
    look_after(gone_for(seconds=1), farm.settings, farm.redis)
    nodes = Nodes(farm.redis)
    assert nodes.beats() == {}
    fail_or_salvage(recording.id, farm.settings, farm.redis)
    set_environment(monkeypatch, farm.settings)
    clock = SimpleNamespace(monotonic=count(0, BEAT_SECONDS).__next__)
    monkeypatch.setattr("recording_farm.farm.worker.heartbeat.time", clock)
    watcher = Watcher(farm.settings, farm.redis)
    for _ in range(10):
        resume_lost()
        watcher.step()
    assert nodes.gone(HERE) is None
    gone = nodes.gone(GONE)
    assert gone is not None
    lose_for(farm, monkeypatch, hours=1)
    assert farm.records.get(None, recording.id).status is Status.ERRORED


def test_node_that_lives_should_not_be_gone_because_it_was_expected(farm: Farm) -> None:
    recording_of(farm.records, new_recording(), GONE)
    nodes = Nodes(farm.redis)
    nodes.beat(GONE, 2)
    beats = nodes.beats()
    expect_nodes(farm.redis)
    assert nodes.beats() == beats
    # Redis has forgotten everything; the node beats again.
    farm.redis.delete(NODES_KEY)
    expect_nodes(farm.redis)
    expected = nodes.beats()[GONE]
    nodes.beat(GONE, 2)
    assert not nodes.mark_gone(GONE, expected)


def test_finished_takes_of_a_gone_node_should_be_waited_for_and_then_be_errored(
    farm: Farm, theirs: Farm, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = theirs.ended(new_recording(), film)
    lose(farm.redis)
    lose_for(farm, monkeypatch, minutes=59)
    assert farm.records.get(None, recording.id) == recording
    lose_for(farm, monkeypatch, minutes=61)
    lost = farm.records.get(None, recording.id)
    assert lost.status is Status.ERRORED
    assert lost.error is not None
    assert lost.error.code == "node_lost"
    assert [transfer.state for transfer in lost.transfers] == [TransferState.GIVEN_UP]
    # Nothing of it is left to be done, so nothing is known of it any more.
    look_after(gone_for(minutes=62), farm.settings, farm.redis)
    assert Nodes(farm.redis).beats() == {}


def replicated(farm: Farm, theirs: Farm) -> Recording:
    """An ended recording of the node that is gone: it has replicated all, and its disk is gone, too."""
    recording = recording_of(farm.records, new_recording(), GONE)
    farm.records.set_transfer(recording.id, Transfer(target=STORE), only_new=True)
    spool = spool_of(recording, theirs.settings)
    spool.make()
    make_take(spool.media(0), 0.0, 1.5, picture_from=0.0)
    epoch = int(now().timestamp()) - 2
    write_journal(spool.media(0).with_suffix(".json"), Journal(0, epoch, epoch * 1_000_000, 0, 0))
    writer = ReplicaWriter(spool, open_store(theirs.settings), recording.id)
    while writer.write():
        pass
    shutil.rmtree(theirs.settings.data_dir)
    return farm.records.change_state(recording.id, Status.UPLOADING, stopped_time=now())


@pytest.mark.parametrize("minutes", [9, 11])
def test_ended_recording_of_a_gone_node_should_be_finished_from_its_replica_after_some_minutes(
    farm: Farm, theirs: Farm, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    recording = replicated(farm, theirs)
    lose_for(farm, monkeypatch, minutes=minutes)
    after = farm.records.get(None, recording.id)
    if minutes < 10:
        assert after.node == GONE
        return
    assert (after.node, after.status) == (HERE, Status.UPLOADING)
    finish(str(recording.id))
    after = farm.records.get(None, recording.id)
    assert after.status is Status.UPLOADED
    assert after.quality is not None
    assert (after.node, after.quality["frames_captured"]) == (HERE, 46)
    assert [take.take for take in after.takes] == [0]
    assert list(open_store(farm.settings).list_names(recording.id)) == []


def store_directory(farm: Farm) -> Path:
    assert farm.settings.store_url is not None
    return Path(farm.settings.store_url.removeprefix("file://"))


def damage(farm: Farm, recording: Recording) -> dict[Path, bytes]:
    """Damage every object of a replica; returns their contents."""
    directory = store_directory(farm) / ".spool" / str(recording.id)
    contents = {file: file.read_bytes() for file in directory.iterdir()}
    for file, content in contents.items():
        file.write_bytes(content[: len(content) // 2])
    assert contents
    return contents


def test_recording_whose_replica_is_damaged_should_wait_for_its_node_and_then_be_errored(
    farm: Farm, theirs: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = replicated(farm, theirs)
    contents = damage(farm, recording)
    lose_for(farm, monkeypatch, minutes=59)
    assert farm.records.get(None, recording.id) == recording
    # An operator may restore the objects meanwhile.
    for file, content in contents.items():
        assert file.exists()
        file.write_bytes(content)
    lose_for(farm, monkeypatch, minutes=59.5)
    assert farm.records.get(None, recording.id).node == HERE
    damage(farm, recording)
    finish(str(recording.id))
    waiting = farm.records.get(None, recording.id)
    assert (waiting.node, waiting.status) == (GONE, Status.UPLOADING)
    assert [job.args[0] for job in transfers_queue(farm.redis, GONE).jobs] == [str(recording.id)]
    assert waiting.timeline[-1].fault == "its replica is not usable; the recording waits for the node node-2"
    lose_for(farm, monkeypatch, minutes=59.8)
    assert farm.records.get(None, recording.id) == waiting
    lose_for(farm, monkeypatch, minutes=61)
    lost = farm.records.get(None, recording.id)
    assert (lost.status, lost.error and lost.error.code) == (Status.ERRORED, "node_lost")


def test_node_with_an_empty_disk_and_a_damaged_replica_should_try_again_and_then_fail(
    farm: Farm, theirs: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = replicated(farm, theirs)
    damage(farm, recording)
    set_environment(monkeypatch, theirs.settings)
    with pytest.raises(NotRestorableError):
        finish(str(recording.id))
    assert farm.records.get(None, recording.id).status is Status.UPLOADING
    farm.records.update(recording.id, stopped_time=now() - timedelta(hours=2))
    finish(str(recording.id))
    lost = farm.records.get(None, recording.id)
    assert (lost.status, lost.error and lost.error.code) == (Status.ERRORED, "node_lost")


def test_recording_should_wait_for_the_store_and_then_be_finished_from_its_replica(
    farm: Farm, theirs: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = replicated(farm, theirs)
    store = store_directory(farm)
    store.rename(store.with_name("away"))
    # A file in the place of the directory: the disk is there, and nothing can be read.
    store.touch()
    # Also when nobody waits for its node any more: its replica is somewhere.
    lose_for(farm, monkeypatch, hours=9)
    assert farm.records.get(None, recording.id) == recording
    store.unlink()
    store.with_name("away").rename(store)
    lose_for(farm, monkeypatch, hours=9)
    finish(str(recording.id))
    assert farm.records.get(None, recording.id).status is Status.UPLOADED


def test_node_that_had_made_the_files_should_be_waited_for_longer(
    farm: Farm, theirs: Farm, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = theirs.ended(new_recording(), film)
    assert recording.files
    name = str(PieceName(1, "0" * 8, 1, is_complete=True))
    open_store(farm.settings).put_bytes(recording.id, name, pack(Index(), b""))
    lose_for(farm, monkeypatch, minutes=30)
    assert farm.records.get(None, recording.id) == recording
    lose_for(farm, monkeypatch, minutes=61)
    after = farm.records.get(None, recording.id)
    # They are made again, of the replica.
    assert (after.node, after.status, after.files) == (HERE, Status.UPLOADING, ())


def test_recording_whose_file_is_at_the_customers_should_be_uploaded_without_the_node(
    farm: Farm, theirs: Farm, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = theirs.ended(new_recording(), film, target_at(DEAD))
    farm.records.set_transfer(recording.id, Transfer(target="s3", state=TransferState.DONE))
    lose_for(farm, monkeypatch, hours=2)
    after = farm.records.get(None, recording.id)
    assert (after.status, after.error) == (Status.UPLOADED, None)
    given_up = transfer_to(after.transfers, STORE)
    assert given_up is not None
    assert given_up.error is not None
    assert given_up.error.code == "node_lost"


def test_files_in_the_store_should_be_carried_on_by_another_node(
    farm: Farm, theirs: Farm, film: Path
) -> None:
    recording = theirs.stored(new_recording(), film, target_at(DEAD))
    farm.records.set_transfer(recording.id, Transfer(target="s3", state=TransferState.RUNNING))
    for _ in range(2):
        look_after(gone_for(hours=2), farm.settings, farm.redis)
    assert [tuple(job.args) for job in uploads_queue(farm.redis, None).jobs] == [(str(recording.id), "s3")]
    assert farm.records.get(None, recording.id).status is Status.UPLOADING


def was_recorded(recording: Recording, settings: Settings) -> None:
    """What a recorder leaves in its spool besides the takes."""
    spool = spool_of(recording, settings)
    save_record(spool, recording, {})
    with spool.held():
        pass


def back_with_takes(theirs: Farm, recording: Recording, film: Path) -> Recording:
    """A recording that HERE has taken over, with a take in the spool of the node that is back."""
    recording = recording_of(theirs.records, recording, GONE)
    spool = spool_of(recording, theirs.settings)
    spool.make()
    shutil.copy(film, spool.directory / "take-000.mp4")
    was_recorded(recording, theirs.settings)
    lose(theirs.redis)
    take_over(theirs.records, recording)
    Nodes(theirs.redis).beat(GONE, 1)
    return recording


def test_returning_node_should_set_aside_what_it_had_once_the_recording_has_ended(
    theirs: Farm, farm: Farm, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = back_with_takes(theirs, new_recording(), film)
    spool = spool_of(recording, theirs.settings)
    set_environment(monkeypatch, theirs.settings)
    assert recover_spool(theirs.settings, farm.redis) == 0
    # It may be asked for it yet: the other node may have nothing.
    finish(str(recording.id))
    assert spool.takes()
    farm.records.change_state(recording.id, Status.UPLOADING, by=HERE)
    before = farm.records.change_state(recording.id, Status.UPLOADED, by=HERE)
    assert recover_unqueued(theirs.settings, farm.redis) == 1
    assert recover_unqueued(theirs.settings, farm.redis) == 0
    finish(str(recording.id))
    aside = theirs.settings.superseded_dir / str(recording.id)
    # No player would open it, so it was not joined.
    assert [file.name for file in aside.iterdir()] == ["take-000.mp4"]
    assert not spool.directory.exists()
    after = farm.records.get(None, recording.id)
    assert after.model_copy(update={"timeline": before.timeline}) == before
    assert GONE in (after.timeline[-1].fault or "")
    finish(str(recording.id))
    assert farm.records.get(None, recording.id) == after
    # It goes with its age.
    monkeypatch.setenv("FARM_RETENTION", "1h")
    sweep()
    assert aside.exists()
    monkeypatch.setattr("recording_farm.farm.jobs.retention.now", lambda: now() + timedelta(hours=2))
    sweep()
    assert not aside.exists()


def test_transfers_should_not_clear_away_what_is_to_be_set_aside(
    theirs: Farm, farm: Farm, film: Path
) -> None:
    recording = back_with_takes(theirs, new_recording(), film)
    farm.records.change_state(recording.id, Status.UPLOADING, by=HERE)
    farm.records.set_transfer(recording.id, Transfer(target=STORE))
    farm.records.update(recording.id, files=[describe(film, FileKind.VIDEO)])
    # The other node has these files.
    assert recover_transfers(theirs.settings, farm.redis) == 0
    farm.records.set_transfer(recording.id, Transfer(target=STORE, state=TransferState.DONE))
    settle(recording.id, theirs.settings, farm.redis)
    assert farm.records.get(None, recording.id).status is Status.UPLOADED
    assert spool_of(recording, theirs.settings).takes()


def test_files_of_a_node_that_was_waited_for_in_vain_should_be_set_aside_when_it_is_back(
    farm: Farm, theirs: Farm, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = theirs.ended(new_recording(), film)
    was_recorded(recording, theirs.settings)
    lose_for(farm, monkeypatch, hours=2)
    assert recover_spool(theirs.settings, farm.redis) == 1
    set_environment(monkeypatch, theirs.settings)
    finish(str(recording.id))
    names = {file.name for file in recording.files}
    assert {file.name for file in (theirs.settings.superseded_dir / str(recording.id)).iterdir()} == names
    assert farm.records.get(None, recording.id).status is Status.ERRORED


def test_recording_that_was_deleted_since_should_not_come_back_with_the_node(
    theirs: Farm, farm: Farm, film: Path
) -> None:
    first, second = (back_with_takes(theirs, new_recording(meeting_id=name), film) for name in ("a", "b"))
    for recording in (first, second):
        farm.records.delete(farm.records.change_state(recording.id, Status.ERRORED))
    recover_unqueued(theirs.settings, farm.redis)
    assert list(theirs.settings.spool_dir.iterdir()) == []
    spool_of(second, theirs.settings).make()
    was_recorded(second, theirs.settings)
    recover_spool(theirs.settings, farm.redis)
    assert list(theirs.settings.spool_dir.iterdir()) == []
    for recording in (first, second):
        with pytest.raises(NotFoundError):
            farm.records.get(None, recording.id)


def test_spool_in_a_shared_directory_should_be_left_to_the_node_that_records_into_it(
    farm: Farm, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = back_with_takes(farm, new_recording(), film)
    spool = spool_of(recording, farm.settings)
    save_record(spool, farm.records.get(None, recording.id), {})
    farm.records.change_state(recording.id, Status.ERRORED)
    shared = farm.settings.model_copy(update={"node": GONE})
    set_environment(monkeypatch, shared)
    finish(str(recording.id))
    assert spool.takes()


def test_recording_that_redis_loses_while_it_is_uploading_should_be_finished(
    farm: Farm, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = farm.ended(new_recording(), film)
    was_recorded(recording, farm.settings)
    set_environment(monkeypatch, farm.settings)
    farm.redis.flushall()
    assert recover_unqueued(farm.settings, farm.redis) == 1
    assert farm.records.get(None, recording.id) == recording
    (job,) = transfers_queue(farm.redis, HERE).jobs
    assert tuple(job.args) == (str(recording.id),)
    assert recover_unqueued(farm.settings, farm.redis) == 0
    finish(str(recording.id))
    after = farm.records.get(None, recording.id)
    assert (after.status, after.files) == (Status.UPLOADED, recording.files)
    assert not spool_of(recording, farm.settings).directory.exists()


def test_recording_that_redis_loses_after_its_recorder_has_died_should_not_be_recorded_again(
    farm: Farm, film: Path
) -> None:
    recording = recording_of(farm.records, new_recording(), HERE)
    spool = spool_of(recording, farm.settings)
    spool.make()
    shutil.copy(film, spool.directory / "take-000.mp4")
    was_recorded(recording, farm.settings)
    fail_or_salvage(recording.id, farm.settings, farm.redis)
    farm.redis.flushall()
    assert recover_unqueued(farm.settings, farm.redis) == 1
    assert farm.records.get(None, recording.id).status is Status.UPLOADING


def test_recording_that_nobody_works_on_should_be_found_within_a_minute(farm: Farm) -> None:
    going = recording_of(farm.records, new_recording(meeting_id="going"), HERE)
    held = recording_of(farm.records, new_recording(meeting_id="held"), HERE)
    over = recording_of(farm.records, new_recording(meeting_id="over"), HERE)
    theirs = recording_of(farm.records, new_recording(meeting_id="theirs"), GONE)
    farm.records.change_state(over.id, Status.UPLOADING)
    spool_of(held, farm.settings).make()
    with spool_of(held, farm.settings).held():
        assert recover_unqueued(farm.settings, farm.redis) == 2
        assert recover_unqueued(farm.settings, farm.redis) == 0
    assert [tuple(job.args) for job in node_recordings_queue(farm.redis, HERE).jobs] == [(str(going.id),)]
    assert [tuple(job.args) for job in transfers_queue(farm.redis, HERE).jobs] == [(str(over.id),)]
    assert not has_live_job(farm.redis, theirs.id)
