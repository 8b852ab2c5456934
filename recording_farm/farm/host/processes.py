"""Process control: die with the parent, stop on a signal, set the process title."""

import ctypes
import os
import signal
import threading
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15


def die_with_parent(sign: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send `sign` to this process when its parent ends, for whatever reason (prctl(2)).

    Call it first after a fork, from the main thread of both.
    """
    parent = os.getppid()
    _prctl(PR_SET_PDEATHSIG, int(sign))
    if os.getppid() != parent or parent == 1:
        # The parent died before the kernel was told, so it will send nothing.
        os.kill(os.getpid(), sign)


def stop_event(within: int = 0) -> threading.Event:
    """An event that SIGTERM and SIGINT set; they do nothing else from now on.

    `within`: the kernel kills this process so many seconds after the signal; 0 is never.
    """
    stopping = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        if within and not stopping.is_set():
            signal.alarm(within)
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping


def set_process_title(name: str) -> None:
    """Have `ps` and `top` show this process as `name`; they show its first 15 bytes (prctl(2))."""
    _prctl(PR_SET_NAME, name.encode())


def _prctl(option: int, value: int | bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
