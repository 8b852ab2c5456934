"""Networks of stages without a browser: a Python script is in the namespace, and listeners are outside."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from recording_farm.browser_bot.network.addresses import parse_address_rule
from recording_farm.browser_bot.network.udp_policy import UdpPolicy
from recording_farm.browser_bot.stage.network import StageNetwork, open_network


class Listener:
    """A UDP and a TCP socket with the same port at an address, which note all that arrives."""

    def __init__(self, address: str) -> None:
        self.address = address
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.udp = socket.socket(family, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.udp.bind((address, 0))
        self.port = self.udp.getsockname()[1]
        self.tcp = socket.socket(family, socket.SOCK_STREAM)
        self.tcp.bind((address, self.port))
        self.tcp.listen()
        for each in (self.udp, self.tcp):
            each.setblocking(False)

    @property
    def host(self) -> str:
        return f"[{self.address}]" if ":" in self.address else self.address

    def heard(self) -> int:
        """How many packets and connections arrived since the last call."""
        count = 0
        for take in (lambda: self.udp.recv(2000), lambda: self.tcp.accept()[0].close()):
            try:
                while True:
                    take()
                    count += 1
            except BlockingIOError:
                pass
        return count

    async def hears(self, seconds: float = 15) -> bool:
        """Whether a packet arrives within some seconds."""
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.udp, 2000), seconds)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()


@contextmanager
def listening(*addresses: str) -> Iterator[list[Listener]]:
    """Listeners at some of this machine's addresses."""
    listeners = [Listener(address) for address in addresses]
    try:
        yield listeners
    finally:
        for each in listeners:
            each.close()


@asynccontextmanager
async def network_without_browser(
    directory: Path, rule: str = "", udp: UdpPolicy = UdpPolicy.FILTERED
) -> AsyncIterator[StageNetwork]:
    """A stage's network; `run_inside` starts what is in it."""
    async with open_network(parse_address_rule(rule), (), udp) as network, network.opened(directory):
        yield network


async def run_inside(network: StageNetwork, script: str, *words: str) -> str:
    """Run a Python script in a stage's network, the only one; return what it printed."""
    async with running_inside(network, script, *words) as process:
        output, errors = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0, errors.decode()
        return output.decode()


@asynccontextmanager
async def running_inside(
    network: StageNetwork, script: str, *words: str, before: Sequence[str] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python script in a stage's network, which is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *before,
        *network.entrance,
        *(sys.executable, "-I", "-c", script, *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def machine_addresses() -> list[str]:
    """This machine's addresses besides those of its loopback interface; none if it has no network."""
    found = []
    for family, public in ((socket.AF_INET, "198.51.100.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((public, 9))
            except OSError:
                continue
            found.append(probe.getsockname()[0])
    return found


def namespace_of(pid: int) -> str:
    """The network namespace of a process."""
    return os.readlink(f"/proc/{pid}/ns/net")
