"""Ports for servers that are told theirs before they start."""

import random
import socket
import time
from pathlib import Path

_FIRST = 11_000  # browsers open no page at 10080
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port of the loopback at which nobody listens.

    It is none of those that the kernel hands out by itself (ip(7)): until the server has it, one of the many
    clients and servers of other tests could get just that.
    """
    end = int(_EPHEMERAL.read_text().split()[0])
    while True:
        port = random.randrange(_FIRST, end)
        with socket.socket() as taken:
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_for_port(port: int, seconds: float = 20) -> None:
    """Wait until somebody listens at a port of the loopback."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens at {port}"
            time.sleep(0.05)
