"""The tests' S3 server with the rule of Cloudflare's R2: all parts but the last have the same size.

R2 refuses others when the upload is completed, with the code InvalidPart. The arguments are those of Moto.
"""

import sys
from typing import Any

from moto.s3 import models
from moto.s3.exceptions import InvalidPart
from moto.server import main


def complete(upload: Any, body: Any) -> Any:
    """Check the sizes; then Moto completes the upload."""
    listed = list(body)
    *most, last = [upload.parts[number].size for number, _ in listed]
    if len(set(most)) > 1 or (most and last > most[0]):
        raise InvalidPart
    return _complete(upload, iter(listed))


_complete = models.FakeMultipart.complete

if __name__ == "__main__":
    models.FakeMultipart.complete = complete
    main(sys.argv[1:])
