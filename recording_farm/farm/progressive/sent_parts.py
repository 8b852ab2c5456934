"""Receipts of the parts that were sent before a file was finished: a JSON file in the outbox for each
target."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from recording_farm.encoder.atomic_file import write_file
from recording_farm.encoder.mux.padding import NO_PADDING, Padding
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.storage.backend import Part, parts_of
from recording_farm.farm.storage.parts import PartRules, SentPart

FIRST_BYTES: Final = 5 << 20
"""So much of the beginning of the body is held back where parts have a minimum size. With the head it is the
first part, which S3 and Google want to have 5 MiB or more."""

LEAST_PART_BYTES: Final = 8 << 20

FREE_PART_BYTES: Final = 4 << 20
"""The size of parts without a minimum size. Smaller ones leave less to upload after the stop."""

HEAD_ROOM: Final = 1 << 20
"""Room for the head in the first part, where all parts have one size: enough for the index of half an hour. A
longer head gets more parts, and is padded to fill them."""

_HEAD_NUMBERS: Final = 64
"""Part numbers that are reserved for the head."""

_USED_NUMBERS: Final = 9_000
"""The most parts of the longest recording; S3 accepts 10 000."""

_MEBIBYTE: Final = 1 << 20

_SKIPPED_NUMBERS: Final = 16
"""Part numbers that a node skips when it takes an upload over. The node before sends fewer parts than these
after its last receipt in the replica: its lease ends some seconds before the takeover, see `Ownership`."""


@dataclass(frozen=True)
class Ahead:
    """An upload in parts: its state from `begin`, the part size, and the sent parts, in the order of the
    body.

    Part 1 is the head with the held-back bytes. The others have the numbers from 2 on, and their offsets
    count from the end of the held-back bytes. Where all parts have one size, the head with the held-back
    bytes is padded to whole parts, which have the first `head_numbers`.
    """

    begun: dict[str, Any]
    part_bytes: int
    identity: str
    """Identity of the body, see `GrowingCut.identity`."""
    parts: tuple[SentPart, ...] = field(default=())
    skipped: int = 0
    """Numbers that earlier nodes may have used for parts without a receipt here; see `taken_over`."""
    held_back: int = FIRST_BYTES
    """Bytes of the body that are in the first part, behind the head."""
    head_numbers: int = 1
    """More than one if all parts but the last must have the same size."""
    refusals: int = 0
    """How often the storage refused to finish the upload."""

    @property
    def next_part(self) -> Part:
        """The next part to send, once the body is long enough."""
        number = len(self.parts) + self.skipped + self.head_numbers + 1
        return Part(number, len(self.parts) * self.part_bytes, self.part_bytes)

    def taken_over(self, begun: dict[str, Any] | None = None) -> "Ahead":
        """The upload as another node continues it, with a new state `begun` if the storage needs one.

        The node before may still send some parts without a receipt here.
        """
        return replace(self, begun=begun or self.begun, skipped=self.skipped + _SKIPPED_NUMBERS)

    @property
    def body_bytes(self) -> int:
        """Bytes of the body that have arrived, behind those that are held back."""
        return sum(each.part.size for each in self.parts)

    @property
    def end(self) -> int:
        """Where in the body the parts end."""
        return self.held_back + self.body_bytes if self.parts else 0

    @property
    def padding(self) -> Padding:
        """The padding of the head that this upload needs."""
        return NO_PADDING if self.head_numbers == 1 else Padding(self.part_bytes, self.held_back)

    def head_parts(self, head_bytes: int) -> list[Part] | None:
        """The parts for the head and the held-back bytes; None if a head of this size does not fit."""
        size = head_bytes + self.held_back
        if self.head_numbers == 1:
            return [Part(1, 0, size)]
        parts = parts_of(size, self.part_bytes, size)
        fits = size % self.part_bytes == 0 and len(parts) <= self.head_numbers
        return parts if fits else None


def not_begun(part_bytes: int, identity: str, rules: PartRules) -> Ahead:
    """An upload that has not begun, to a storage with these rules."""
    if rules.same_size:
        held_back = part_bytes - HEAD_ROOM
        return Ahead({}, part_bytes, identity, held_back=held_back, head_numbers=_HEAD_NUMBERS)
    return Ahead({}, part_bytes, identity, held_back=FIRST_BYTES if rules.smallest else 0)


def part_bytes_of(recording: Recording, max_bitrate: int, rules: PartRules) -> int:
    """The part size, in whole MiB, with which the longest recording does not have too many parts."""
    longest = max_bitrate * recording.max_seconds // 8
    most = min(_USED_NUMBERS, rules.most - 2)
    needed = -(-longest // most // _MEBIBYTE) * _MEBIBYTE
    least = LEAST_PART_BYTES if rules.smallest else FREE_PART_BYTES
    return max(least, rules.smallest, needed)


def read_ahead(outbox: Outbox, target: str) -> Ahead | None:
    """The upload to a target; None if none has begun, or its receipts cannot be parsed."""
    try:
        return parsed_ahead(file_of_ahead(outbox, target).read_bytes())
    except OSError:
        return None


def parsed_ahead(content: bytes) -> Ahead | None:
    """The upload to a target, from the file that `save_ahead` wrote; None if it cannot be parsed."""
    try:
        saved = json.loads(content)
        parts = tuple(SentPart(Part(**each["part"]), dict(each["receipt"])) for each in saved["parts"])
        return Ahead(
            *(dict(saved["begun"]), int(saved["part_bytes"]), str(saved["identity"])),
            *(parts, int(saved.get("skipped", 0))),
            *(int(saved.get("held_back", FIRST_BYTES)), int(saved.get("head_numbers", 1))),
            int(saved.get("refusals", 0)),
        )
    except (ValueError, KeyError, TypeError):
        return None


def version_of_ahead(outbox: Outbox, target: str) -> tuple[int, int] | None:
    """A value that changes with each part that is sent to a target; None if no upload has begun."""
    try:
        found = file_of_ahead(outbox, target).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def save_ahead(outbox: Outbox, target: str, ahead: Ahead) -> None:
    """Save the receipts. After a power failure they may be lost; then the whole file is sent. Raises
    OSError."""
    write_file(file_of_ahead(outbox, target), json.dumps(asdict(ahead)), durable=False)


def forget_ahead(outbox: Outbox, target: str) -> None:
    """Delete the receipts."""
    file_of_ahead(outbox, target).unlink(missing_ok=True)


def targets_ahead(outbox: Outbox) -> list[str]:
    """The targets with an upload of the file that the takes are cut into."""
    return [key for key in _keys(outbox) if _OF not in key]


def exports_ahead(outbox: Outbox) -> list[tuple[str, str]]:
    """Target and file name of each upload of an export."""
    parts = [key.partition(_OF) for key in _keys(outbox)]
    return [(target, name) for target, _, name in parts if name]


def export_key(target: str, name: str) -> str:
    """The target's name in receipts and locks of the export `name`."""
    return f"{target}{_OF}{name}"


def _keys(outbox: Outbox) -> list[str]:
    return sorted(
        file.name.removeprefix(".").removesuffix(_SUFFIX) for file in outbox.directory.glob(f".*{_SUFFIX}")
    )


_OF: Final = "~"
"""Not in any target's name."""

_SUFFIX: Final = ".ahead"


def file_of_ahead(outbox: Outbox, target: str) -> Path:
    """The file with the receipts of a target."""
    return outbox.directory / f".{target}{_SUFFIX}"
