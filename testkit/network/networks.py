"""Machines of a network of the tests' own: network namespaces, joined by a bridge to this one."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

HUB = "10.203.77.1"
"""Where this machine is in it."""

_OWN_DISPLAYS: Final = (
    'mkdir -p -m 1777 /tmp/.X11-unix && mount -t tmpfs -o mode=1777 none /tmp/.X11-unix && exec "$@"'
)
"""Xorg finds a free number by its abstract sockets, of which each network namespace has its own; its files in
this directory must then not be those of other machines either."""


@dataclass(frozen=True)
class Host:
    """A machine of the network: its name and address, and the name of its network namespace."""

    name: str
    address: str
    namespace: str

    @property
    def words(self) -> list[str]:
        """The words of a program that becomes another one on it."""
        return ["ip", "netns", "exec", self.namespace, "sh", "-c", _OWN_DISPLAYS, "sh"]

    def cut_off(self) -> None:
        """Take its link away."""
        _ip("-n", self.namespace, "link", "set", "eth0", "down")

    def join(self) -> None:
        """Give it its link back."""
        _ip("-n", self.namespace, "link", "set", "eth0", "up")


def cannot_make_networks() -> str | None:
    """Why no such network can be made here; None if it can."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if shutil.which("ip") is None:
        return "ip (Debian's iproute2) is not installed"
    probe = f"farm-probe-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, timeout=10, check=False)
    if done.returncode:
        return "this machine lets nobody make network namespaces"
    _ip("netns", "del", probe)
    return None


@contextmanager
def network(*names: str) -> Iterator[list[Host]]:
    """Make a network of machines with these names, until the block ends."""
    bridge = f"farm{os.getpid() % 100_000}"
    with ExitStack() as parts:
        _ip("link", "add", bridge, "type", "bridge")
        parts.callback(_ip, "link", "del", bridge)
        _ip("addr", "add", f"{HUB}/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        hosts = []
        for number, name in enumerate(names, 2):
            host = Host(name, f"{HUB.rpartition('.')[0]}.{number}", f"{bridge}-{name}")
            _ip("netns", "add", host.namespace)
            parts.callback(_ip, "netns", "del", host.namespace)
            _ip(
                "link",
                "add",
                f"{bridge}v{number}",
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                host.namespace,
            )
            _ip("link", "set", f"{bridge}v{number}", "master", bridge, "up")
            _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.namespace, "link", "set", "lo", "up")
            host.join()
            hosts.append(host)
        yield hosts


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
