"""Uploads in parts to Azure: a part is an uncommitted block of the blob.

Azure does not know uploads, so each begins with a block of one byte, its marker, whose id has the time; it is
never committed. Ids of parts have the number and the MD5, as those of ordinary uploads: all ids of a blob
must have the same length. Functions raise the library's errors.
"""

import hashlib
import io
import re
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any, Final

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.storage.blob import BlobClient, BlobServiceClient

from recording_farm.farm.storage.backend import Part, StorageError
from recording_farm.farm.storage.backends.azure_errors import REASONS, code_of
from recording_farm.farm.storage.parts import Data, SentPart, Unfinished

MAX_BLOCKS: Final = 50_000
"""Azure's maximum number of blocks."""

Blocks = list[tuple[str, int]]
"""Id and size of each block of a blob."""

_MARKER: Final = re.compile(r"00000-(?P<time>[0-9a-f]{8})[0-9a-f]{24}")
_LISTED: Final = 1000
"""Blobs in a page of a list."""
_MAX_PAGES: Final = 10_000


def begin(blob: BlobClient, content_type: str) -> dict[str, Any]:
    """Open an upload; returns its state."""
    marker = f"00000-{int(time.time()):08x}{token_hex(12)}"
    blob.stage_block(marker, b"\0", length=1)
    return {"marker": marker, "content_type": content_type}


def send(blob: BlobClient, part: Part, data: Data) -> dict[str, Any]:
    """Send a part; returns its receipt."""
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    name = f"{part.number:05d}-{digest}"
    if part.size:  # Azure has no empty blocks
        # The server rejects a corrupted block.
        blob.stage_block(name, io.BytesIO(data), length=part.size, validate_content="md5")
    return {"block": name, "md5": digest}


def blocks_of(sent: Sequence[SentPart]) -> Blocks:
    """The blocks of a blob that has these parts."""
    return [(each.receipt["block"], each.part.size) for each in sent if each.part.size]


def abort(blob: BlobClient, begun: dict[str, Any]) -> None:
    """Drop the uncommitted blocks of a blob, unless it exists or has another upload in parts."""
    if _markers(blob) != [begun["marker"]]:
        return
    try:
        # Only a commit drops uncommitted blocks.
        answer = blob.commit_block_list([], match_condition=MatchConditions.IfMissing)
    except HttpResponseError as error:
        if error.status_code in {409, 412} and code_of(error) not in REASONS:
            return
        raise
    blob.delete_blob(etag=str(answer["etag"]), match_condition=MatchConditions.IfNotModified)


def unfinished(service: BlobServiceClient, container: str, prefix: str) -> Iterator[Unfinished]:
    """The uploads in parts of blobs whose name starts with `prefix`."""
    with service.get_container_client(container) as client:
        blobs = client.list_blobs(prefix, include=["uncommittedblobs"], results_per_page=_LISTED)
        for number, properties in enumerate(blobs):
            if number >= _LISTED * _MAX_PAGES:
                raise StorageError("bad_answer", "the server's list of files does not end")
            if properties.size:
                continue  # it is committed
            with client.get_blob_client(properties.name) as blob:
                for marker in _markers(blob):
                    # The type is not known any more, and an upload is only dropped.
                    begun = {"marker": marker, "content_type": "application/octet-stream"}
                    yield Unfinished(properties.name, begun, _began(marker))


def _markers(blob: BlobClient) -> list[str]:
    try:
        _, uncommitted = blob.get_block_list("uncommitted")
    except ResourceNotFoundError as error:
        if code_of(error) in REASONS:
            raise
        return []
    return [str(block.id) for block in uncommitted if _MARKER.fullmatch(str(block.id))]


def _began(marker: str) -> datetime:
    return datetime.fromtimestamp(int(marker[6:14], 16), UTC)
