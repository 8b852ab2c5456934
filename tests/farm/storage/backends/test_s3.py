import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from random import randbytes
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from botocore.exceptions import ReadTimeoutError

from recording_farm.farm.storage.backend import Checkpoint, StorageError, parts_of
from recording_farm.farm.storage.backends import s3 as module
from recording_farm.farm.storage.backends.s3 import PART_BYTES, SINGLE_BYTES, S3Backend
from recording_farm.farm.storage.backends.s3_client import S3Bucket
from testkit.machine.memory import watched_memory
from testkit.network.faulty_server import faulty_server
from testkit.network.wire import Wire, wire_to
from testkit.storage.buckets import bucket_at, s3_at
from testkit.storage.servers import S3_KEY, S3_SECRET

MEBIBYTE = 1 << 20


@pytest.fixture(params=["s3_endpoint", "strict_s3_endpoint"], ids=["moto", "rclone"])
def endpoint(request: pytest.FixtureRequest) -> str:
    """An S3 server, of two kinds."""
    address: str = request.getfixturevalue(request.param)
    return address


@pytest.fixture
def client(endpoint: str) -> Any:
    return s3_at(endpoint).meta.client


@pytest.fixture
def bucket(endpoint: str) -> Iterator[None]:
    with bucket_at(endpoint, "films"):
        yield


def place(endpoint: str, bucket: str = "films", **more: Any) -> S3Backend:
    values: dict[str, Any] = {"secret": S3_SECRET, "region": "us-east-1", "endpoint": endpoint} | more
    return S3Backend(S3Bucket(bucket, S3_KEY, **values))


def impatient_place(endpoint: str) -> S3Backend:
    """The bucket for a client that gives a silent server up after one try of two seconds."""
    bucket = S3Bucket("films", S3_KEY, S3_SECRET, None, endpoint)
    return S3Backend(bucket, connect_timeout=2, read_timeout=2, tries=1)


@pytest.fixture
def wire(endpoint: str) -> Iterator[Wire]:
    with wire_to(int(endpoint.rpartition(":")[2])) as wire:
        yield wire


def through(wire: Wire) -> str:
    return f"http://127.0.0.1:{wire.port}"


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
    endpoint: str, client: Any, film: Path, tmp_path: Path
) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.json")
    placed = place(endpoint).upload(film, "a/film.mp4", checkpoint, "video/mp4")
    assert placed.location == "s3://films/a/film.mp4"
    assert placed.size == film.stat().st_size
    assert content(client, "a/film.mp4") == film.read_bytes()
    head = client.head_object(Bucket="films", Key="a/film.mp4")
    assert head["ContentType"] == "video/mp4"
    assert not (tmp_path / "checkpoint.json").exists()


@pytest.mark.usefixtures("bucket")
def test_broken_upload_should_go_on_with_the_parts_that_are_missing(
    endpoint: str, client: Any, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.json")
    monkeypatch.setattr(module, "THREADS", 1)
    sent: list[int] = []
    broken = place(endpoint)
    upload_part = broken._client.upload_part

    def fail_at_the_third(**arguments: Any) -> Any:
        if arguments["PartNumber"] == 3:
            raise ReadTimeoutError(endpoint_url=endpoint)
        return upload_part(**arguments)

    monkeypatch.setattr(broken._client, "upload_part", fail_at_the_third)
    with pytest.raises(StorageError, match="did not answer in time"):
        broken.upload(film, "film.mp4", checkpoint, "video/mp4")

    again = place(endpoint)
    upload_again = again._client.upload_part

    def count(**arguments: Any) -> Any:
        sent.append(arguments["PartNumber"])
        return upload_again(**arguments)

    monkeypatch.setattr(again._client, "upload_part", count)
    again.upload(film, "film.mp4", checkpoint, "video/mp4")
    assert sent == [3]
    assert content(client, "film.mp4") == film.read_bytes()


@pytest.mark.usefixtures("bucket")
def test_file_that_changed_should_be_sent_again(
    endpoint: str, client: Any, film: Path, tmp_path: Path
) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.json")
    checkpoint.save(film, "film.mp4", {"upload_id": "gone"})
    film.write_bytes(b"another film")
    place(endpoint).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert content(client, "film.mp4") == b"another film"


@pytest.mark.usefixtures("bucket")
def test_upload_whose_last_answer_was_lost_should_not_be_sent_again(
    endpoint: str, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.json")
    first = place(endpoint)
    monkeypatch.setattr(checkpoint, "clear", lambda: None)
    first.upload(film, "film.mp4", checkpoint, "video/mp4")
    again = place(endpoint)
    monkeypatch.setattr(again._client, "upload_part", lambda **_: pytest.fail("sent again"))
    assert again.upload(film, "film.mp4", checkpoint, "video/mp4").size == film.stat().st_size


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("endpoint", ["strict_s3_endpoint"], indirect=True)
def test_upload_whose_completion_was_asked_for_twice_should_not_be_sent_again(
    endpoint: str, film: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = place(endpoint)
    complete = films._client.complete_multipart_upload

    def complete_twice(**arguments: Any) -> Any:
        complete(**arguments)
        # As the library does when the first answer takes longer than its time-out.
        return complete(**arguments)

    monkeypatch.setattr(films._client, "complete_multipart_upload", complete_twice)
    assert films.upload(film, "film.mp4", checkpoint, "video/mp4").size == film.stat().st_size


@pytest.mark.usefixtures("bucket")
def test_link_should_give_the_file_to_whoever_has_it(endpoint: str, film: Path, tmp_path: Path) -> None:
    bucket = place(endpoint)
    bucket.upload(film, "film.mp4", Checkpoint(tmp_path / "c"), "video/mp4")
    link = bucket.link("film.mp4", 60, "my film.mp4", "video/mp4")
    assert link is not None
    answer = httpx.get(link, headers={"range": "bytes=0-3"})
    # rclone says 200 where it means 206.
    assert answer.status_code in {200, 206}
    assert answer.content == film.read_bytes()[:4]
    bucket.delete("film.mp4")
    bucket.delete("film.mp4")
    # moto says 403 where S3 says 404 to a key that may not list.
    assert httpx.get(link).status_code in {403, 404}


@pytest.mark.usefixtures("bucket")
def test_check_should_leave_nothing_behind(endpoint: str, client: Any) -> None:
    place(endpoint).check()
    assert place(endpoint).check_writing() == []
    assert "Contents" not in client.list_objects_v2(Bucket="films")


def test_missing_bucket_should_be_said(endpoint: str, film: Path, tmp_path: Path) -> None:
    for act in (
        lambda: place(endpoint, "nothere").check(),
        lambda: place(endpoint, "nothere").upload(film, "f", Checkpoint(tmp_path / "c"), "video/mp4"),
    ):
        with pytest.raises(StorageError, match="no bucket nothere") as raised:
            act()
        assert (raised.value.reason, raised.value.lasting) == ("no_bucket", True)


def test_server_that_is_away_should_be_said(film: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be reached") as raised:
        place("http://127.0.0.1:9").upload(film, "f", Checkpoint(tmp_path / "c"), "video/mp4")
    assert raised.value.reason == "unreachable"


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("endpoint", ["s3_endpoint"], indirect=True)
def test_encryption_metadata_and_tags_should_be_asked_for(
    endpoint: str, client: Any, film: Path, tmp_path: Path
) -> None:
    bucket = place(
        endpoint,
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


@pytest.mark.usefixtures("bucket")
def test_file_should_be_fetched_and_replace_what_is_there(
    endpoint: str, film: Path, checkpoint: Checkpoint, back: Path
) -> None:
    films = place(endpoint)
    films.upload(film, "a/film.mp4", checkpoint, "video/mp4")
    films.fetch("a/film.mp4", back)
    assert back.read_bytes() == film.read_bytes()
    assert list(back.parent.iterdir()) == [back]


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("content", [b"", b"not sent in parts"])
def test_file_that_was_sent_in_one_go_should_be_fetched(
    endpoint: str, client: Any, back: Path, content: bytes
) -> None:
    client.put_object(Bucket="films", Key="film.mp4", Body=content)
    place(endpoint).fetch("film.mp4", back)
    assert back.read_bytes() == content


@pytest.mark.usefixtures("bucket")
def test_file_with_parts_of_another_size_should_be_fetched(
    endpoint: str, film: Path, checkpoint: Checkpoint, back: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "PART_BYTES", 9 * MEBIBYTE)
        place(endpoint).upload(film, "film.mp4", checkpoint, "video/mp4")
    place(endpoint).fetch("film.mp4", back)
    assert back.read_bytes() == film.read_bytes()


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("endpoint", ["s3_endpoint"], indirect=True)
def test_file_whose_etag_is_no_md5_should_be_fetched(
    endpoint: str, film: Path, checkpoint: Checkpoint, back: Path
) -> None:
    films = place(endpoint, encryption="aws:kms", kms_key_id="arn:aws:kms:us-east-1:1:key/k")
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    films.fetch("film.mp4", back)
    assert back.read_bytes() == film.read_bytes()


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("in_parts", [True, False], ids=["in parts", "in one go"])
def test_bytes_that_change_on_their_way_back_should_be_noticed(
    endpoint: str,
    client: Any,
    film: Path,
    checkpoint: Checkpoint,
    back: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_parts: bool,
) -> None:
    films = place(endpoint)
    if in_parts:
        films.upload(film, "film.mp4", checkpoint, "video/mp4")
    else:
        client.put_object(Bucket="films", Key="film.mp4", Body=film.read_bytes())
    get_object = films._client.get_object

    def damaged(**arguments: Any) -> Any:
        answer = get_object(**arguments)
        content = bytearray(answer["Body"].read())
        content[15 * MEBIBYTE] ^= 1
        return {**answer, "Body": io.BytesIO(content)}

    monkeypatch.setattr(films._client, "get_object", damaged)
    with pytest.raises(StorageError, match="damaged in transit") as raised:
        films.fetch("film.mp4", back)
    assert (raised.value.reason, raised.value.lasting) == ("damaged", False)
    assert [file.read_bytes() for file in back.parent.iterdir()] == [b"what was there"]


@pytest.mark.long
@pytest.mark.usefixtures("bucket")
def test_fetch_that_is_cut_off_or_hangs_should_be_said(
    wire: Wire, film: Path, checkpoint: Checkpoint, back: Path
) -> None:
    films = place(through(wire))
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    wire.mend()
    wire.cut_answers_after(5 * MEBIBYTE)
    with pytest.raises(StorageError, match="was lost") as raised:
        films.fetch("film.mp4", back)
    assert (raised.value.reason, raised.value.lasting) == ("unreachable", False)
    wire.mend()
    wire.silence_answers_after(5 * MEBIBYTE)
    with pytest.raises(StorageError, match="did not answer in time") as raised:
        impatient_place(through(wire)).fetch("film.mp4", back)
    assert (raised.value.reason, raised.value.lasting) == ("timed_out", False)
    assert [file.read_bytes() for file in back.parent.iterdir()] == [b"what was there"]
    wire.mend()


@pytest.mark.usefixtures("bucket")
def test_fetch_should_tell_a_missing_file_from_a_missing_bucket(endpoint: str, back: Path) -> None:
    for bucket, reason in (("films", "not_found"), ("nothere", "no_bucket")):
        with pytest.raises(StorageError) as raised:
            place(endpoint, bucket).fetch("gone.mp4", back)
        assert (raised.value.reason, raised.value.lasting) == (reason, True)
    assert back.read_bytes() == b"what was there"


@pytest.mark.usefixtures("bucket")
def test_fetch_should_say_when_the_file_cannot_be_written(
    endpoint: str, film: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    films = place(endpoint)
    films.upload(film, "film.mp4", checkpoint, "video/mp4")
    with pytest.raises(StorageError, match=f"{tmp_path}/gone: the disk failed: No such file"):
        films.fetch("film.mp4", tmp_path / "gone" / "film.mp4")


@pytest.mark.long
@pytest.mark.usefixtures("bucket")
def test_memory_should_not_grow_with_the_file_that_is_fetched(
    endpoint: str, long_film: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    films = place(endpoint)
    films.upload(long_film, "film.mp4", checkpoint, "video/mp4")
    with watched_memory() as growth:
        films.fetch("film.mp4", tmp_path / "back.mp4")
    assert (tmp_path / "back.mp4").stat().st_size == long_film.stat().st_size
    assert growth.bytes <= 32 * MEBIBYTE


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("size", [0, 1, PART_BYTES, SINGLE_BYTES, SINGLE_BYTES + 1, 2 * SINGLE_BYTES])
def test_file_of_any_size_should_arrive(
    endpoint: str, client: Any, tmp_path: Path, checkpoint: Checkpoint, size: int
) -> None:
    file = tmp_path / "file"
    file.write_bytes(randbytes(size))
    assert place(endpoint).upload(file, "a b/ü&=.mp4", checkpoint, "video/mp4").size == size
    assert content(client, "a b/ü&=.mp4") == file.read_bytes()
    assert client.head_object(Bucket="films", Key="a b/ü&=.mp4")["ContentType"] == "video/mp4"


@pytest.mark.usefixtures("bucket")
def test_upload_that_was_cut_should_go_on_without_what_arrived(
    endpoint: str, wire: Wire, client: Any, tmp_path: Path, checkpoint: Checkpoint
) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"".join(bytes([number]) * MEBIBYTE for number in range(96)))
    wire.cut_after(48 * MEBIBYTE)
    with pytest.raises(StorageError) as raised:
        place(through(wire)).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert not raised.value.lasting
    wire.mend()
    place(through(wire)).upload(film, "film.mp4", checkpoint, "video/mp4")
    # What had not arrived, and the parts that were under way.
    assert wire.passed < (48 + 4 * 8 + 8) * MEBIBYTE
    assert client.head_object(Bucket="films", Key="film.mp4")["ContentLength"] == film.stat().st_size
    place(endpoint).delete("film.mp4")


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("endpoint", ["strict_s3_endpoint"], indirect=True)
@pytest.mark.parametrize("size", [10 * MEBIBYTE, 20 * MEBIBYTE], ids=["at once", "in parts"])
def test_bytes_that_change_on_their_way_should_be_refused_and_sent_again(
    wire: Wire, client: Any, tmp_path: Path, checkpoint: Checkpoint, size: int
) -> None:
    file = tmp_path / "file"
    file.write_bytes(randbytes(size))
    wire.damage_at(5 * MEBIBYTE)
    with pytest.raises(StorageError, match="damaged in transit") as raised:
        place(through(wire)).upload(file, "film.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("damaged", False)
    assert "Contents" not in client.list_objects_v2(Bucket="films")
    wire.mend()
    place(through(wire)).upload(file, "film.mp4", checkpoint, "video/mp4")
    assert content(client, "film.mp4") == file.read_bytes()


@pytest.mark.parametrize("endpoint", ["strict_s3_endpoint"], indirect=True)
@pytest.mark.usefixtures("bucket")
def test_keys_that_are_not_accepted_should_be_said(endpoint: str, film: Path, checkpoint: Checkpoint) -> None:
    wrong_key = S3Backend(S3Bucket("films", "other", S3_SECRET, None, endpoint))
    for bucket, text in (
        (place(endpoint, secret="hushhush"), "does not belong to the access key"),
        (wrong_key, "does not exist there"),
    ):
        for act in (
            bucket.check,
            lambda bucket=bucket: bucket.upload(film, "film.mp4", checkpoint, "video/mp4"),
        ):
            with pytest.raises(StorageError, match=text) as raised:
                act()
            assert (raised.value.reason, raised.value.lasting) == ("wrong_key", True)
            assert "hushhush" not in str(raised.value)


@pytest.mark.usefixtures("bucket")
def test_server_that_hangs_should_be_said(wire: Wire, film: Path, checkpoint: Checkpoint) -> None:
    wire.silent_after(2 * MEBIBYTE)
    with pytest.raises(StorageError, match="did not answer in time") as raised:
        impatient_place(through(wire)).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert (raised.value.reason, raised.value.lasting) == ("timed_out", False)


@pytest.mark.long
@pytest.mark.exact
@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("endpoint", ["strict_s3_endpoint"], indirect=True)
def test_memory_should_not_grow_with_the_file(endpoint: str, long_film: Path, checkpoint: Checkpoint) -> None:
    with watched_memory() as growth:
        place(endpoint).upload(long_film, "film.mp4", checkpoint, "video/mp4")
    assert growth.bytes <= 64 * MEBIBYTE


@pytest.mark.usefixtures("bucket")
def test_small_file_should_take_two_round_trips(
    endpoint: str, tmp_path: Path, checkpoint: Checkpoint
) -> None:
    file = tmp_path / "file"
    file.write_bytes(randbytes(10 * MEBIBYTE))
    requests = []
    bucket = place(endpoint)
    bucket._client.meta.events.register(
        "before-send.s3", lambda request, **_: requests.append(request.method)
    )
    bucket.upload(file, "film.mp4", checkpoint, "video/mp4")
    assert requests == ["PUT", "HEAD"]


@pytest.mark.long
@pytest.mark.usefixtures("bucket")
def test_part_should_not_have_to_be_sent_within_one_time_out(
    wire: Wire, client: Any, film: Path, checkpoint: Checkpoint
) -> None:
    wire.slow_down(0.02)
    bucket = S3Bucket("films", S3_KEY, S3_SECRET, None, through(wire))
    S3Backend(bucket, connect_timeout=1, read_timeout=10, tries=1).upload(
        film, "film.mp4", checkpoint, "video/mp4"
    )
    assert content(client, "film.mp4") == film.read_bytes()


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("endpoint", ["strict_s3_endpoint"], indirect=True)
@pytest.mark.parametrize(
    "error",
    [(500, "InternalError"), (503, "ServiceUnavailable"), (503, "SlowDown")],
    ids=lambda error: error[1],
)
def test_server_that_fails_now_and_then_should_get_the_file_all_the_same(
    endpoint: str, client: Any, film: Path, checkpoint: Checkpoint, error: tuple[int, str]
) -> None:
    port = urlsplit(endpoint).port
    assert port is not None
    with faulty_server(port, lambda number: error if number % 3 == 0 else None) as faulty:
        place(f"http://127.0.0.1:{faulty}").upload(film, "film.mp4", checkpoint, "video/mp4")
    assert content(client, "film.mp4") == film.read_bytes()


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("endpoint", ["strict_s3_endpoint"], indirect=True)
@pytest.mark.parametrize(
    "error",
    [(500, "InternalError"), (503, "ServiceUnavailable"), (503, "SlowDown")],
    ids=lambda error: error[1],
)
def test_server_that_fails_for_long_should_be_tried_again_later(
    endpoint: str, client: Any, film: Path, checkpoint: Checkpoint, error: tuple[int, str]
) -> None:
    port = urlsplit(endpoint).port
    assert port is not None
    # From the third request on: the upload has begun.
    with faulty_server(port, lambda number: error if number > 2 else None) as faulty:
        with pytest.raises(StorageError, match=error[1]) as raised:
            place(f"http://127.0.0.1:{faulty}").upload(film, "film.mp4", checkpoint, "video/mp4")
        assert not raised.value.lasting
    place(endpoint).upload(film, "film.mp4", checkpoint, "video/mp4")
    assert content(client, "film.mp4") == film.read_bytes()


def test_what_a_server_says_should_not_make_a_message_of_any_length(
    endpoint: str, film: Path, checkpoint: Checkpoint
) -> None:
    port = int(endpoint.rpartition(":")[2])
    with (
        faulty_server(port, lambda _: (418, "A" * 1_000_000)) as faulty,
        pytest.raises(StorageError) as raised,
    ):
        place(f"http://127.0.0.1:{faulty}").upload(film, "film.mp4", checkpoint, "video/mp4")
    assert len(raised.value.message) < 2000
