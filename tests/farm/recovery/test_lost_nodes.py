"""What becomes of recordings whose node is gone, and what that node does when it is back."""

import shutil
from datetime import timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from farm.clock import now
from farm.config.settings import Settings
from farm.errors import NotFoundError, TakenOverError, WrongStateError
from farm.jobs.finish import finish
from farm.jobs.record import record
from farm.jobs.retention import sweep
from farm.jobs.transfer import settle
from farm.nodes.registry import BEAT_SECONDS, NODES_KEY, Gone, Nodes
from farm.queues.recordings import (
    continuations_queue,
    enqueue_continuation,
    has_live_job,
    node_recordings_queue,
)
from farm.queues.transfers import transfers_queue, uploads_queue
from farm.recording.model import FileKind, Recording, Status, TimelineEntry
from farm.recording.records import Records
from farm.recording.transfers import STORE, Transfer, TransferState, transfer_to
from farm.recovery.endings import end_dead
from farm.recovery.local_spool import (
    look_for_lost,
    recover,
    recover_spool,
    recover_transfers,
    recover_unqueued,
)
from farm.recovery.lost_nodes import expect_nodes, look_after
from farm.spool.manifest import describe
from farm.spool.record_copy import keep_record
from farm.spool.spool import spool_of
from farm.worker.heartbeat import Watcher
from testkit.recordings import MakeRecording, ended, stored
from testkit.settings import settings_with
from testkit.storage.targets import target_at

HERE, GONE = "node-1", "node-2"
DEAD = "http://127.0.0.1:9"


@pytest.fixture
def settings(redis_address: str, redis_client: redis.Redis, tmp_path: Path) -> Settings:  # noqa: ARG001
    return settings_with(tmp_path / "here", redis_address, store_url=f"file://{tmp_path}/store")


@pytest.fixture
def theirs(settings: Settings, redis_address: str, tmp_path: Path) -> Settings:
    """The settings of the node that is gone."""
    return settings_with(tmp_path / "theirs", redis_address, node=GONE, store_url=settings.store_url)


def become(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Have the jobs that run here be those of a node."""
    monkeypatch.setenv("FARM_REDIS_URL", str(settings.redis_url))
    monkeypatch.setenv("FARM_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("FARM_NODE", settings.node)
    monkeypatch.setenv("FARM_STORE_URL", str(settings.store_url))


def lose(client: redis.Redis, node: str = GONE) -> None:
    nodes = Nodes(client)
    nodes.beat(node, 1)
    assert nodes.mark_gone(node, nodes.beats()[node])


def gone_for(**ago: float) -> dict[str, Gone]:
    return {GONE: Gone(heard=now() - timedelta(**ago), since=now() - timedelta(**ago))}


def recording_of(records: Records, recording: Recording, node: str) -> Recording:
    """A recording that a node records, with a take."""
    recording = records.add(recording)
    records.change_state(recording.id, Status.RECORDING, started_time=now(), node=node)
    records.note(recording.id, TimelineEntry(event="take_began", take=0, time=now()))
    return records.get(None, recording.id)


def take_over(records: Records, recording: Recording, node: str = HERE) -> Recording:
    entry = TimelineEntry(event="fault", fault="gone", node=recording.node, time=now())
    return records.claim(recording, node, entry)


def test_only_one_node_should_get_a_recording_and_only_while_its_own_is_gone(
    records: Records, redis_client: redis.Redis, make_recording: MakeRecording
) -> None:
    recording = recording_of(records, make_recording(), GONE)
    with pytest.raises(TakenOverError):
        take_over(records, recording)
    lose(redis_client)
    taken = take_over(records, recording)
    assert (taken.node, taken.started_time) == (HERE, recording.started_time)
    assert taken.timeline[-1].node == GONE
    # The answer may have been lost; the second time nothing is noted.
    assert take_over(records, recording) == taken
    with pytest.raises(TakenOverError):
        take_over(records, recording, "node-3")
    assert records.was_taken_over(recording.id, GONE)
    records.change_state(recording.id, Status.UPLOADING)
    with pytest.raises(WrongStateError):
        take_over(records, taken)


def test_recording_that_is_taken_over_should_be_in_a_slot_of_the_other_node(
    records: Records, redis_client: redis.Redis, make_recording: MakeRecording
) -> None:
    here = records.claim(records.add(make_recording(meeting_id="a")), HERE, slot=1)
    there = records.claim(records.add(make_recording(meeting_id="b")), GONE, slot=1)
    lose(redis_client)
    taken = records.claim(there, HERE, slot=2)
    assert (taken.node, taken.slot) == (HERE, 2)
    assert records.get(None, here.id).slot == 1


def test_node_that_lost_a_recording_should_change_nothing_of_it(
    records: Records, redis_client: redis.Redis, make_recording: MakeRecording
) -> None:
    recording = recording_of(records, make_recording(), GONE)
    lose(redis_client)
    taken = take_over(records, recording)
    with pytest.raises(TakenOverError):
        records.change_state(recording.id, Status.UPLOADING, by=GONE)
    with pytest.raises(TakenOverError):
        records.note(recording.id, TimelineEntry(event="take_ended", take=0, time=now()), by=GONE)
    assert records.get(None, recording.id) == taken


def test_what_is_recorded_there_should_wait_for_any_slot_before_all_that_has_not_begun(
    settings: Settings, records: Records, redis_client: redis.Redis, make_recording: MakeRecording
) -> None:
    recording = recording_of(records, make_recording(), GONE)
    other = recording_of(records, make_recording(meeting_id="b"), HERE)
    # The node had died, come back, and died again before it could go on.
    enqueue_continuation(redis_client, recording, GONE)
    for _ in range(2):
        look_after(gone_for(seconds=1), settings, redis_client)
    assert [job.args for job in continuations_queue(redis_client).jobs] == [(str(recording.id),)]
    assert node_recordings_queue(redis_client, GONE).count == 0
    assert not has_live_job(redis_client, other.id)
    # Should it be back before anybody took it, it goes on itself.
    recover(str(recording.id), settings.model_copy(update={"node": GONE}), redis_client)
    assert continuations_queue(redis_client).count == 0
    assert node_recordings_queue(redis_client, GONE).count == 1


def test_job_for_a_recording_of_a_living_node_should_do_nothing(
    settings: Settings,
    records: Records,
    redis_client: redis.Redis,
    make_recording: MakeRecording,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording = recording_of(records, make_recording(), GONE)
    become(monkeypatch, settings)
    lose(redis_client)
    Nodes(redis_client).beat(GONE, 1)
    record(str(recording.id))
    assert records.get(None, recording.id) == recording
    assert not spool_of(recording, settings).directory.exists()


def test_recording_that_goes_through_too_many_nodes_should_end(
    settings: Settings,
    records: Records,
    redis_client: redis.Redis,
    make_recording: MakeRecording,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording = recording_of(records, make_recording(), "node-5")
    for before, after in (("node-5", "node-4"), ("node-4", GONE)):
        lose(redis_client, before)
        recording = take_over(records, recording, after)
    lose(redis_client)
    become(monkeypatch, settings)
    record(str(recording.id))
    after_all = records.get(None, recording.id)
    # What there is lies on the node that recorded it.
    assert (after_all.status, after_all.node) == (Status.UPLOADING, "node-5")
    assert transfers_queue(redis_client, "node-5").count == 1
    assert not spool_of(recording, settings).directory.exists()


def test_node_that_records_nothing_should_leave_the_end_to_the_one_that_did(
    settings: Settings, records: Records, redis_client: redis.Redis, make_recording: MakeRecording
) -> None:
    recording = recording_of(records, make_recording(), GONE)
    lose(redis_client)
    take_over(records, recording)
    end_dead(recording.id, settings, redis_client)
    ended_there = records.get(None, recording.id)
    assert (ended_there.status, ended_there.node) == (Status.UPLOADING, GONE)
    assert transfers_queue(redis_client, GONE).count == 1


def test_node_that_was_forgotten_should_be_found_gone_when_a_recording_is_handed_back_to_it(
    settings: Settings,
    records: Records,
    redis_client: redis.Redis,
    make_recording: MakeRecording,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording = recording_of(records, make_recording(), GONE)
    lose(redis_client)
    take_over(records, recording)
    look_after(gone_for(seconds=1), settings, redis_client)
    nodes = Nodes(redis_client)
    assert nodes.beats() == {}
    end_dead(recording.id, settings, redis_client)
    become(monkeypatch, settings)
    clock = SimpleNamespace(monotonic=count(0, BEAT_SECONDS).__next__)
    monkeypatch.setattr("farm.worker.heartbeat.time", clock)
    watcher = Watcher(settings, redis_client)
    for _ in range(10):
        look_for_lost()
        watcher.step()
    assert nodes.gone(HERE) is None
    gone = nodes.gone(GONE)
    assert gone is not None
    monkeypatch.setattr("farm.recovery.lost_nodes.now", lambda: gone.since + timedelta(hours=1))
    look_after({GONE: gone}, settings, redis_client)
    assert records.get(None, recording.id).status is Status.ERRORED


def test_node_that_lives_should_not_be_gone_because_it_was_expected(
    records: Records, redis_client: redis.Redis, make_recording: MakeRecording
) -> None:
    recording_of(records, make_recording(), GONE)
    nodes = Nodes(redis_client)
    nodes.beat(GONE, 2)
    beats = nodes.beats()
    expect_nodes(redis_client)
    assert nodes.beats() == beats
    # Redis has forgotten everything; the node beats again.
    redis_client.delete(NODES_KEY)
    expect_nodes(redis_client)
    expected = nodes.beats()[GONE]
    nodes.beat(GONE, 2)
    assert not nodes.mark_gone(GONE, expected)


def test_finished_takes_of_a_gone_node_should_be_waited_for_and_then_be_errored(
    settings: Settings,
    theirs: Settings,
    records: Records,
    redis_client: redis.Redis,
    make_recording: MakeRecording,
    film: Path,
) -> None:
    recording = ended(records, theirs, make_recording(), film)
    lose(redis_client)
    look_after(gone_for(minutes=59), settings, redis_client)
    assert records.get(None, recording.id) == recording
    look_after(gone_for(minutes=61), settings, redis_client)
    lost = records.get(None, recording.id)
    assert lost.status is Status.ERRORED
    assert lost.error is not None
    assert lost.error.code == "node_lost"
    assert [transfer.state for transfer in lost.transfers] == [TransferState.GIVEN_UP]
    # Nothing of it is left to be done, so nothing is known of it any more.
    look_after(gone_for(minutes=62), settings, redis_client)
    assert Nodes(redis_client).beats() == {}


def test_recording_whose_file_is_at_the_customers_should_be_uploaded_without_the_node(
    settings: Settings,
    theirs: Settings,
    records: Records,
    redis_client: redis.Redis,
    make_recording: MakeRecording,
    film: Path,
) -> None:
    recording = ended(records, theirs, make_recording(), film, target_at(DEAD))
    records.set_transfer(recording.id, Transfer(target="s3", state=TransferState.DONE))
    look_after(gone_for(hours=2), settings, redis_client)
    after = records.get(None, recording.id)
    assert (after.status, after.error) == (Status.UPLOADED, None)
    given_up = transfer_to(after.transfers, STORE)
    assert given_up is not None
    assert given_up.error is not None
    assert given_up.error.code == "node_lost"


def test_files_in_the_store_should_be_carried_on_by_another_node(
    settings: Settings,
    theirs: Settings,
    records: Records,
    redis_client: redis.Redis,
    make_recording: MakeRecording,
    film: Path,
) -> None:
    recording = stored(records, theirs, redis_client, make_recording(), film, target_at(DEAD))
    records.set_transfer(recording.id, Transfer(target="s3", state=TransferState.RUNNING))
    for _ in range(2):
        look_after(gone_for(hours=2), settings, redis_client)
    assert [job.args for job in uploads_queue(redis_client, None).jobs] == [(str(recording.id), "s3")]
    assert records.get(None, recording.id).status is Status.UPLOADING


def was_recorded(recording: Recording, settings: Settings) -> None:
    """What a recorder leaves in its spool besides the takes."""
    spool = spool_of(recording, settings)
    keep_record(spool, recording, {})
    with spool.held():
        pass


def back_with_takes(
    records: Records, theirs: Settings, client: redis.Redis, recording: Recording, film: Path
) -> Recording:
    """A recording that HERE has taken over, with a take in the spool of the node that is back."""
    recording = recording_of(records, recording, GONE)
    spool = spool_of(recording, theirs)
    spool.make()
    shutil.copy(film, spool.directory / "take-000.mp4")
    was_recorded(recording, theirs)
    lose(client)
    take_over(records, recording)
    Nodes(client).beat(GONE, 1)
    return recording


def test_returning_node_should_set_aside_what_it_had_once_the_recording_has_ended(
    theirs: Settings,
    records: Records,
    redis_client: redis.Redis,
    make_recording: MakeRecording,
    film: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording = back_with_takes(records, theirs, redis_client, make_recording(), film)
    spool = spool_of(recording, theirs)
    become(monkeypatch, theirs)
    assert recover_spool(theirs, redis_client) == 0
    # It may be asked for it yet: the other node may have nothing.
    finish(str(recording.id))
    assert spool.takes()
    records.change_state(recording.id, Status.UPLOADING, by=HERE)
    before = records.change_state(recording.id, Status.UPLOADED, by=HERE)
    assert recover_unqueued(theirs, redis_client) == 1
    assert recover_unqueued(theirs, redis_client) == 0
    finish(str(recording.id))
    aside = theirs.left_dir / str(recording.id)
    # No player would open it, so it was not joined.
    assert [file.name for file in aside.iterdir()] == ["take-000.mp4"]
    assert not spool.directory.exists()
    after = records.get(None, recording.id)
    assert after.model_copy(update={"timeline": before.timeline}) == before
    assert GONE in (after.timeline[-1].fault or "")
    finish(str(recording.id))
    assert records.get(None, recording.id) == after
    # It goes with its age.
    monkeypatch.setenv("FARM_RETENTION", "1h")
    sweep()
    assert aside.exists()
    monkeypatch.setattr("farm.jobs.retention.now", lambda: now() + timedelta(hours=2))
    sweep()
    assert not aside.exists()


def test_transfers_should_not_clear_away_what_is_to_be_set_aside(
    theirs: Settings, records: Records, redis_client: redis.Redis, make_recording: MakeRecording, film: Path
) -> None:
    recording = back_with_takes(records, theirs, redis_client, make_recording(), film)
    records.change_state(recording.id, Status.UPLOADING, by=HERE)
    records.set_transfer(recording.id, Transfer(target=STORE))
    records.update(recording.id, files=[describe(film, FileKind.VIDEO)])
    # The other node has these files.
    assert recover_transfers(theirs, redis_client) == 0
    records.set_transfer(recording.id, Transfer(target=STORE, state=TransferState.DONE))
    settle(recording.id, theirs, redis_client)
    assert records.get(None, recording.id).status is Status.UPLOADED
    assert spool_of(recording, theirs).takes()


def test_files_of_a_node_that_was_waited_for_in_vain_should_be_set_aside_when_it_is_back(
    settings: Settings,
    theirs: Settings,
    records: Records,
    redis_client: redis.Redis,
    make_recording: MakeRecording,
    film: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording = ended(records, theirs, make_recording(), film)
    was_recorded(recording, theirs)
    look_after(gone_for(hours=2), settings, redis_client)
    assert recover_spool(theirs, redis_client) == 1
    become(monkeypatch, theirs)
    finish(str(recording.id))
    names = {file.name for file in recording.files}
    assert {file.name for file in (theirs.left_dir / str(recording.id)).iterdir()} == names
    assert records.get(None, recording.id).status is Status.ERRORED


def test_recording_that_was_deleted_since_should_not_come_back_with_the_node(
    theirs: Settings, records: Records, redis_client: redis.Redis, make_recording: MakeRecording, film: Path
) -> None:
    first, second = (
        back_with_takes(records, theirs, redis_client, make_recording(meeting_id=name), film)
        for name in ("a", "b")
    )
    for recording in (first, second):
        records.delete(records.change_state(recording.id, Status.ERRORED))
    recover_unqueued(theirs, redis_client)
    assert list(theirs.spool_dir.iterdir()) == []
    spool_of(second, theirs).make()
    was_recorded(second, theirs)
    recover_spool(theirs, redis_client)
    assert list(theirs.spool_dir.iterdir()) == []
    for recording in (first, second):
        with pytest.raises(NotFoundError):
            records.get(None, recording.id)


def test_spool_in_a_shared_directory_should_be_left_to_the_node_that_records_into_it(
    settings: Settings,
    records: Records,
    redis_client: redis.Redis,
    make_recording: MakeRecording,
    film: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording = back_with_takes(records, settings, redis_client, make_recording(), film)
    spool = spool_of(recording, settings)
    keep_record(spool, records.get(None, recording.id), {})
    records.change_state(recording.id, Status.ERRORED)
    shared = settings.model_copy(update={"node": GONE})
    become(monkeypatch, shared)
    finish(str(recording.id))
    assert spool.takes()


def test_recording_that_redis_loses_while_it_is_uploading_should_be_finished(
    settings: Settings,
    records: Records,
    redis_client: redis.Redis,
    make_recording: MakeRecording,
    film: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recording = ended(records, settings, make_recording(), film)
    was_recorded(recording, settings)
    become(monkeypatch, settings)
    redis_client.flushall()
    assert recover_unqueued(settings, redis_client) == 1
    assert records.get(None, recording.id) == recording
    (job,) = transfers_queue(redis_client, HERE).jobs
    assert job.args == (str(recording.id),)
    assert recover_unqueued(settings, redis_client) == 0
    finish(str(recording.id))
    after = records.get(None, recording.id)
    assert (after.status, after.files) == (Status.UPLOADED, recording.files)
    assert not spool_of(recording, settings).directory.exists()


def test_recording_that_redis_loses_after_its_recorder_has_died_should_not_be_recorded_again(
    settings: Settings, records: Records, redis_client: redis.Redis, make_recording: MakeRecording, film: Path
) -> None:
    recording = recording_of(records, make_recording(), HERE)
    spool = spool_of(recording, settings)
    spool.make()
    shutil.copy(film, spool.directory / "take-000.mp4")
    was_recorded(recording, settings)
    end_dead(recording.id, settings, redis_client)
    redis_client.flushall()
    assert recover_unqueued(settings, redis_client) == 1
    assert records.get(None, recording.id).status is Status.UPLOADING


def test_recording_that_nobody_works_on_should_be_found_within_a_minute(
    settings: Settings, records: Records, redis_client: redis.Redis, make_recording: MakeRecording
) -> None:
    going = recording_of(records, make_recording(meeting_id="going"), HERE)
    held = recording_of(records, make_recording(meeting_id="held"), HERE)
    over = recording_of(records, make_recording(meeting_id="over"), HERE)
    theirs = recording_of(records, make_recording(meeting_id="theirs"), GONE)
    records.change_state(over.id, Status.UPLOADING)
    spool_of(held, settings).make()
    with spool_of(held, settings).held():
        assert recover_unqueued(settings, redis_client) == 2
        assert recover_unqueued(settings, redis_client) == 0
    assert [job.args for job in node_recordings_queue(redis_client, HERE).jobs] == [(str(going.id),)]
    assert [job.args for job in transfers_queue(redis_client, HERE).jobs] == [(str(over.id),)]
    assert not has_live_job(redis_client, theirs.id)
