from pathlib import Path

import pytest

from recording_farm.farm.config.store_url import StoreKind, StoreLocation, parse_store_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("file:///srv/films", StoreLocation(StoreKind.DIRECTORY, directory=Path("/srv/films"))),
        ("file:///srv/my%20films", StoreLocation(StoreKind.DIRECTORY, directory=Path("/srv/my films"))),
        ("s3://films", StoreLocation(StoreKind.S3, bucket="films")),
        ("s3://films/a/b/", StoreLocation(StoreKind.S3, bucket="films", prefix="a/b/")),
        (
            "s3://films?endpoint=http://127.0.0.1:9000&region=eu-west-1",
            StoreLocation(StoreKind.S3, bucket="films", endpoint="http://127.0.0.1:9000", region="eu-west-1"),
        ),
        ("azure://films/a", StoreLocation(StoreKind.AZURE, bucket="films", prefix="a/")),
    ],
)
def test_url_should_say_where_the_store_is(url: str, expected: StoreLocation) -> None:
    assert parse_store_url(url) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("/srv/films", "must begin with file://"),
        ("gs://films", "must begin with file://"),
        ("file://srv/films", "three slashes"),
        ("s3:///films", "name a bucket"),
        ("s3://key:hunter2@films", "not contain a key"),
        ("s3://films?secret=hunter2", "endpoint, region"),
        ("s3://films?endpoint=ftp://a", "http://"),
        ("azure://films?region=a", "none"),
    ],
)
def test_bad_url_should_be_refused_without_repeating_it(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        parse_store_url(url)
    assert "hunter2" not in str(refused.value)
