"""What ties a forked process to its parent."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1


def die_with_parent(sign: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send `sign` to this process when its parent ends, however that ends (prctl(2)).

    Call it first thing after a fork, from the main thread of both.
    """
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(sign), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent or parent == 1:
        # The parent died before the kernel knew; it will not tell any more.
        os.kill(os.getpid(), sign)
