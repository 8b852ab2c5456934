"""Where recordings are uploaded to, as a `storage_config` of the API."""

from typing import Any

S3 = {
    "type": "s3", "bucket": "films", "access_key": "key", "secret": "s3cret", "endpoint": "https://8.8.8.8",
    "path": "{meeting_id}", "encryption": {"type": "SSE-KMS", "kms_key_id": "k"}, "tags": {"a": "b"},
}  # fmt: skip
"""One at which nothing arrives."""


def target_at(endpoint: str, **more: Any) -> dict[str, Any]:
    """The bucket `transfers` of an S3 server of the tests'."""
    return {
        "type": "s3", "bucket": "transfers", "access_key": "key", "secret": "the-secret-of-the-key",
        "endpoint": endpoint, "path": "{meeting_id}/{year}",
        "metadata": {"course": "1"}, "tags": {"kind": "lesson"},
    } | more  # fmt: skip
