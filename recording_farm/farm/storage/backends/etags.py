"""S3's ETags: the MD5 of an object, or of the MD5s of its multipart upload."""

import hashlib
import re
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from recording_farm.farm.storage.backend import Part, parts_of, pieces_of, slice_of

_ETAG: Final = re.compile(r'"?(?P<md5>[0-9a-f]{32})(-(?P<parts>[0-9]{1,5}))?"?')


def can_be_of(etag: str, file: Path, part_size: Callable[[int], int]) -> bool:
    """Whether an object with this ETag can have the content of `file`.

    An ETag that is not an MD5 matches any content. `part_size` is called only for multipart uploads; it
    returns the size of the part of a number from 1 (B), or that of the object if the server has no parts.
    """
    known = _ETAG.fullmatch(etag)
    if known is None:
        return True
    size = file.stat().st_size
    if known["parts"] is None:
        return _md5_of(file, Part(1, 0, size)).hex() == known["md5"]
    count = int(known["parts"])
    first = part_size(1)
    if first < 1 or (count > 1 and first >= size):
        return True
    # All parts but the last usually have one size, and this takes one request.
    has_one_size = -(-size // first) == count
    if has_one_size and _is_of_parts(etag, file, parts_of(size, first, count)):
        return True
    sizes = [first, *(part_size(number) for number in range(2, count + 1))]
    if sum(sizes) != size:
        return not has_one_size
    offsets = accumulate(sizes, initial=0)
    parts = [Part(number, *place) for number, place in enumerate(zip(offsets, sizes, strict=False), 1)]
    return _is_of_parts(etag, file, parts)


def _is_of_parts(etag: str, file: Path, parts: list[Part]) -> bool:
    return etag_of([_md5_of(file, part) for part in parts]) == unquoted(etag)


def etag_of(digests: Sequence[bytes]) -> str:
    """The ETag of a multipart upload: the MD5 of the parts' MD5s, and their number."""
    return f"{md5(b''.join(digests)).hex()}-{len(digests)}"


def known_etag(answer: dict[str, Any]) -> str | None:
    """The ETag if it is made of MD5s, as Amazon's is; None if it does not depend on the content."""
    etag = unquoted(answer.get("ETag", ""))
    return etag if etag_is_md5(answer) and re.fullmatch(r"[0-9a-f]{32}(-\d+)?", etag) else None


def etag_is_md5(answer: dict[str, Any]) -> bool:
    """Whether the ETags of an object that this answer is about are MD5s."""
    # With a customer's key the ETag is not an MD5; that may also be the bucket's default encryption.
    return not str(answer.get("ServerSideEncryption", "")).startswith("aws:kms")


def unquoted(etag: str) -> str:
    """An ETag as it is in a header, without its quotes."""
    return etag.strip('"')


def md5(data: bytes | bytearray | memoryview) -> bytes:
    """The MD5 of `data`."""
    return hashlib.md5(data, usedforsecurity=False).digest()


def _md5_of(source: Path, part: Part) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    with slice_of(source, part) as file:
        for data in pieces_of(file):
            digest.update(data)
    return digest.digest()
