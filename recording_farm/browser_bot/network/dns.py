"""DNS look-ups with time-outs: addresses of names, resolved in threads of their own and cached.

The system's resolver has no time-out that could be set for one call: a name whose server does not answer
keeps a thread for 10 to 30 s. In asyncio's own pool of threads that would hold up files, Redis and the end
of the process. So each lookup has a daemon thread, and the number of these is bounded: for a process, for
whoever asks (a page), and for names of one domain, so that many dead names leave room for the others.

What was found is remembered for as long as Chromium remembers it without a proxy. What was not found is
remembered for a moment, and a name that is still being looked up after its time counts as not found.
"""

import asyncio
import math
import os
import socket
import threading
import time
from collections import Counter, OrderedDict, deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from recording_farm.browser_bot.network.host_names import IpAddress

RESOLVE_SECONDS: Final = 5.0
"""How long one name may take; the system's resolver asks a second time after 5 s."""

FOUND_SECONDS: Final = 60.0
"""How long addresses are remembered, as in Chromium (`net/dns/host_resolver_manager.cc`)."""

NOT_FOUND_SECONDS: Final = 2.0
"""How long a name is remembered that was not found."""

_STALE_SECONDS: Final = 600.0
"""How long addresses are still good for a name that is not found in time any more."""

_STALE_PATIENCE: Final = 0.5
"""How long a lookup may take in seconds if there are such addresses."""

_THREADS: Final = {"all": 128, "asker": 64, "domain": 16}
"""How many names are looked up at the same time: in all, for one who asks, and in one domain."""

_WAITING: Final = 1000
"""How many names may wait for that; beyond these none is found."""

_REMEMBERED: Final = 1000
"""How many names are remembered."""

_NO_SUCH_NAME: Final = {socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_FAMILY}


@dataclass
class _Lookup:
    """One name that is looked up, or waits for it."""

    host: str
    keys: tuple[tuple[str, object], ...]
    began: float
    found: "Future[tuple[IpAddress, ...]]" = field(default_factory=Future)
    waiting: int = 0


@dataclass
class _Known:
    """What was found of a name and when, when it was asked for last, and whether there is such a name."""

    addresses: tuple[IpAddress, ...] = ()
    found: float = -math.inf
    asked: float = -math.inf
    exists: bool = True

    def addresses_at(self, present: float) -> tuple[IpAddress, ...]:
        """The addresses if they are still good."""
        return self.addresses if present - self.found < _STALE_SECONDS else ()


class Resolver:
    """Looks up names in threads of its own. Safe to use from several threads and event loops."""

    def __init__(self) -> None:
        """Begin without any thread."""
        self.forget()

    def forget(self) -> None:
        """Begin anew; a forked process has none of the threads."""
        self._lock = threading.Lock()
        self._lookups: dict[str, _Lookup] = {}
        self._queue: deque[_Lookup] = deque()
        self._running: Counter[tuple[str, object]] = Counter()
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def resolve(
        self, host: str, seconds: float = RESOLVE_SECONDS, asker: object = None
    ) -> tuple[IpAddress, ...]:
        """All addresses of a name; none when it has none, or none were found within `seconds`.

        `asker` is who asks: all lookups of one have a bound of their own.
        """
        found, lookup, patience = self._ask(host, seconds, asker)
        if lookup is None:
            return found
        try:
            async with asyncio.timeout(patience):
                return await asyncio.shield(asyncio.wrap_future(lookup.found))
        except TimeoutError:
            return found
        finally:
            self._leave(lookup)

    def resolve_here(self, host: str, seconds: float = RESOLVE_SECONDS) -> tuple[IpAddress, ...]:
        """The same for a thread that may wait."""
        found, lookup, patience = self._ask(host, seconds, None)
        if lookup is None:
            return found
        try:
            return lookup.found.result(patience)
        except TimeoutError:
            return found
        finally:
            self._leave(lookup)

    def _ask(
        self, host: str, seconds: float, asker: object
    ) -> tuple[tuple[IpAddress, ...], _Lookup | None, float]:
        """What is known of a name; if that is not enough, its lookup, and for how many seconds to wait."""
        present = time.monotonic()
        with self._lock:
            known = self._known.get(host, _Known())
            found = known.addresses_at(present)
            if present - known.found < FOUND_SECONDS or present - known.asked < NOT_FOUND_SECONDS:
                return found, None, 0.0
            lookup = self._begin(host, asker)
        patience = min(seconds, _STALE_PATIENCE) if found else seconds
        return found, lookup, max(0.0, lookup.began + patience - present) if lookup else 0.0

    def _leave(self, lookup: _Lookup) -> None:
        with self._lock:
            lookup.waiting -= 1

    def why_unresolved(self, host: str) -> str:
        """Why `resolve` has just found no address of a name, in words for the client."""
        with self._lock:
            exists = self._known.get(host, _Known()).exists
        if exists:
            return f"no name server answers for the host name {host}"
        return f"the host name {host} does not resolve"

    def _begin(self, host: str, asker: object) -> _Lookup | None:
        """The lookup of a name, which may run already; None when too many wait. The lock is held."""
        lookup = self._lookups.get(host)
        if lookup is None:
            if len(self._queue) >= _WAITING:
                return None
            domain = ".".join(host.rsplit(".", 2)[-2:])
            keys = (("all", None), ("asker", asker), ("domain", domain))
            lookup = self._lookups[host] = _Lookup(host, keys, time.monotonic())
            self._queue.append(lookup)
        lookup.waiting += 1
        self._start()
        return lookup

    def _start(self) -> None:
        """Start the lookups for which there is room. The lock is held."""
        left: deque[_Lookup] = deque()
        while self._queue:
            lookup = self._queue.popleft()
            if not lookup.waiting:
                del self._lookups[lookup.host]
            elif any(self._running[key] >= _THREADS[key[0]] for key in lookup.keys):
                left.append(lookup)
            else:
                self._running.update(lookup.keys)
                threading.Thread(target=self._look_up, args=(lookup,), name="resolver", daemon=True).start()
        self._queue = left

    def _look_up(self, lookup: _Lookup) -> None:
        """Look a name up, which may take half a minute."""
        addresses = _addresses_of(lookup.host)
        present = time.monotonic()
        with self._lock:
            known = self._known.pop(lookup.host, _Known())
            if addresses is None:
                known.asked = present
            else:
                known = _Known(addresses, present if addresses else -math.inf, present, bool(addresses))
            self._known[lookup.host] = known
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
            del self._lookups[lookup.host]
            for key in lookup.keys:
                self._running[key] -= 1
                if not self._running[key]:
                    del self._running[key]
            self._start()
        lookup.found.set_result(known.addresses_at(present))


def _addresses_of(host: str) -> tuple[IpAddress, ...] | None:
    """The addresses of a name, none if it has none; None when the resolver has no answer."""
    try:
        # As bytes: a text would go through Python's codec for names, which follows another standard.
        found = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return () if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME else None
    return tuple(dict.fromkeys(ip_address(address[0]) for *_, address in found))


RESOLVER: Final = Resolver()
"""The resolver of this process."""

resolve = RESOLVER.resolve
resolve_here = RESOLVER.resolve_here
why_unresolved = RESOLVER.why_unresolved

os.register_at_fork(after_in_child=RESOLVER.forget)
