"""A file in parts, as a recorder sends it: its beginning last."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from recording_farm.farm.storage.backend import Part, StoredObject
from recording_farm.farm.storage.parts import PartsUpload, SentPart

MEBIBYTE = 1 << 20
BLOCK = 4096


def parts_of_content(content: bytes, sizes: Sequence[int]) -> list[tuple[Part, bytes]]:
    """Cut a content into parts of these sizes and a last one. Numbers have gaps; offsets skip the first."""
    ends = [*accumulate(sizes), len(content)]
    begins = [0, *ends[:-1]]
    return [
        (Part(2 * index + 1, max(0, begin - ends[0]), end - begin), content[begin:end])
        for index, (begin, end) in enumerate(zip(begins, ends, strict=True))
    ]


def send_all(
    backend: PartsUpload, key: str, begun: dict[str, Any], parts: Sequence[tuple[Part, bytes]]
) -> list[SentPart]:
    """Send parts, the first one last, as a journal would keep them."""
    return [
        SentPart(part, backend.send_part(key, begun, part, memoryview(data)))
        for part, data in [*parts[1:], *parts[:1]]
    ]


def put_in_parts(backend: PartsUpload, key: str, content: bytes, sizes: Sequence[int]) -> StoredObject:
    """Upload a content in parts."""
    begun = backend.begin_parts(key, "video/mp4")
    return backend.finish_parts(key, begun, send_all(backend, key, begun, parts_of_content(content, sizes)))
