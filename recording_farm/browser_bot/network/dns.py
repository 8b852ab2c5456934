"""DNS lookups with time-outs, in threads of their own, with a cache.

The system's resolver has no time-out per call: a name whose server does not answer blocks a thread for 10 to
30 s. In asyncio's default executor this would delay file and Redis access and the end of the process. So each
lookup has a daemon thread. Requesters (a page, an organization) share the threads: each may use at most half
as many as are free, so there is always one for the next requester, and few of them for one domain. A lookup
is shared by the callers of one requester only, because it may have to wait for that requester's share.

Addresses are cached as long as in Chromium without a proxy. Failures are cached for a moment. A lookup that
exceeds its time-out counts as not found.
"""

import asyncio
import math
import os
import socket
import threading
import time
from collections import Counter, OrderedDict, deque
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Final

from recording_farm.browser_bot.network.host_names import IpAddress

RESOLVE_SECONDS: Final = 5.0
"""Time-out of a lookup; the system's resolver retries after 5 s."""

FOUND_SECONDS: Final = 60.0
"""TTL of cached addresses, as in Chromium (`net/dns/host_resolver_manager.cc`)."""

NOT_FOUND_SECONDS: Final = 2.0
"""TTL of failed lookups."""

_STALE_SECONDS: Final = 600.0
"""How long stale addresses are used if a new lookup does not finish in time."""

_STALE_TIMEOUT: Final = 0.5
"""Time-out of a lookup (s) if there are stale addresses."""

_THREADS: Final = 192
"""Maximum concurrent lookups. A requester alone gets a third of them."""

_DOMAIN_THREADS: Final = 16
"""Maximum concurrent lookups of a requester in one domain."""

_MAX_QUEUED: Final = 1000
"""Maximum queued lookups of a requester; further ones fail at once."""

_MAX_CACHED: Final = 1000
"""Maximum cached names."""

_NO_SUCH_NAME: Final = {socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_FAMILY}


@dataclass(frozen=True)
class DnsAnswer:
    """The addresses of a name.

    Without addresses, `is_final` is whether a name server said that there are none; otherwise the lookup
    took too long or failed, and there may be some.
    """

    addresses: tuple[IpAddress, ...] = ()
    is_final: bool = False


@dataclass
class _Lookup:
    """A running or queued lookup of a name, and how many callers wait for it."""

    host: str
    requester: object
    began: float
    found: "Future[DnsAnswer]" = field(default_factory=Future)
    waiting: int = 0

    @property
    def domain(self) -> tuple[object, str]:
        """What the lookups in one domain have in common."""
        return self.requester, ".".join(self.host.rsplit(".", 2)[-2:])


@dataclass
class _CacheEntry:
    """The addresses of a name, when they were found and last looked up, whether the name exists, and whether
    the last lookup failed."""

    addresses: tuple[IpAddress, ...] = ()
    found: float = -math.inf
    asked: float = -math.inf
    exists: bool = True
    failed: bool = False

    def addresses_at(self, present: float) -> tuple[IpAddress, ...]:
        """Return the addresses, unless they are too old even as stale ones."""
        return self.addresses if present - self.found < _STALE_SECONDS else ()


class Resolver:
    """Looks up names in threads of its own. Safe to use from several threads and event loops."""

    def __init__(self) -> None:
        """Create a resolver without threads."""
        self.reset()

    def reset(self) -> None:
        """Drop the state, for a forked process, which has none of the threads."""
        self._lock = threading.Lock()
        self._lookups: dict[tuple[str, object], _Lookup] = {}
        self._queue: deque[_Lookup] = deque()
        self._running: Counter[object] = Counter()
        self._running_in_domain: Counter[tuple[object, str]] = Counter()
        self._cache: OrderedDict[str, _CacheEntry] = OrderedDict()

    async def resolve(
        self, host: str, seconds: float = RESOLVE_SECONDS, requester: object = None
    ) -> tuple[IpAddress, ...]:
        """Return all addresses of a name; none if it has none or the lookup takes longer than `seconds`.

        The concurrent lookups of each `requester` are limited.
        """
        return (await self.look_up(host, seconds, requester)).addresses

    async def look_up(self, host: str, seconds: float, requester: object) -> DnsAnswer:
        """Like `resolve`; the answer tells whether a name without addresses may have some."""
        found, lookup, timeout = self._request(host, seconds, requester)
        if lookup is None:
            return found
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(asyncio.wrap_future(lookup.found))
        except TimeoutError:
            return found
        finally:
            self._leave(lookup)

    def resolve_here(self, host: str, seconds: float = RESOLVE_SECONDS) -> tuple[IpAddress, ...]:
        """Like `resolve`, but blocks the calling thread."""
        found, lookup, timeout = self._request(host, seconds, None)
        if lookup is None:
            return found.addresses
        try:
            return lookup.found.result(timeout).addresses
        except TimeoutError:
            return found.addresses
        finally:
            self._leave(lookup)

    def _request(
        self, host: str, seconds: float, requester: object
    ) -> tuple[DnsAnswer, _Lookup | None, float]:
        """Return the cached answer; unless it is fresh, also the lookup and its remaining time-out (s)."""
        present = time.monotonic()
        with self._lock:
            known = self._cache.get(host, _CacheEntry())
            found = DnsAnswer(known.addresses_at(present))
            if present - known.found < FOUND_SECONDS or present - known.asked < NOT_FOUND_SECONDS:
                return replace(found, is_final=not known.failed), None, 0.0
            lookup = self._begin(host, requester)
        timeout = min(seconds, _STALE_TIMEOUT) if found.addresses else seconds
        return found, lookup, max(0.0, lookup.began + timeout - present) if lookup else 0.0

    def _leave(self, lookup: _Lookup) -> None:
        with self._lock:
            lookup.waiting -= 1

    def unresolved_message(self, host: str) -> str:
        """Return the error message, for clients, after `resolve` returned no address."""
        with self._lock:
            exists = self._cache.get(host, _CacheEntry()).exists
        if exists:
            return f"no name server answers for the host name {host}"
        return f"the host name {host} does not resolve"

    def _begin(self, host: str, requester: object) -> _Lookup | None:
        """Join or queue the lookup of a name; None if the queue is full. The caller holds the lock."""
        lookup = self._lookups.get((host, requester))
        if lookup is None:
            if sum(queued.requester == requester for queued in self._queue) >= _MAX_QUEUED:
                return None
            lookup = self._lookups[host, requester] = _Lookup(host, requester, time.monotonic())
            self._queue.append(lookup)
        lookup.waiting += 1
        self._start()
        return lookup

    def _start(self) -> None:
        """Start queued lookups within the limits. The caller holds the lock."""
        left: deque[_Lookup] = deque()
        while self._queue:
            lookup = self._queue.popleft()
            if not lookup.waiting:
                del self._lookups[lookup.host, lookup.requester]
            elif not self._may_start(lookup):
                left.append(lookup)
            else:
                self._running[lookup.requester] += 1
                self._running_in_domain[lookup.domain] += 1
                threading.Thread(target=self._look_up, args=(lookup,), name="resolver", daemon=True).start()
        self._queue = left

    def _may_start(self, lookup: _Lookup) -> bool:
        free = _THREADS - self._running.total()
        return (
            2 * self._running[lookup.requester] < free
            and self._running_in_domain[lookup.domain] < _DOMAIN_THREADS
        )

    def _look_up(self, lookup: _Lookup) -> None:
        """Look up a name; blocks for up to half a minute."""
        addresses = _getaddrinfo(lookup.host)
        present = time.monotonic()
        with self._lock:
            known = self._cache.pop(lookup.host, _CacheEntry())
            if addresses is None:
                known.asked, known.failed = present, True
            else:
                known = _CacheEntry(addresses, present if addresses else -math.inf, present, bool(addresses))
            self._cache[lookup.host] = known
            if len(self._cache) > _MAX_CACHED:
                self._cache.popitem(last=False)
            del self._lookups[lookup.host, lookup.requester]
            self._running -= Counter([lookup.requester])
            self._running_in_domain -= Counter([lookup.domain])
            self._start()
        lookup.found.set_result(DnsAnswer(known.addresses_at(present), is_final=addresses is not None))


def _getaddrinfo(host: str) -> tuple[IpAddress, ...] | None:
    """Return the addresses of a name, empty if it has none; None if the resolver gets no answer."""
    try:
        # As bytes, because a str would go through Python's `idna` codec, which follows an older standard.
        found = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return () if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME else None
    return tuple(dict.fromkeys(ip_address(address[0]) for *_, address in found))


RESOLVER: Final = Resolver()
"""The resolver of this process."""

resolve = RESOLVER.resolve
look_up = RESOLVER.look_up
resolve_here = RESOLVER.resolve_here
unresolved_message = RESOLVER.unresolved_message

os.register_at_fork(after_in_child=RESOLVER.reset)
