import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.evidence.directory import evidence_dir
from recording_farm.farm.evidence.stored import StoredEvidence
from recording_farm.farm.evidence.uploader import EvidenceUploader
from recording_farm.farm.recording.model import Status
from recording_farm.farm.storage.store import open_store
from testkit.api.client import client_of
from testkit.farm import Farm
from testkit.network.faulty_server import faulty_server
from testkit.settings import settings_with
from testkit.storage.buckets import bucket_at


@pytest.fixture
def bucket(s3_endpoint: str) -> Iterator[Any]:
    """The bucket of the store, which is empty."""
    with bucket_at(s3_endpoint, "evidence") as bucket:
        yield bucket


def settings_at(endpoint: str, redis_address: str, data_dir: Path) -> Settings:
    """Settings with that bucket."""
    return settings_with(
        data_dir,
        redis_address,
        store_url=f"s3://evidence/farm?endpoint={endpoint}",
        store_access_key="key",
        store_secret="secret",
    )


def test_evidence_should_be_brought_to_a_bucket_and_come_back(
    farm: Farm, redis_address: str, s3_endpoint: str, bucket: Any, tmp_path: Path
) -> None:
    settings = settings_at(s3_endpoint, redis_address, tmp_path / "data")
    recording = farm.add()
    farm.records.change_state(recording.id, Status.ERRORED)
    directory = evidence_dir(settings, str(recording.id))
    directory.mkdir(parents=True)
    for text in ("first\n", "second\n"):
        (directory / "recorder.log").write_text(text)
        EvidenceUploader(settings, farm.redis).run_once()
    evidence = StoredEvidence(farm.redis, open_store(settings))
    (part,) = evidence.parts(recording.id)
    assert [each.key for each in bucket.objects.all()] == [f"farm/{recording.id}/evidence-{part}.zip"]
    evidence.fetch(recording.id, part, tmp_path / "copy.zip")
    with zipfile.ZipFile(tmp_path / "copy.zip") as archive:
        assert archive.read("recorder.log") == b"second\n"
    evidence.delete(recording.id)
    assert list(bucket.objects.all()) == []


@pytest.mark.usefixtures("bucket")
async def test_part_that_has_never_arrived_should_not_hide_another_where_nothing_can_be_listed(
    farm: Farm, redis_address: str, s3_endpoint: str, tmp_path: Path
) -> None:
    theirs = settings_at(s3_endpoint, redis_address, tmp_path / "theirs")
    recording = farm.add()
    directory = evidence_dir(theirs, str(recording.id))
    directory.mkdir(parents=True)
    (directory / "recorder.log").write_text("theirs\n")
    farm.records.change_state(recording.id, Status.ERRORED)
    EvidenceUploader(theirs, farm.redis).run_once()
    # A uploader that was killed has told of it. That it is not there S3 tells only those who may list.
    farm.redis.sadd(f"farm:evidence:{recording.id}", "a-part")
    refused = (403, "AccessDenied")
    path = f"/v2/recordings/{recording.id}/evidence"
    port = urlsplit(s3_endpoint).port
    assert port is not None
    with faulty_server(port, lambda number: refused if number == 1 else None) as way:
        ours = settings_at(f"http://127.0.0.1:{way}", redis_address, tmp_path / "data")
        async with client_of(ours) as client:
            answer = await client.get(path)
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        log, missing = archive.namelist()
        assert (archive.read(log), missing) == (b"theirs\n", "missing.txt")
        assert archive.read(missing).endswith(b": a-part\n")
    with faulty_server(port, lambda _: refused) as way:
        ours = settings_at(f"http://127.0.0.1:{way}", redis_address, tmp_path / "data")
        async with client_of(ours) as client:
            assert (await client.get(path)).status_code == 503
