import zipfile
from pathlib import Path
from typing import Any

import boto3
import redis

from farm.evidence_carrier import Carrier
from farm.keys import load_secret_key
from farm.recordings import Status
from farm.records import Records
from farm.spool import evidence_dir
from farm.store import open_store
from farm.stored_evidence import StoredEvidence
from tests.conftest import MakeRecording, settings_with


def test_evidence_should_be_brought_to_a_bucket_and_come_back(
    records: Records,
    redis_address: str,
    redis_client: redis.Redis,
    make_recording: MakeRecording,
    s3_endpoint: str,
    tmp_path: Path,
) -> None:
    s3: Any = boto3.resource(
        "s3",
        endpoint_url=s3_endpoint,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    bucket = s3.create_bucket(Bucket="evidence")
    settings = settings_with(
        tmp_path / "data",
        redis_address,
        store_url=f"s3://evidence/farm?endpoint={s3_endpoint}",
        store_access_key="key",
        store_secret="secret",
    )
    recording = records.add(make_recording())
    records.change_state(recording.id, Status.ERRORED)
    directory = evidence_dir(settings, str(recording.id))
    directory.mkdir(parents=True)
    for text in ("first\n", "second\n"):
        (directory / "recorder.log").write_text(text)
        Carrier(settings, redis_client).look()
    evidence = StoredEvidence(redis_client, open_store(settings, load_secret_key(settings)))
    (part,) = evidence.parts(recording.id)
    assert [each.key for each in bucket.objects.all()] == [f"farm/{recording.id}/evidence-{part}.zip"]
    evidence.fetch(recording.id, part, tmp_path / "copy.zip")
    with zipfile.ZipFile(tmp_path / "copy.zip") as archive:
        assert archive.read("recorder.log") == b"second\n"
    evidence.delete(recording.id)
    assert list(bucket.objects.all()) == []
    bucket.delete()
