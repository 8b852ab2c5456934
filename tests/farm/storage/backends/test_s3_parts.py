import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import randbytes
from typing import Any

import pytest
from botocore.exceptions import ClientError

from recording_farm.farm.storage.backend import NOT_READ_BACK, Checkpoint, Part, StorageError
from recording_farm.farm.storage.backends.s3 import S3Backend
from recording_farm.farm.storage.backends.s3_client import S3Bucket
from testkit.network.faulty_server import refusing_server
from testkit.network.wire import wire_to
from testkit.storage.buckets import bucket_at
from testkit.storage.parts import MEBIBYTE, parts_of_content, put_in_parts, send_all
from testkit.storage.servers import S3_KEY, S3_SECRET

SIZES = (5 * MEBIBYTE + 4096, 5 * MEBIBYTE, 6 * MEBIBYTE)


@pytest.fixture(params=["s3_endpoint", "strict_s3_endpoint"], ids=["moto", "rclone"])
def endpoint(request: pytest.FixtureRequest) -> str:
    """An S3 server, of two kinds."""
    address: str = request.getfixturevalue(request.param)
    return address


@pytest.fixture
def bucket(endpoint: str) -> Iterator[Any]:
    with bucket_at(endpoint, "films") as bucket:
        yield bucket


@pytest.fixture(scope="module")
def content() -> bytes:
    return randbytes(17 * MEBIBYTE + 5)


def place(endpoint: str | int, **more: Any) -> S3Backend:
    endpoint = endpoint if isinstance(endpoint, str) else f"http://127.0.0.1:{endpoint}"
    return S3Backend(S3Bucket("films", S3_KEY, S3_SECRET, "us-east-1", endpoint, **more), tries=1)


def port_of(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def test_parts_should_make_the_file_in_the_order_of_their_numbers(
    endpoint: str, bucket: Any, content: bytes
) -> None:
    films = place(endpoint)
    begun = films.begin_parts("a/film.mp4", "video/mp4")
    # Other processes send the parts.
    sent = send_all(place(endpoint), "a/film.mp4", begun, parts_of_content(content, SIZES))
    assert list(bucket.objects.all()) == []
    for _ in range(2):  # the answer to the first was lost
        placed = films.finish_parts("a/film.mp4", begun, sent)
        assert (placed.location, placed.size) == ("s3://films/a/film.mp4", len(content))
        assert placed.note is None
    stored = bucket.Object("a/film.mp4").get()
    assert stored["Body"].read() == content
    assert stored["ContentType"] == "video/mp4"
    assert list(films.unfinished_parts("")) == []


def test_part_that_is_sent_again_should_replace_the_first(endpoint: str, bucket: Any, content: bytes) -> None:
    films = place(endpoint)
    begun = films.begin_parts("film.mp4", "video/mp4")
    parts = parts_of_content(content, SIZES)
    films.send_part("film.mp4", begun, parts[1][0], randbytes(SIZES[1]))
    # This one is in no list.
    films.send_part("film.mp4", begun, Part(9000, 0, 4), b"none")
    films.finish_parts("film.mp4", begun, send_all(films, "film.mp4", begun, parts))
    assert bucket.Object("film.mp4").get()["Body"].read() == content


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("endpoint", ["s3_endpoint"], indirect=True)
def test_part_that_somebody_else_replaced_should_make_no_file(endpoint: str, content: bytes) -> None:
    films = place(endpoint)
    begun = films.begin_parts("film.mp4", "video/mp4")
    parts = parts_of_content(content, SIZES)
    sent = send_all(films, "film.mp4", begun, parts)
    films.send_part("film.mp4", begun, parts[1][0], randbytes(SIZES[1]))
    with pytest.raises(StorageError) as raised:
        films.finish_parts("film.mp4", begun, sent)
    assert raised.value.reason == "upload_gone"


@pytest.mark.parametrize("endpoint", ["strict_s3_endpoint"], indirect=True)  # moto answers 500
def test_upload_that_is_gone_should_be_said(endpoint: str, bucket: Any, content: bytes) -> None:
    bucket.put_object(Key="film.mp4", Body=b"the file of before")
    films = place(endpoint)
    begun = films.begin_parts("film.mp4", "video/mp4")
    parts = parts_of_content(content, SIZES)
    sent = send_all(films, "film.mp4", begun, parts)
    for _ in range(2):
        films.abort_parts("film.mp4", begun)
    for act in (
        lambda: films.send_part("film.mp4", begun, *parts[0]),
        lambda: films.finish_parts("film.mp4", begun, sent),
    ):
        with pytest.raises(StorageError) as raised:
            act()
        assert raised.value.reason == "upload_gone"
    assert bucket.Object("film.mp4").get()["Body"].read() == b"the file of before"


@pytest.mark.parametrize("endpoint", ["strict_s3_endpoint"], indirect=True)  # its ETag is not made of parts
def test_object_of_before_should_not_pass_for_the_finished_one(endpoint: str, bucket: Any) -> None:
    films = place(endpoint)
    bucket.put_object(Key="film.mp4", Body=b"of one size")
    begun = films.begin_parts("film.mp4", "video/mp4")
    sent = send_all(films, "film.mp4", begun, [(Part(1, 0, 11), b"and another")])
    films.abort_parts("film.mp4", begun)
    # As if the object had been there for a while.
    begun = {**begun, "began": begun["began"] + 60}
    with pytest.raises(StorageError) as raised:
        films.finish_parts("film.mp4", begun, sent)
    assert raised.value.reason == "upload_gone"


@pytest.mark.usefixtures("bucket")
def test_unfinished_uploads_should_be_found_and_dropped(endpoint: str) -> None:
    films = place(endpoint)
    assert list(films.unfinished_parts("")) == []
    for key in ("a/1.mp4", "a/2.mp4", "b/1.mp4"):
        begun = films.begin_parts(key, "video/mp4")
        films.send_part(key, begun, Part(2, 0, 4), b"body")
    found = list(films.unfinished_parts("a/"))
    assert sorted(each.key for each in found) == ["a/1.mp4", "a/2.mp4"]
    for each in found:
        # moto's uploads are of 2010.
        assert each.began.year == 2010 or abs(each.began - datetime.now(UTC)) < timedelta(minutes=5)
        films.abort_parts(each.key, each.begun)
    assert [each.key for each in films.unfinished_parts("")] == ["b/1.mp4"]


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("endpoint", ["strict_s3_endpoint"], indirect=True)
def test_bytes_that_change_on_their_way_should_be_refused(endpoint: str) -> None:
    with wire_to(port_of(endpoint)) as wire:
        films = place(wire.port)
        begun = films.begin_parts("film.mp4", "video/mp4")
        wire.mend()
        wire.damage_at(3 * MEBIBYTE)
        with pytest.raises(StorageError) as raised:
            films.send_part("film.mp4", begun, Part(1, 0, 6 * MEBIBYTE), randbytes(6 * MEBIBYTE))
        assert (raised.value.reason, raised.value.lasting) == ("damaged", False)


@pytest.mark.parametrize("endpoint", ["s3_endpoint"], indirect=True)
def test_key_that_may_not_read_should_finish_with_a_note(endpoint: str, bucket: Any, content: bytes) -> None:
    with refusing_server(port_of(endpoint), lambda method, _: method not in {"PUT", "POST"}) as port:
        placed = put_in_parts(place(port), "film.mp4", content, SIZES)
    assert placed.note == NOT_READ_BACK
    assert bucket.Object("film.mp4").content_length == len(content)


@pytest.mark.parametrize("endpoint", ["s3_endpoint"], indirect=True)
def test_file_should_have_the_properties_of_the_bucket(endpoint: str, bucket: Any, content: bytes) -> None:
    films = place(
        endpoint,
        encryption="aws:kms",
        kms_key_id="arn:aws:kms:us-east-1:1:key/k",
        metadata=(("meeting", "demo"),),
        tags="team=a",
    )
    bucket.Versioning().enable()
    put_in_parts(films, "film.mp4", content, SIZES)
    stored = bucket.Object("film.mp4")
    assert (stored.server_side_encryption, stored.metadata) == ("aws:kms", {"meeting": "demo"})
    tags = bucket.meta.client.get_object_tagging(Bucket="films", Key="film.mp4")["TagSet"]
    assert tags == [{"Key": "team", "Value": "a"}]
    bucket.object_versions.delete()


@pytest.mark.usefixtures("bucket")
def test_file_of_unequal_parts_should_be_fetched_and_verified(
    endpoint: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = place(endpoint)
    begun = films.begin_parts("film.mp4", "video/mp4")
    # With gaps between the numbers, moto does not tell the sizes.
    parts = [
        (replace(part, number=at), data)
        for at, (part, data) in enumerate(parts_of_content(content, SIZES), 1)
    ]
    films.finish_parts("film.mp4", begun, send_all(films, "film.mp4", begun, parts))
    films.fetch("film.mp4", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    get_object = films._client.get_object

    def damaged(**arguments: Any) -> Any:
        answer = get_object(**arguments)
        back = tmp_path / "damaged"
        back.write_bytes(answer["Body"].read()[:-1] + b"!")
        return {**answer, "Body": back.open("rb")}

    monkeypatch.setattr(films._client, "get_object", damaged)
    with pytest.raises(StorageError) as raised:
        films.fetch("film.mp4", tmp_path / "back")
    assert raised.value.reason == "damaged"


def test_whole_file_should_be_uploaded_after_parts_of_it(
    endpoint: str, bucket: Any, film: Path, checkpoint: Checkpoint
) -> None:
    films = place(endpoint)
    begun = films.begin_parts("film.mp4", "video/mp4")
    films.send_part("film.mp4", begun, Part(2, 0, 4), b"body")
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    films.abort_parts("film.mp4", begun)
    assert bucket.Object("film.mp4").get()["Body"].read() == film.read_bytes()


def test_rules_should_be_those_of_the_server() -> None:
    bucket = S3Bucket("films", S3_KEY, S3_SECRET, "auto", "https://1a2b.r2.cloudflarestorage.com")
    assert S3Backend(bucket).part_rules.same_size
    rules = S3Backend(replace(bucket, endpoint="https://fra1.digitaloceanspaces.com")).part_rules
    assert (rules.smallest, rules.most, rules.same_size) == (5 * MEBIBYTE, 10_000, False)
    assert not S3Backend(replace(bucket, endpoint=None, region="us-east-1")).part_rules.same_size


def test_server_of_the_tests_should_join_parts_as_amazon_does(s3_endpoint: str, content: bytes) -> None:
    parts = [data for _, data in parts_of_content(content, SIZES)]
    with bucket_at(s3_endpoint, "films") as bucket:
        upload = bucket.Object("film.mp4").initiate_multipart_upload()
        etags = {}
        # In any order, one that is replaced, one that is not in the list.
        for number, data in [(9, b"other"), (5, b"before"), (9, parts[3]), *enumerate(parts[:3], 2)]:
            etags[number] = upload.Part(number).upload(Body=data)["ETag"]
        upload.Part(7).upload(Body=b"not in the file")

        def complete(*numbers: int) -> Any:
            listed = [{"PartNumber": number, "ETag": etags[number]} for number in numbers]
            return upload.complete(MultipartUpload={"Parts": listed})

        for numbers, code in (((3, 2), "InvalidPartOrder"), ((2, 9, 10), "InvalidPart"), ((9, 10), "Entity")):
            etags[10] = etags[9] if code == "InvalidPart" else upload.Part(10).upload(Body=b"end")["ETag"]
            with pytest.raises(ClientError, match=code):
                complete(*numbers)
        film = complete(2, 3, 4, 9)
        assert film.get()["Body"].read() == content
        middle = SIZES[0] - 3
        found = film.get(Range=f"bytes={middle}-{middle + 6}")
        assert found["Body"].read() == content[middle : middle + 7]
        assert found["ContentRange"] == f"bytes {middle}-{middle + 6}/{len(content)}"
        digests = b"".join(hashlib.md5(data).digest() for data in parts)
        assert film.e_tag == f'"{hashlib.md5(digests).hexdigest()}-4"'
        assert film.content_length == len(content)
        assert list(bucket.multipart_uploads.all()) == []
        # Deleting it, or writing over it, ends no other object.
        bucket.Object("other.mp4").copy_from(CopySource="films/film.mp4")
        film.put(Body=b"new")
        assert film.get()["Body"].read() == b"new"
        assert bucket.Object("other.mp4").get()["Body"].read() == content
