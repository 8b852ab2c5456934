"""S3's ETags: the MD5 of an object, or that of the MD5s of the parts that it was sent in."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from recording_farm.farm.storage.backend import Part, parts_of, pieces_of, slice_of

_ETAG: Final = re.compile(r'"?(?P<md5>[0-9a-f]{32})(-(?P<parts>[0-9]{1,5}))?"?')


def can_be_of(etag: str, file: Path, first_part_size: Callable[[], int]) -> bool:
    """Whether an object with this ETag can have the content of `file`.

    An ETag that is no MD5 can be any object's. `first_part_size` is asked only when there are parts, of which
    all but the last have that size (B); a server that does not know parts says the size of the whole object.
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
