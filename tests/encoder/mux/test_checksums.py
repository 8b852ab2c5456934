"""Checksums of bytes that come in pieces, in one process and in several."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from hashlib import sha256
from pathlib import Path

import google_crc32c
import pytest

from recording_farm.encoder.mux import checksums
from recording_farm.encoder.mux.checksums import BodyChecksums, GrowingChecksums, SavedChecksums

CONTENT = bytes(range(256)) * 40
PIECE = 300


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "BLOCK_BYTES", 1000)


Opener = Callable[..., GrowingChecksums]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Opens the same checksums, one process after the other."""
    with ExitStack() as stack:

        def continued(saved: SavedChecksums | None = None) -> GrowingChecksums:
            return stack.enter_context(closing(GrowingChecksums(tmp_path / "checksums", saved)))

        yield continued


def fed(growing: GrowingChecksums, begin: int, end: int) -> None:
    for at in range(begin, end, PIECE):
        growing.update(CONTENT[at : min(at + PIECE, end)])


def check(result: BodyChecksums) -> None:
    assert result.crc32c == google_crc32c.value(CONTENT)
    position = 0
    for block in result.blocks:
        assert sha256(CONTENT[position : position + block.size]).hexdigest() == block.sha256
        position += block.size
    assert position == len(CONTENT)


def test_blocks_should_be_full_and_cover_the_body(opened: Opener) -> None:
    growing = opened()
    fed(growing, 0, len(CONTENT))
    result = growing.result()
    check(result)
    assert {block.size for block in result.blocks[:-1]} == {1200}


@pytest.mark.parametrize("stop", [0, 300, 1200, 4500])
def test_another_process_should_continue_without_what_was_not_saved(opened: Opener, stop: int) -> None:
    before = opened()
    fed(before, 0, stop)
    saved = before.saved
    # It dies later than it has saved.
    fed(before, stop, stop + 6000)
    after = opened(saved)
    fed(after, stop, len(CONTENT))
    check(after.result())


def test_another_process_should_not_need_the_body(opened: Opener) -> None:
    before = opened()
    fed(before, 0, 1500)
    blocks = [1200, 300]
    for _ in range(2):
        # A second stop right behind the first must not make an empty block.
        before = opened(before.saved)
    assert [block.size for block in before.result().blocks] == blocks


def test_a_file_that_is_shorter_than_saved_should_not_be_continued(opened: Opener, tmp_path: Path) -> None:
    before = opened()
    fed(before, 0, 3000)
    (tmp_path / "checksums").write_bytes(b"")
    with pytest.raises(OSError, match="shorter"):
        opened(before.saved)
