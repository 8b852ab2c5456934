"""A body that grows while parts of it are sent, and the sender's receipts."""

import time
from pathlib import Path
from random import randbytes

from recording_farm.farm.progressive.sending import Sender
from recording_farm.farm.progressive.sent_parts import FIRST_BYTES, LEAST_PART_BYTES, read_ahead
from recording_farm.farm.spool.outbox import Outbox

BODY = FIRST_BYTES + 2 * LEAST_PART_BYTES + (3 << 20) + 17
HEAD = 12_345
IDENTITY = "a body"


class Growing:
    """A body that has so many bytes."""

    def __init__(self, size: int = 0) -> None:
        self.content = randbytes(BODY)
        self.size = size

    def read(self, offset: int, size: int) -> bytes | None:
        return self.content[offset : offset + size] if offset + size <= self.size else None

    def finish(self, outbox: Outbox, name: str = "out.mp4") -> Path:
        file = outbox.directory / name
        file.write_bytes(randbytes(HEAD) + self.content)
        return file


def wait_for_parts(outbox: Outbox, count: int, identity: str = IDENTITY, target: str = "s3") -> None:
    """Wait until so many parts of a body were sent to a target."""
    deadline = time.monotonic() + 60
    while True:
        ahead = read_ahead(outbox, target)
        if ahead is not None and ahead.identity == identity and len(ahead.parts) >= count:
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stop(sender: Sender) -> None:
    sender.stop()
    sender.join(60)
    assert not sender.is_alive()
