"""The tests' S3 server with ETags that are no MD5s, as Amazon's are of a bucket that is encrypted with KMS.

The arguments are those of Moto.
"""

import sys
from secrets import token_hex
from typing import Any

from moto.s3 import models, responses
from moto.server import main


def set_part(upload: Any, part_id: int, value: bytes) -> Any:
    """Take a part; its ETag says nothing of its content."""
    part = _set_part(upload, part_id, value)
    part._etag = token_hex(16)
    return part


def post(response: Any, *arguments: Any) -> Any:
    """Begin or complete an upload; the answer tells how it is encrypted, as Amazon's does."""
    status, headers, body = _post(response, *arguments)
    return status, {**headers, "x-amz-server-side-encryption": "aws:kms"}, body


_set_part = models.FakeMultipart.set_part
_post = responses.S3Response._key_response_post

if __name__ == "__main__":
    models.FakeMultipart.set_part = set_part
    responses.S3Response._key_response_post = post
    main(sys.argv[1:])
