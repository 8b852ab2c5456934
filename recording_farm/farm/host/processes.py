"""What ties a forked process to its parent, and what it is called."""

import ctypes
import os
import signal
import threading
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15


def die_with_parent(sign: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send `sign` to this process when its parent ends, however that ends (prctl(2)).

    Call it first thing after a fork, from the main thread of both.
    """
    parent = os.getppid()
    _prctl(PR_SET_PDEATHSIG, int(sign))
    if os.getppid() != parent or parent == 1:
        # The parent died before the kernel knew; it will not tell any more.
        os.kill(os.getpid(), sign)


def told_to_stop(within: int = 0) -> threading.Event:
    """An event that is set by SIGTERM or SIGINT, which do nothing else from now on.

    The kernel ends this process `within` so many seconds from then; 0 is never.
    """
    stopping = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        if within and not stopping.is_set():
            signal.alarm(within)
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping


def call_this_process(name: str) -> None:
    """Have `ps` and `top` show this process as `name`, of which they see 15 bytes (prctl(2))."""
    _prctl(PR_SET_NAME, name.encode())


def _prctl(option: int, value: int | bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
