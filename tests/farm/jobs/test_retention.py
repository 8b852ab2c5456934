import os
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.errors import NotFoundError
from recording_farm.farm.jobs.retention import expire_recordings, sweep
from recording_farm.farm.jobs.settle import settle
from recording_farm.farm.recording.files import FilesState, delete_files, files_expire_at, files_state
from recording_farm.farm.recording.links import Links
from recording_farm.farm.recording.listing import Wanted
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.transfers import Transfer, TransferState
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import spool_of
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.store import Store, open_store
from testkit.farm import Farm
from testkit.recordings import new_recording
from testkit.settings import set_environment
from testkit.workers import running_worker


@pytest.fixture
def store(settings: Settings) -> Store:
    return open_store(settings)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    file = tmp_path / "film.mp4"
    file.write_bytes(b"film")
    return file


@pytest.fixture
def uploaded(farm: Farm, film: Path) -> Recording:
    """A recording whose files are in the store."""
    return farm.stored(new_recording(), film)


def test_files_should_be_deleted_when_they_are_old_enough(
    farm: Farm, store: Store, uploaded: Recording
) -> None:
    assert expire_recordings(farm.redis, store, now() - timedelta(minutes=1)) == 0
    with closing(store.open(uploaded.id, uploaded.output_file_name)) as file:
        assert file.size == 4
    assert expire_recordings(farm.redis, store, now()) == 1
    with pytest.raises(NotFoundError):
        store.open(uploaded.id, uploaded.output_file_name)
    assert list((farm.settings.data_dir / "store").iterdir()) == []
    after = farm.records.get(None, uploaded.id)
    assert after.status is Status.UPLOADED
    assert after.expired_time is not None
    links = Links(farm.settings, store, load_secret_key(farm.settings))
    assert links.video(uploaded) is not None
    assert links.video(after) is None
    assert expire_recordings(farm.redis, store, now()) == 0


def test_what_was_stored_while_a_recording_ran_should_be_deleted_with_it(
    farm: Farm, store: Store, uploaded: Recording
) -> None:
    store.put_bytes(uploaded.id, "1.piece", b"piece")
    store.begin_parts(uploaded.id, "another.mp4")
    delete_files(store, uploaded)
    assert list((farm.settings.data_dir / "store").iterdir()) == []


def test_key_that_may_not_list_should_delete_files_all_the_same(
    farm: Farm, store: Store, uploaded: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("no_permission", "the key may not list", lasting=True)

    monkeypatch.setattr(store, "delete_spool", refuse)
    delete_files(store, uploaded)
    assert list((farm.settings.data_dir / "store").iterdir()) == []


def test_recording_should_tell_until_when_its_files_are_kept(
    farm: Farm, store: Store, uploaded: Recording
) -> None:
    kept_since = uploaded.timeline[-1].time
    assert files_state(farm.add(meeting_id="other")) is FilesState.PENDING
    assert files_state(uploaded) is FilesState.KEPT
    assert files_expire_at(uploaded, 0) is None
    deletion = files_expire_at(uploaded, 60)
    assert deletion == (kept_since + timedelta(minutes=1)).replace(microsecond=0)
    expire_recordings(farm.redis, store, now())
    after = farm.records.get(None, uploaded.id)
    assert (files_state(after), files_expire_at(after, 60)) == (FilesState.EXPIRED, None)


def test_files_that_only_the_customer_has_should_not_be_called_expired(
    farm: Farm, store: Store, film: Path
) -> None:
    theirs = {"type": "s3", "bucket": "b", "endpoint": "https://s3.test", "access_key": "k", "secret": "s"}
    recording = farm.ended(new_recording(), film, theirs, keep_copy=False)
    name = recording.transfers[0].target
    farm.records.set_transfer(recording.id, Transfer(target=name, state=TransferState.DONE))
    settle(recording.id, farm.settings, farm.redis)
    assert expire_recordings(farm.redis, store, now()) == 0
    after = farm.records.get(None, recording.id)
    assert (after.expired_time, files_state(after)) == (None, FilesState.NONE)
    assert farm.records.sealed_targets(recording.id) == {}
    assert farm.records.kept_before(now(), 10) == []
    assert farm.records.find("acme", Wanted(expired=True)).total == 0


def test_expired_ones_should_be_listed_apart(farm: Farm, store: Store, uploaded: Recording) -> None:
    running = farm.add(meeting_id="other")
    expire_recordings(farm.redis, store, now())

    def found(**wanted: object) -> set[str]:
        return {str(each.id) for each in farm.records.find("acme", Wanted(**wanted)).recordings}  # type: ignore[arg-type]

    expired, other = str(uploaded.id), str(running.id)
    assert found() == {expired, other}
    assert found(expired=True) == {expired}
    assert found(expired=False) == {other}
    assert found(statuses=frozenset({Status.UPLOADED})) == {expired}
    assert found(statuses=frozenset({Status.UPLOADED}), expired=False) == set()
    assert found(statuses=frozenset({Status.RECORDING}), expired=True) == set()
    assert found(meeting_id="demo", expired=True) == {expired}
    farm.records.delete(farm.records.get(None, expired))
    assert found() == {other}


def test_store_that_fails_should_be_asked_again(
    farm: Farm, store: Store, uploaded: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StorageError("unreachable", "no")

    with monkeypatch.context() as broken:
        broken.setattr(Store, "delete", fail)
        assert expire_recordings(farm.redis, store, now()) == 0
    assert farm.records.get(None, uploaded.id).expired_time is None
    assert expire_recordings(farm.redis, store, now()) == 1


def test_deleted_recording_should_not_be_in_the_way(farm: Farm, store: Store, uploaded: Recording) -> None:
    farm.redis.zadd("farm:kept", {"97440c6a-140b-40a9-9499-b23fd7a3868a": 1})
    assert expire_recordings(farm.redis, store, now()) == 1
    assert farm.records.kept_before(now(), 10) == []
    assert farm.records.get(None, uploaded.id).expired_time is not None


def test_sweep_should_delete_old_superseded_takes_also_of_version_0_1(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, farm.settings)
    monkeypatch.setenv("FARM_RETENTION", "1d")
    two_days_ago = time.time() - 2 * 86_400
    parents = farm.settings.superseded_dir, farm.settings.data_dir / "left"
    for parent in parents:
        for name in ("old", "new"):
            (parent / name).mkdir(parents=True)
        os.utime(parent / "old", (two_days_ago, two_days_ago))
    sweep()
    assert [[file.name for file in parent.iterdir()] for parent in parents] == [["new"], ["new"]]


def test_sweep_should_go_by_the_setting_and_delete_old_logs(
    farm: Farm, uploaded: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, farm.settings)
    old, new = (farm.settings.evidence_dir / name for name in ("old", "new"))
    for directory in (old, new):
        directory.mkdir(parents=True)
        (directory / "recorder.log").write_text("")
    two_days_ago = time.time() - 2 * 86_400
    os.utime(old / "recorder.log", (two_days_ago, two_days_ago))
    monkeypatch.setenv("FARM_RETENTION", "0")
    sweep()
    assert old.exists()
    monkeypatch.setenv("FARM_RETENTION", "1d")
    sweep()
    assert (old.exists(), new.exists()) == (False, True)
    assert farm.records.get(None, uploaded.id).expired_time is None


def test_spool_should_be_empty_after_the_last_transfer(settings: Settings, uploaded: Recording) -> None:
    assert not Outbox.of(spool_of(uploaded, settings)).directory.exists()


@pytest.mark.long
def test_worker_should_look_by_itself(farm: Farm, uploaded: Recording) -> None:
    assert farm.settings.redis_url is not None
    time.sleep(max(0, 1.1 - (now() - uploaded.timeline[-1].time).total_seconds()))
    redis_url, data_dir = farm.settings.redis_url, farm.settings.data_dir
    with running_worker(farm.redis, redis_url, data_dir, FARM_NODE=farm.settings.node, FARM_RETENTION="1s"):
        deadline = time.monotonic() + 30
        while farm.records.get(None, uploaded.id).expired_time is None:
            assert time.monotonic() < deadline, "nothing has expired"
            time.sleep(0.1)
    assert list((farm.settings.data_dir / "store").glob("[!.]*")) == []
