"""S3's ETags: the MD5 of an object, or of the MD5s of its multipart upload."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from recording_farm.farm.storage.backend import Part, parts_of, pieces_of, slice_of

_ETAG: Final = re.compile(r'"?(?P<md5>[0-9a-f]{32})(-(?P<parts>[0-9]{1,5}))?"?')


def can_be_of(etag: str, file: Path, first_part_size: Callable[[], int]) -> bool:
    """Whether an object with this ETag can have the content of `file`.

    An ETag that is not an MD5 matches any content. `first_part_size` is called only for multipart uploads; it
    returns the size of all parts but the last (B), or the size of the object if the server has no parts.
    """
    known = _ETAG.fullmatch(etag)
    if known is None:
        return True
    size = file.stat().st_size
    if known["parts"] is None:
        return _md5(file, Part(1, 0, size)).hex() == known["md5"]
    count = int(known["parts"])
    part_size = first_part_size()
    if part_size < 1 or -(-size // part_size) != count:
        return True
    digests = b"".join(_md5(file, part) for part in parts_of(size, part_size, count))
    return hashlib.md5(digests, usedforsecurity=False).hexdigest() == known["md5"]


def _md5(source: Path, part: Part) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    with slice_of(source, part) as file:
        for data in pieces_of(file):
            digest.update(data)
    return digest.digest()
