"""Buckets of an S3 server of the tests', as another client sees them."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import ClientError

from testkit.waiting import wait_until


@cache
def s3_at(endpoint: str) -> Any:
    """A client of that server: boto3's resource, which takes long to make."""
    return boto3.resource(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )


@contextmanager
def bucket_at(endpoint: str, name: str) -> Iterator[Any]:
    """Make a bucket; it is deleted with all that is in it, also after a test that failed."""
    bucket = s3_at(endpoint).Bucket(name)
    bucket.create()
    try:
        yield bucket
    finally:
        wait_until(lambda: _is_deleted(bucket), what=f"the bucket {name} is empty")


def _is_deleted(bucket: Any) -> bool:
    """Try to delete it with all in it; False if something arrived meanwhile, of a client that has gone."""
    errors = bucket.meta.client.exceptions
    with suppress(errors.NoSuchUpload):  # it has ended; or, as rclone says it, there never was one
        for upload in bucket.multipart_uploads.all():
            upload.abort()
    bucket.objects.all().delete()
    try:
        bucket.delete()
    except ClientError as error:
        if error.response["Error"]["Code"] != "BucketNotEmpty":
            raise
        return False
    return True
