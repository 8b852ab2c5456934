"""Rate limits: requests per organization and wrong keys per address, counted in Redis for all API processes.

A window starts with the first request and lasts a minute. While Redis answers but rejects writes (it is full,
or a replica), each process counts by itself: reads still work, and guessing stays limited.
"""

import logging
import math
import time
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final, cast

import redis
import redis.asyncio
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter

from recording_farm.api.http_errors import RateLimitedError
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.api_keys import ApiKey
from recording_farm.farm.db.faults import describe

logger = logging.getLogger(__name__)

_KEY_PREFIX: Final = "farm:limits"
_IPV6_NETWORK: Final = 64
"""Bits; the owner of one address of such a network can use all of them."""

_LINKS_FACTOR: Final = 5
"""How many times the limit of one host link or token all of an organization have together."""

_REFUSAL_SECONDS: Final = 5.0
"""How long to wait after Redis rejected a count; a rejection may take a third of a second."""


class RateLimits:
    """The limits of the settings. Every method raises redis.RedisError when Redis cannot be reached."""

    def __init__(self, client: redis.asyncio.Redis, settings: Settings) -> None:
        """`client` comes from `farm.db.clients.connect_async`."""
        storage = RedisStorage(
            "redis://",
            implementation="redispy",
            connection_pool=cast("Any", client.connection_pool),
            key_prefix=_KEY_PREFIX,
        )
        self._limiter = FixedWindowRateLimiter(storage)
        self._own_limiter = FixedWindowRateLimiter(MemoryStorage())
        self._rejected = float("-inf")
        self._requests = _per_minute(settings.rate_limit, "requests")
        self._link_requests = _per_minute(settings.rate_limit * _LINKS_FACTOR, "links")
        self._failures = _per_minute(settings.failure_limit, "failures")

    async def count_request(self, key: ApiKey) -> None:
        """Count a request made with an API key; all keys of an organization count together.

        An organization can make any number of keys. Raises RateLimitedError when it is one too many.
        """
        message = "too many requests with API keys of your organization"
        await self._count(self._requests, f"@{key.organization_id}", message)

    async def count_link_request(self, key: ApiKey) -> None:
        """Count a request made with a host link or a participant's token, which stands for `key`.

        Each has a limit of its own, and all of an organization together have one; neither uses up that of
        its API keys. Raises RateLimitedError when it is one too many.
        """
        await self._count(self._requests, key.id, "too many requests with this link or token")
        message = "too many requests with links and tokens of your organization"
        await self._count(self._link_requests, f"@{key.organization_id}", message)

    async def _count(self, limit: RateLimitItem | None, who: str, message: str) -> None:
        if limit and not await self._hit(limit, who):
            raise await self._refusal(limit, who, message)

    async def check_address(self, address: str) -> None:
        """Raises RateLimitedError when there have been too many wrong keys from an address."""
        limit, network = self._failures, network_of(address)
        if limit and not await self._test(limit, network):
            raise await self._refusal(limit, network, "too many wrong API keys from your address")

    async def count_failure(self, address: str) -> None:
        """Count a wrong key from an address."""
        if self._failures:
            await self._hit(self._failures, network_of(address))

    async def _hit(self, limit: RateLimitItem, who: str) -> bool:
        if time.monotonic() - self._rejected > _REFUSAL_SECONDS:
            try:
                return await self._limiter.hit(limit, who)
            except redis.ResponseError as error:
                logger.debug("requests are counted in this process: %s", describe(error))
                self._rejected = time.monotonic()
        return await self._own_limiter.hit(limit, who)

    async def _test(self, limit: RateLimitItem, who: str) -> bool:
        if not await self._own_limiter.test(limit, who):
            return False
        try:
            return await self._limiter.test(limit, who)
        except redis.ResponseError:
            return True

    async def _refusal(self, limit: RateLimitItem, who: str, message: str) -> RateLimitedError:
        own = await self._own_limiter.get_window_stats(limit, who)
        reset_time = own.reset_time
        if own.remaining:
            reset_time = (await self._limiter.get_window_stats(limit, who)).reset_time
        return RateLimitedError(message, limit.amount, max(1, math.ceil(reset_time - time.time())))


def _per_minute(amount: int, namespace: str) -> RateLimitItem | None:
    return RateLimitItemPerMinute(amount, namespace=namespace) if amount else None


def network_of(address: str) -> str:
    """The unit that is counted: an IPv4 address, or the network of an IPv6 address; other text unchanged."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ip_network((int(ip), _IPV6_NETWORK), strict=False))
