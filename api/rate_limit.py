"""How often a key may ask and an address may be wrong, counted in Redis for all API processes together.

A window begins with the first request and lasts a minute.
"""

import math
import time
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

import redis
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter

from farm.errors import RateLimited
from farm.keys import ApiKey
from farm.settings import Settings

_KEY_PREFIX: Final = "farm:limits"
_IPV6_NETWORK: Final = 64
"""Bits; whoever has one address of such a network has them all."""


class RateLimits:
    """The limits of the settings. Every method raises redis.RedisError when Redis cannot be reached."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        """`client` is used by several threads at once."""
        storage = RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix=_KEY_PREFIX)
        self._limiter = FixedWindowRateLimiter(storage)
        self._requests = _a_minute(settings.rate_limit, "requests")
        self._failures = _a_minute(settings.failure_limit, "failures")

    def count_request(self, key: ApiKey) -> None:
        """Count a request made with a key. Raises RateLimited when it is one too many."""
        limit = self._requests
        if limit and not self._limiter.hit(limit, key.id):
            raise self._refusal(limit, key.id, "this API key has asked too often")

    def check_address(self, address: str) -> None:
        """Raises RateLimited when there have been too many wrong keys from an address."""
        limit, network = self._failures, network_of(address)
        if limit and not self._limiter.test(limit, network):
            raise self._refusal(limit, network, "there were too many wrong API keys from your address")

    def count_failure(self, address: str) -> None:
        """Count a wrong key from an address."""
        if self._failures:
            self._limiter.hit(self._failures, network_of(address))

    def _refusal(self, limit: RateLimitItem, who: str, message: str) -> RateLimited:
        reset = self._limiter.get_window_stats(limit, who).reset_time
        return RateLimited(message, limit.amount, max(1, math.ceil(reset - time.time())))


def _a_minute(amount: int, what: str) -> RateLimitItem | None:
    return RateLimitItemPerMinute(amount, namespace=what) if amount else None


def network_of(address: str) -> str:
    """Who is counted as one: an IPv4 address, or the network of an IPv6 address; other text as it is."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ip_network((int(ip), _IPV6_NETWORK), strict=False))
