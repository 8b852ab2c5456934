"""Files of the farm are for its own user alone, whatever the umask it was started with."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_OTHERS: Final = 0o077
"""The permissions of group and others."""


def keep_files_private(directories: Iterable[Path]) -> None:
    """Let this process and its children make files for this user alone, and close `directories` to others.

    Older versions left some of them open. A directory of another user stays as it is.
    """
    os.umask(_OTHERS)
    for directory in directories:
        with suppress(OSError):
            found = directory.lstat()
            if directory.is_dir() and found.st_uid == os.geteuid() and found.st_mode & _OTHERS:
                directory.chmod(found.st_mode & ~_OTHERS & 0o7777)


def open_to_others(directories: Iterable[Path]) -> list[Path]:
    """Those of `directories` that other users of this machine can enter or list."""
    return [each for each in directories if each.is_dir() and each.stat().st_mode & _OTHERS]
