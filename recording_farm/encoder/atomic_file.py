"""Files that are written whole or not at all: a reader finds the old content or the new one, never a part."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex


def write_file(
    target: Path, content: str | bytes, *, mode: int = 0o666, replace: bool = True, durable: bool = True
) -> None:
    """Write a file whole or not at all. An error, an OSError, leaves `target` as it was.

    `mode` is subject to the umask. Without `replace`, a file that is there already stays. Not `durable`, the
    call does not wait for the disk, and a power cut may lose or spoil the file. Several processes may write
    `target` at once: one of them wins.
    """
    draft = draft_of(target)
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(descriptor)
        if replace:
            draft.replace(target)
        else:
            with suppress(FileExistsError):
                target.hardlink_to(draft)
        if durable:
            _sync_entry(target)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Give a path to write a new file to, which becomes `target` when the block ends well.

    By then it is on the disk. An error in the block or an OSError here leaves `target` as it was. Drafts of
    `target` that killed processes left are deleted: only one process at a time may write it.
    """
    delete_drafts(target)
    draft = draft_of(target)
    try:
        yield draft
        put_in_place(draft, target)
    finally:
        # It is still there after a failure, and also if both names were the same file's already.
        draft.unlink(missing_ok=True)


def put_in_place(draft: Path, target: Path) -> None:
    """Rename a draft to `target`; both its content and its name are on the disk when this returns."""
    sync(draft)
    draft.replace(target)
    _sync_entry(target)


def delete_drafts(target: Path) -> None:
    """Delete drafts that killed processes left beside `target`."""
    for draft in target.parent.glob(f".{_tag(target)}-*.part"):
        draft.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_entry(file: Path) -> None:
    try:
        sync(file.parent)
    except OSError as error:
        # Some network file systems cannot sync a directory; the file itself is written.
        if error.errno != errno.EINVAL:
            raise


def draft_of(target: Path, label: str = "") -> Path:
    """A path beside `target` that `delete_drafts` finds; without a label, a new one."""
    return target.with_name(f".{_tag(target)}-{label or token_hex(8)}.part")


def _tag(target: Path) -> str:
    # Of one length, so that a draft's name is not too long where the target's is not.
    return hashlib.sha256(target.name.encode()).hexdigest()[:16]
