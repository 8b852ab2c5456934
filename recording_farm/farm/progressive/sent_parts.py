"""What of a file was sent to a place before it was finished: a JSON file in the outbox for each target."""

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
"""What is held back of the beginning of the body: with the head it is the first part, which no storage wants
smaller than 5 MiB (S3, Google)."""

LEAST_PART_BYTES: Final = 8 << 20

HEAD_ROOM: Final = 1 << 20
"""The room for the head in the first part where all parts have one size: the index of half an hour. A longer
head is padded to as many parts more as it needs."""

_HEAD_NUMBERS: Final = 64
"""So many numbers are kept free for them."""

_USED_NUMBERS: Final = 9_000
"""How many parts the longest recording has at most; S3 takes 10 000."""

_MEBIBYTE: Final = 1 << 20

_SKIPPED_NUMBERS: Final = 16
"""A node stops to send some seconds before another one takes its recording over, see `Ownership`: what it
sent in the last of them, and what is still on its way, is less than so many parts."""


@dataclass(frozen=True)
class Ahead:
    """An upload in parts: as it was begun, its size of parts, and the parts, in the order of the body.

    The first part has the number 1; the others have the numbers from 2 on, and their offsets count from the
    end of what is held back. Where all parts have one size, the head with what is held back is padded to
    whole parts, which have the first `head_numbers`.
    """

    begun: dict[str, Any]
    part_bytes: int
    identity: str
    """The body that the parts are of, see `GrowingCut.identity`."""
    parts: tuple[SentPart, ...] = field(default=())
    skipped: int = 0
    """Numbers that nodes before may have used for parts that are not among these; see `taken_over`."""
    held_back: int = FIRST_BYTES
    """Bytes of the body that are in the first part, behind the head."""
    head_numbers: int = 1
    """More than one if all parts but the last have the same size."""
    refusals: int = 0
    """How often the storage refused to finish the upload."""

    @property
    def next_part(self) -> Part:
        """The part that is sent next, once there is so much of the body."""
        number = len(self.parts) + self.skipped + self.head_numbers + 1
        return Part(number, len(self.parts) * self.part_bytes, self.part_bytes)

    def taken_over(self, begun: dict[str, Any] | None = None) -> "Ahead":
        """The upload as another node continues it, begun so if the storage needs another state for that.

        The node before may still send some parts that nobody has noted.
        """
        return replace(self, begun=begun or self.begun, skipped=self.skipped + _SKIPPED_NUMBERS)

    @property
    def body_bytes(self) -> int:
        """How much of the body has arrived behind what is held back."""
        return sum(each.part.size for each in self.parts)

    @property
    def end(self) -> int:
        """Where in the body the parts end."""
        return self.held_back + self.body_bytes if self.parts else 0

    @property
    def padding(self) -> Padding:
        """How a head must be padded for this upload."""
        return NO_PADDING if self.head_numbers == 1 else Padding(self.part_bytes, self.held_back)

    def head_parts(self, head_bytes: int) -> list[Part] | None:
        """The parts of a head and what is held back; None if a head of this size does not fit."""
        size = head_bytes + self.held_back
        if self.head_numbers == 1:
            return [Part(1, 0, size)]
        parts = parts_of(size, self.part_bytes, size)
        fits = size % self.part_bytes == 0 and len(parts) <= self.head_numbers
        return parts if fits else None


def not_begun(part_bytes: int, identity: str, rules: PartRules) -> Ahead:
    """An upload that is not begun yet, to a storage with these rules."""
    if rules.same_size:
        held_back = part_bytes - HEAD_ROOM
        return Ahead({}, part_bytes, identity, held_back=held_back, head_numbers=_HEAD_NUMBERS)
    return Ahead({}, part_bytes, identity)


def part_bytes_of(recording: Recording, max_bitrate: int, rules: PartRules) -> int:
    """The size of parts with which the longest recording has not too many; in whole MiB."""
    longest = max_bitrate * recording.max_seconds // 8
    most = min(_USED_NUMBERS, rules.most - 2)
    needed = -(-longest // most // _MEBIBYTE) * _MEBIBYTE
    return max(LEAST_PART_BYTES, rules.smallest, needed)


def read_ahead(outbox: Outbox, target: str) -> Ahead | None:
    """What was sent to a target; None if nothing was, or it cannot be understood."""
    try:
        return parsed_ahead(file_of_ahead(outbox, target).read_bytes())
    except OSError:
        return None


def parsed_ahead(content: bytes) -> Ahead | None:
    """What was sent to a target, as `save_ahead` has written it; None if it cannot be understood."""
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
    """A value that changes with each part that is sent to a target; None if nothing was sent."""
    try:
        found = file_of_ahead(outbox, target).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def save_ahead(outbox: Outbox, target: str, ahead: Ahead) -> None:
    """Save it. A power cut may take it: then the file is sent as a whole. Raises OSError."""
    write_file(file_of_ahead(outbox, target), json.dumps(asdict(ahead)), durable=False)


def forget_ahead(outbox: Outbox, target: str) -> None:
    """Delete it."""
    file_of_ahead(outbox, target).unlink(missing_ok=True)


def targets_ahead(outbox: Outbox) -> list[str]:
    """The targets to which something was sent of the file that the takes are cut into."""
    return [key for key in _keys(outbox) if _OF not in key]


def exports_ahead(outbox: Outbox) -> list[tuple[str, str]]:
    """The targets to which something was sent of a file that is made of the cut, and its name."""
    parts = [key.partition(_OF) for key in _keys(outbox)]
    return [(target, name) for target, _, name in parts if name]


def export_key(target: str, name: str) -> str:
    """Stands for the target in receipts and locks of a file `name` that is made of the cut."""
    return f"{target}{_OF}{name}"


def _keys(outbox: Outbox) -> list[str]:
    return sorted(
        file.name.removeprefix(".").removesuffix(_SUFFIX) for file in outbox.directory.glob(f".*{_SUFFIX}")
    )


_OF: Final = "~"
"""Is in no name of a target."""

_SUFFIX: Final = ".ahead"


def file_of_ahead(outbox: Outbox, target: str) -> Path:
    """The file of what was sent to a target."""
    return outbox.directory / f".{target}{_SUFFIX}"
