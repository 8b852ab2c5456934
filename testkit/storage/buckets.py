"""Buckets of an S3 server of the tests', as another client sees them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import boto3


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
    """Make a bucket; it is deleted with all that is in it."""
    bucket = s3_at(endpoint).Bucket(name)
    bucket.create()
    try:
        yield bucket
    finally:
        bucket.objects.all().delete()
        bucket.delete()
