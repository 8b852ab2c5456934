import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ReadTimeoutError

from farm.storage import s3 as module
from farm.storage.place import Checkpoint, StorageError, parts_of
from farm.storage.s3 import S3Bucket, S3Place


@pytest.fixture
def client(s3_endpoint: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )


@pytest.fixture
def bucket(client: Any) -> Iterator[str]:
    client.create_bucket(Bucket="films")
    yield "films"
    for found in client.list_objects_v2(Bucket="films").get("Contents", ()):
        client.delete_object(Bucket="films", Key=found["Key"])
    client.delete_bucket(Bucket="films")


def place(endpoint: str, bucket: str = "films", **more: Any) -> S3Place:
    return S3Place(S3Bucket(bucket, "key", "secret", "us-east-1", endpoint, **more), read_timeout=2)


def content(client: Any, key: str) -> bytes:
    data: bytes = client.get_object(Bucket="films", Key=key)["Body"].read()
    return data


def test_parts_should_cover_the_file_and_stay_within_the_limit() -> None:
    assert [(part.number, part.offset, part.size) for part in parts_of(25, 10, 100)] == [
        (1, 0, 10),
        (2, 10, 10),
        (3, 20, 5),
    ]
    assert [part.size for part in parts_of(0, 10, 100)] == [0]
    assert len(parts_of(1000, 1, 7)) <= 7


@pytest.mark.usefixtures("bucket")
def test_file_should_arrive_whole_with_its_type(
    s3_endpoint: str, client: Any, film: Path, tmp_path: Path
) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.json")
    placed = place(s3_endpoint).upload(film, "a/film.mp4", checkpoint, "video/mp4")
    assert placed.location == "s3://films/a/film.mp4"
    assert placed.size == film.stat().st_size
    assert content(client, "a/film.mp4") == film.read_bytes()
    head = client.head_object(Bucket="films", Key="a/film.mp4")
    assert head["ContentType"] == "video/mp4"
    assert not (tmp_path / "checkpoint.json").exists()


@pytest.mark.usefixtures("bucket")
def test_broken_upload_should_go_on_with_the_parts_that_are_missing(
    s3_endpoint: str, client: Any, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.json")
    monkeypatch.setattr(module, "THREADS", 1)
    sent: list[int] = []
    broken = place(s3_endpoint)
    upload_part = broken._client.upload_part

    def fail_at_the_third(**arguments: Any) -> Any:
        if arguments["PartNumber"] == 3:
            raise ReadTimeoutError(endpoint_url=s3_endpoint)
        return upload_part(**arguments)

    monkeypatch.setattr(broken._client, "upload_part", fail_at_the_third)
    with pytest.raises(StorageError, match="did not answer in time"):
        broken.upload(film, "film.mp4", checkpoint, "video/mp4")

    again = place(s3_endpoint)
    upload_again = again._client.upload_part

    def count(**arguments: Any) -> Any:
        sent.append(arguments["PartNumber"])
        return upload_again(**arguments)

    monkeypatch.setattr(again._client, "upload_part", count)
    again.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert sent == [3]
    assert content(client, "film.mp4") == film.read_bytes()


@pytest.mark.usefixtures("bucket")
def test_file_that_changed_should_be_sent_anew(
    s3_endpoint: str, client: Any, film: Path, tmp_path: Path
) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.json")
    checkpoint.save(film, "film.mp4", {"upload_id": "gone"})
    film.write_bytes(b"another film")
    place(s3_endpoint).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert content(client, "film.mp4") == b"another film"


@pytest.mark.usefixtures("bucket")
def test_upload_whose_last_answer_was_lost_should_not_be_sent_again(
    s3_endpoint: str, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.json")
    first = place(s3_endpoint)
    monkeypatch.setattr(checkpoint, "clear", lambda: None)
    first.upload(film, "film.mp4", checkpoint, "video/mp4")
    again = place(s3_endpoint)
    monkeypatch.setattr(again._client, "upload_part", lambda **_: pytest.fail("sent again"))
    assert again.upload(film, "film.mp4", checkpoint, "video/mp4").size == film.stat().st_size


@pytest.mark.usefixtures("bucket")
def test_link_should_give_the_file_to_whoever_has_it(s3_endpoint: str, film: Path, tmp_path: Path) -> None:
    bucket = place(s3_endpoint)
    bucket.upload(film, "film.mp4", Checkpoint(tmp_path / "c"), "video/mp4")
    link = bucket.link("film.mp4", 60, "my film.mp4", "video/mp4")
    assert link is not None
    answer = httpx.get(link, headers={"range": "bytes=0-3"})
    assert (answer.status_code, answer.content) == (206, film.read_bytes()[:4])
    bucket.delete("film.mp4")
    bucket.delete("film.mp4")
    # moto says 403 where S3 says 404 to a key that may not list.
    assert httpx.get(link).status_code in {403, 404}


@pytest.mark.usefixtures("bucket")
def test_check_should_leave_nothing_behind(s3_endpoint: str, client: Any) -> None:
    place(s3_endpoint).check()
    assert "Contents" not in client.list_objects_v2(Bucket="films")


def test_missing_bucket_should_be_said(s3_endpoint: str, film: Path, tmp_path: Path) -> None:
    for act in (
        lambda: place(s3_endpoint, "nothere").check(),
        lambda: place(s3_endpoint, "nothere").upload(film, "f", Checkpoint(tmp_path / "c"), "video/mp4"),
    ):
        with pytest.raises(StorageError, match="no bucket nothere") as raised:
            act()
        assert (raised.value.reason, raised.value.lasting) == ("no_bucket", True)


def test_server_that_is_away_should_be_said(film: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be reached") as raised:
        place("http://127.0.0.1:9").upload(film, "f", Checkpoint(tmp_path / "c"), "video/mp4")
    assert raised.value.reason == "unreachable"


@pytest.mark.usefixtures("bucket")
def test_encryption_metadata_and_tags_should_be_asked_for(
    s3_endpoint: str, client: Any, film: Path, tmp_path: Path
) -> None:
    bucket = place(
        s3_endpoint,
        encryption="aws:kms",
        kms_key_id="arn:aws:kms:us-east-1:1:key/k",
        metadata=(("meeting", "demo"),),
        tags="team=a",
    )
    bucket.upload(film, "film.mp4", Checkpoint(tmp_path / "c"), "video/mp4")
    head = client.head_object(Bucket="films", Key="film.mp4")
    assert head["ServerSideEncryption"] == "aws:kms"
    assert head["Metadata"] == {"meeting": "demo"}
    tags = client.get_object_tagging(Bucket="films", Key="film.mp4")["TagSet"]
    assert tags == [{"Key": "team", "Value": "a"}]
    assert hashlib.md5(content(client, "film.mp4")).digest() == hashlib.md5(film.read_bytes()).digest()
