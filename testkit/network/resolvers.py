"""A resolver that answers nobody, for programs that see it in a mount namespace of their own."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ADDRESS = "127.0.0.77"

_OWN_FILES = """\
mount --bind "$1" /etc/resolv.conf && mount --bind "$2" /etc/hosts && shift 2 && exec "$@"
"""


def cannot_have_a_resolver() -> str | None:
    """Why there can be none here; None if there can."""
    if os.geteuid() != 0:
        return "only root can make mount namespaces and listen on port 53"
    if shutil.which("unshare") is None:
        return "unshare (Debian's util-linux) is not installed"
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, timeout=10, check=False)
    return "this machine lets nobody make mount namespaces" if done.returncode else None


@contextmanager
def silent_resolver(directory: Path, hosts: Mapping[str, str]) -> Iterator[list[str]]:
    """Yields the words of a program that becomes another one, for which each name but `hosts` is dead."""
    resolv_conf, hosts_file = directory / "resolv.conf", directory / "hosts"
    resolv_conf.write_text(f"nameserver {ADDRESS}\n")
    hosts_file.write_text("".join(f"{address} {name}\n" for name, address in hosts.items()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # for tests that run beside this one
        resolver.bind((ADDRESS, 53))
        yield ["unshare", "--mount", "sh", "-c", _OWN_FILES, "sh", str(resolv_conf), str(hosts_file)]
