from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from recording_farm.farm.jobs import unfinished_uploads
from recording_farm.farm.jobs.unfinished_uploads import abort_unfinished
from recording_farm.farm.recording.model import Status
from recording_farm.farm.storage.backend import Part
from recording_farm.farm.storage.backends.directory import DirectoryBackend
from recording_farm.farm.storage.store import Store
from testkit.farm import Farm


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(DirectoryBackend(tmp_path / "store"))


def test_uploads_of_recordings_that_are_over_should_be_aborted(
    farm: Farm, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, failed, deleted = farm.add().id, farm.add(meeting_id="other").id, uuid4()
    farm.records.change_state(failed, Status.ERRORED)
    for recording_id in (runs, failed, deleted):
        begun = store.begin_parts(recording_id, "film.mp4")
        store.send_part(recording_id, "film.mp4", begun, Part(2, 0, 5), b"bytes")
    assert abort_unfinished(farm.redis, store) == 0  # they are new
    monkeypatch.setattr(unfinished_uploads, "_NEW", timedelta(seconds=-5))
    assert abort_unfinished(farm.redis, store) == 0  # it was done just now
    farm.redis.delete("farm:swept:uploads")
    assert abort_unfinished(farm.redis, store) == 2
    assert [each.recording_id for each in store.unfinished_parts()] == [runs]


def test_replicas_of_recordings_that_are_over_should_be_deleted(farm: Farm, store: Store) -> None:
    runs, failed, deleted = farm.add().id, farm.add(meeting_id="other").id, uuid4()
    farm.records.change_state(failed, Status.ERRORED)
    for recording_id in (runs, failed, deleted):
        store.put_bytes(recording_id, "0001-00000000-00000001-c", b"bytes")
    assert abort_unfinished(farm.redis, store) == 2
    assert list(store.spooled()) == [runs]
