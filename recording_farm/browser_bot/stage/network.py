"""The network of a stage: its gateway for HTTP, and a filter for the UDP packets of WebRTC.

Where the machine allows it, Chromium runs in a network namespace from which nothing leads but the gateway and
the UDP relay (`browser_bot.network.enter_namespace`, `browser_bot.network.udp_relay`). Elsewhere a switch
tells Chromium to send no UDP packets; see `UdpPolicy`.
"""

import asyncio
import logging
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from recording_farm.browser_bot.errors import StageError
from recording_farm.browser_bot.network import enter_namespace
from recording_farm.browser_bot.network.addresses import AddressRule, is_under
from recording_farm.browser_bot.network.gateway import Gateway, open_gateway, serve_gateway
from recording_farm.browser_bot.network.udp_policy import UdpPolicy
from recording_farm.browser_bot.stage.programs import Program, start_program

logger = logging.getLogger(__name__)

CHECK_TIMEOUT: Final = 20.0
MAX_TOLD: Final = 5
"""Lines of the relay's log that the recorder's gets: pages often name their users' private addresses."""

RELAY_MODULE: Final = "recording_farm.browser_bot.network.udp_relay"
SOCKET: Final = "network.sock"

_ENTRANCE: Final = (sys.executable, "-I", "-S", enter_namespace.__file__)

NO_DIRECT_UDP: Final = (
    # Older versions of Chromium know the second name only.
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
)
LOOPBACK_PEERS: Final = "--allow-loopback-in-peer-connection"
"""So that a machine without a network route can record a meeting that runs on the machine itself."""

PROXY: Final = f"http://127.0.0.1:{enter_namespace.PROXY_PORT}"


_checked: list[str | None] = []
"""The result of the check, once there is one; forked processes inherit it."""


def namespace_problem() -> str | None:
    """Return why stages cannot have network namespaces of their own here; None if they can.

    Blocks for some 0.1 s until a check had a result; one that a busy machine did not finish is made again.
    """
    if _checked:
        return _checked[0]
    try:
        done = subprocess.run([*_ENTRANCE, "--check"], capture_output=True, timeout=CHECK_TIMEOUT, env={})
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"ended with {done.returncode}"]
    _checked.append(lines[-1] if done.returncode else None)
    return _checked[0]


def effective_policy(udp: UdpPolicy) -> UdpPolicy:
    """Return the policy that this machine can hold; log a warning if it is another one."""
    problem = namespace_problem() if udp is UdpPolicy.FILTERED else None
    if problem is None:
        return udp
    _warn(problem)
    return UdpPolicy.OFF


@cache
def _warn(problem: str) -> None:
    """Log, once, that UDP is off."""
    logger.warning(
        "WebRTC's UDP is off, so most meetings have no audio and video: this machine cannot filter it (%s); "
        "allow user namespaces, or set FARM_WEBRTC_UDP",
        problem,
    )


class StageNetwork:
    """The network of one stage; see `open_network`.

    `proxy` is the URL of its gateway, `switches` are those that Chromium needs, and `entrance` is the command
    that runs Chromium in this network.
    """

    def __init__(self, gateway: Gateway, proxy: str, switches: Sequence[str]) -> None:
        """Use a gateway that serves already."""
        self.gateway = gateway
        self.proxy = proxy
        self.switches = switches
        self.entrance: Sequence[str] = ()
        self.relay: Program | None = None

    @asynccontextmanager
    async def opened(self, directory: Path) -> AsyncIterator[None]:  # noqa: ARG002
        """Open it for a browser; `directory` is the stage's."""
        yield

    def url_for_recorder(self, url: str) -> str:
        """Return the URL of a page, with what it needs to know of this network."""
        return url

    async def died(self) -> StageError:
        """Wait until a part ends by itself, and return the error."""
        await asyncio.Event().wait()
        raise AssertionError


class IsolatedNetwork(StageNetwork):
    """The network of a stage whose Chromium is in a network namespace."""

    def __init__(
        self,
        rule: AddressRule,
        always_allowed: Collection[str],
        udp: UdpPolicy,
        local_tls: Collection[str] = (),
    ) -> None:
        """Create a network that `opened` opens."""
        switches = NO_DIRECT_UDP if udp is UdpPolicy.OFF else ()
        super().__init__(Gateway(rule, always_allowed, local_tls), PROXY, switches)
        self._rule = rule
        self._always_allowed = tuple(always_allowed)
        self._udp = udp
        # In a page's own hands it would tell the machine's address, so nobody can guess it.
        host = IPv4Address(int(IPv4Address("198.19.0.0")) + 1 + secrets.randbelow((1 << 16) - 2))
        self.stun = f"{host}:{1024 + secrets.randbelow(60_000)}"
        self.ready = asyncio.Event()

    @asynccontextmanager
    async def opened(self, directory: Path) -> AsyncIterator[None]:
        """See `StageNetwork`. The browser waits at the entrance until gateway and relay have its sockets."""
        path = directory / SOCKET
        async with AsyncExitStack() as parts:
            door = parts.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            door.setblocking(False)
            door.bind(str(path))
            door.listen(1)
            admitting = asyncio.ensure_future(self._admit(door, directory, parts))
            admitting.add_done_callback(_log_failure)
            self.entrance = [*_ENTRANCE, str(path)]
            try:
                yield
            finally:
                admitting.cancel()
                await asyncio.gather(admitting, return_exceptions=True)
                if self.relay is not None and (refused := self.relay.log_tail(MAX_TOLD)):
                    logger.info("WebRTC: %s (FARM_ALLOW_PRIVATE_ADDRESSES)", refused.replace("\n", "; "))

    async def _admit(self, door: socket.socket, directory: Path, parts: AsyncExitStack) -> None:
        """Take the namespace's sockets, and start gateway and relay on them."""
        loop = asyncio.get_running_loop()
        browser, _ = await loop.sock_accept(door)
        with browser:
            await _readable(browser)
            _, descriptors, _, _ = socket.recv_fds(browser, 1, enter_namespace.MAX_SOCKETS)
            listener, *others = [socket.socket(fileno=descriptor) for descriptor in descriptors]
            parts.callback(listener.close)  # also if the gateway is not reached
            try:
                await parts.enter_async_context(serve_gateway(self.gateway, listener))
                self.relay = await self._start_relay(others, directory)
                parts.push_async_callback(self.relay.stop)
            finally:
                for each in others:
                    each.close()
            await loop.sock_sendall(browser, enter_namespace.ACCEPTED)
        self.ready.set()

    async def _start_relay(self, sockets: Sequence[socket.socket], directory: Path) -> Program:
        """Start the UDP relay on the raw and DNS sockets of the namespace."""
        descriptors = [each.fileno() for each in sockets]
        words = [self._udp, str(self._rule), self.stun, *map(str, descriptors)]
        return await start_program(
            "UDP relay",
            [sys.executable, "-P", "-m", RELAY_MODULE, *words],
            log=directory / "udp-relay.log",
            # By its name, the cleanup of orphaned stages finds the program.
            env={"HOME": str(directory)},
            pass_fds=descriptors,
        )

    def url_for_recorder(self, url: str) -> str:
        """See `StageNetwork`: the built-in meeting learns where its participants reach this stage."""
        if self._udp is UdpPolicy.OFF or not is_under(url, self._always_allowed):
            return url
        return f"{url}{'&' if '#' in url else '#'}stun={self.stun}"

    async def died(self) -> StageError:
        """See `StageNetwork`."""
        await self.ready.wait()
        assert self.relay is not None
        return await self.relay.died()


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        # The browser ends when its connection is closed, and its StageError follows.
        logger.error("the network of a stage did not open: %s", task.exception())


async def _readable(source: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(source, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(source)


@asynccontextmanager
async def open_network(
    rule: AddressRule,
    always_allowed: Collection[str] = (),
    udp: UdpPolicy = UdpPolicy.FILTERED,
    local_tls: Collection[str] = (),
) -> AsyncIterator[StageNetwork]:
    """Open the network of one stage, whose pages may reach what `rule` allows.

    Besides, they may open http URLs that start with one of `always_allowed` (origin and path); those below
    `local_tls` by TLS, see `browser_bot.network.gateway`. Raises OSError if the gateway does not start.
    """
    if udp is not UdpPolicy.OPEN and await asyncio.to_thread(namespace_problem) is None:
        yield IsolatedNetwork(rule, always_allowed, udp, local_tls)
        return
    udp = effective_policy(udp)
    switches = NO_DIRECT_UDP if udp is UdpPolicy.OFF else (LOOPBACK_PEERS,)
    async with open_gateway(rule, always_allowed, local_tls) as (gateway, proxy):
        yield StageNetwork(gateway, proxy, switches)
