"""The RQ job that sends due webhooks, to many receivers concurrently, for a few seconds.

A receiver that hangs does not delay others: each has a task of its own, and while tasks wait for their
receivers, the job claims more due webhooks. One receiver gets only a few deliveries at once, and none for a
while after it could not be reached.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Final, NamedTuple, TypeVar
from uuid import uuid4

import redis

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings, load_settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.faults import describe
from recording_farm.farm.errors import NotFoundError, SettingsError
from recording_farm.farm.recording.sealed_urls import open_webhook_url
from recording_farm.farm.telemetry.counts import Counts, attempt_increments
from recording_farm.farm.telemetry.logs import about
from recording_farm.farm.webhooks.deliveries import Deliveries, Delivery, Head
from recording_farm.farm.webhooks.log import Attempt, AttemptOutcome
from recording_farm.farm.webhooks.registry import Webhooks
from recording_farm.farm.webhooks.request import Answer, Poster
from recording_farm.farm.webhooks.signature import SigningKey, load_signing_key, signature_headers

logger = logging.getLogger(__name__)

_CLAIMING_SECONDS: Final = 5.0
"""How long a job claims webhooks; then it only finishes running requests, so that a shutdown is short."""

_POLL_SECONDS: Final = 0.1
"""Interval of checks for more due webhooks while requests run."""

_MAX_RECEIVERS: Final = 100
"""Receivers that one job serves concurrently."""

_MAX_LANES: Final = 4
"""Concurrent deliveries to one receiver."""

_THREADS: Final = 32
"""Threads for name resolution, which may be slow and blocks its thread, and as many for Redis."""

_JITTER: Final = 0.1
"""Relative jitter of intervals, so that deliveries that failed together are not retried together."""

MAX_RETRY_AFTER: Final = 4 * 3600.0
"""Maximum seconds that a receiver can delay the next attempt."""

PERMANENT_TRIES: Final = 3
"""Permanent rejections after which a delivery gives way to the next one of its recording."""

_GONE: Final = "the receiver answered 410 Gone"

_Result = TypeVar("_Result")


class Target(NamedTuple):
    """The URL of a delivery, and the secret that signs it."""

    url: str
    secret: str


def retry_seconds(tries: int, intervals: Sequence[float]) -> float | None:
    """Seconds to wait after the attempt number `tries` (the first is 1), None to give up."""
    return intervals[tries - 1] if tries <= len(intervals) else None


def gives_way(answer: Answer, tries: int) -> bool:
    """Whether a delivery with so many attempts is given up as soon as another one waits behind it."""
    return answer.is_permanent and tries >= PERMANENT_TRIES


def seconds_until_next(answer: Answer, head: Head, intervals: Sequence[float]) -> float | None:
    """Seconds to wait after an answer to a delivery; None if it was accepted or is given up."""
    tries = head.tries + 1
    if answer.is_success or answer.is_gone or (gives_way(answer, tries) and head.behind):
        return None
    wait = retry_seconds(tries, intervals)
    if wait is None:
        return None
    # Not for security: it only spreads the attempts.
    wait *= random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
    return max(wait, min(answer.retry_after or 0.0, MAX_RETRY_AFTER))


def send_due() -> None:
    """Send due webhooks. The RQ job; it takes a few seconds at most.

    When Redis fails, unsettled deliveries are sent again later, and the job does not fail.
    """
    settings = load_settings()
    runner = _runner()
    sender = _sender(settings)
    try:
        runner.run(sender.send_due())
    except redis.RedisError as error:
        logger.warning("Redis failed; some webhooks will be sent again: %s", describe(error))


# One per process: closing a loop waits for all pending name resolutions.
@lru_cache(maxsize=1)
def _runner() -> asyncio.Runner:
    runner = asyncio.Runner()
    runner.get_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "names"))
    return runner


@lru_cache(maxsize=1)
def _sender(settings: Settings) -> "Sender":
    client = connect(settings.redis_address)
    return Sender(settings, client, load_signing_key(settings))


class Sender:
    """Sends due webhooks."""

    def __init__(self, settings: Settings, client: redis.Redis, key: SigningKey) -> None:
        """Use each instance in only one event loop."""
        self._settings = settings
        self._sealer = Sealer(load_secret_key(settings))
        self._webhooks = Webhooks(client, settings.webhook_limit, self._sealer)
        self._deliveries = Deliveries(client)
        self._counts = Counts(client)
        self._key = key
        self._threads = ThreadPoolExecutor(_THREADS, "redis")
        self._claim_seconds = 2 * settings.webhook_timeout + 1

    async def send_due(self) -> None:
        """Claim and send due webhooks for a few seconds; returns when no request runs any more."""
        token = uuid4().hex
        under_way: set[asyncio.Task[None]] = set()
        end = time.monotonic() + _CLAIMING_SECONDS
        async with Poster(self._settings.address_rule, self._settings.webhook_timeout) as poster:
            try:
                while True:
                    free = _MAX_RECEIVERS - len(under_way)
                    if free and time.monotonic() < end:
                        for webhook_id in await self._do(
                            self._deliveries.claim, token, self._claim_seconds, free
                        ):
                            under_way.add(asyncio.create_task(self._serve(poster, webhook_id, token, end)))
                    if not under_way:
                        return
                    done, under_way = await asyncio.wait(
                        under_way, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
                    )
                    for task in done:
                        _report(task)
            finally:
                for task in under_way:
                    task.cancel()
                await asyncio.gather(*under_way, return_exceptions=True)

    async def _serve(self, poster: Poster, webhook_id: str, token: str, end: float) -> None:
        """Send a claimed webhook's due deliveries until none is left, it is unreachable, or time is up."""
        rest = 0.0
        while True:
            heads = await self._do(self._deliveries.heads, webhook_id, token, self._claim_seconds, _MAX_LANES)
            if not heads:
                break
            target = await self._do(self._target_of, heads[0].delivery)
            if target is None:
                await self._do(self._deliveries.drop, webhook_id)
                break
            answers = await asyncio.gather(*(self._try(poster, target, head) for head in heads))
            if any(answer.unreachable for answer in answers):
                rest = min(self._settings.webhook_intervals, default=0.0)
            asked = (answer.retry_after or 0.0 for answer in answers if answer.is_throttled)
            rest = max(rest, min(max(asked, default=0.0), MAX_RETRY_AFTER))
            if rest:
                break
            if time.monotonic() >= end:
                break
        await self._do(self._deliveries.release, webhook_id, token, rest)

    def _target_of(self, delivery: Delivery) -> Target | None:
        """The target of a delivery; None when the webhook was deleted or disabled."""
        if delivery.url is not None:
            try:
                url = open_webhook_url(delivery.url, delivery.recording_id, self._sealer)
                return Target(url, self._webhooks.secret_of(delivery.organization_id))
            except SettingsError as error:
                logger.error("%s", error)
                return None
        try:
            webhook = self._webhooks.get(delivery.organization_id, str(delivery.webhook_id))
        except NotFoundError:
            return None
        return Target(webhook.url, webhook.secret) if webhook.enabled else None

    async def _try(self, poster: Poster, target: Target, head: Head) -> Answer:
        with about(head.delivery.recording_id, webhook=str(head.delivery.webhook_id)):
            return await self._try_once(poster, target, head)

    async def _try_once(self, poster: Poster, target: Target, head: Head) -> Answer:
        delivery = head.delivery
        began = now()
        if delivery.url is not None and await self._do(self._deliveries.is_gone, delivery):
            answer = Answer(error=f"not sent: {_GONE} before, for this recording")
            await self._settle(head, answer, None, began)
            return answer
        headers = signature_headers(
            self._key,
            target.secret,
            webhook_id=str(delivery.webhook_id),
            delivery_id=delivery.id,
            body=delivery.body,
            present=began,
        )
        answer = await poster.post(target.url, delivery.body.encode(), headers, delivery.organization_id)
        if answer.is_gone:
            answer.error = await self._do(self._stop_sending, delivery, target, began)
        wait = seconds_until_next(answer, head, self._settings.webhook_intervals)
        await self._settle(head, answer, wait, began)
        return answer

    def _stop_sending(self, delivery: Delivery, target: Target, began: datetime) -> str:
        """Stop deliveries to a receiver that answered 410; returns the error for the log."""
        if delivery.url is not None:
            self._deliveries.mark_gone(delivery)
            return f"{_GONE}; no more deliveries of this recording"
        webhook_id = str(delivery.webhook_id)
        with suppress(NotFoundError):
            if self._webhooks.disable(delivery.organization_id, webhook_id, target.url, began, _GONE):
                logger.warning("webhook %s is disabled: %s", webhook_id, _GONE)
                return f"{_GONE}; the webhook is disabled until you change it"
        return _GONE

    async def _settle(self, head: Head, answer: Answer, wait: float | None, began: datetime) -> None:
        """Log an attempt, and settle its delivery."""
        delivery, number = head.delivery, head.tries + 1
        outcome = _outcome(answer, wait)
        attempt = Attempt(
            delivery_id=delivery.id,
            recording_id=delivery.recording_id,
            number=number,
            time=began,
            duration_ms=round(answer.seconds * 1000),
            outcome=outcome,
            status_code=answer.status,
            answer=answer.text,
            error=answer.error,
            next_attempt=None if wait is None else now() + timedelta(seconds=wait),
            replay_of=delivery.replay_of,
            body=delivery.body,
        )
        if outcome is AttemptOutcome.GIVEN_UP:
            logger.warning(
                "webhook %s: given up after %d attempts: %s", delivery.webhook_id, number, answer.error
            )
        else:
            logger.info("webhook %s: attempt %d: %s", delivery.webhook_id, number, outcome)
        settle = partial(self._deliveries.settle, gives_way=wait is not None and gives_way(answer, number))
        if await self._do(settle, head, attempt, wait):
            await self._do(self._counts.add, attempt_increments(outcome))

    async def _do(self, function: Callable[..., _Result], *args: object) -> _Result:
        """Call Redis, in threads that slow name resolution cannot exhaust."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(function, *args))


def _report(task: asyncio.Task[None]) -> None:
    """Log the error of a task. Others continue; the claim expires, and the webhook is served again."""
    error = task.exception()
    if error is not None:
        logger.error("sending a webhook failed: %r", error, exc_info=error)


def _outcome(answer: Answer, wait: float | None) -> AttemptOutcome:
    if answer.is_success:
        return AttemptOutcome.DELIVERED
    return AttemptOutcome.GIVEN_UP if wait is None else AttemptOutcome.RETRYING
