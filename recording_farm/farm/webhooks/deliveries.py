"""Waiting deliveries: for each webhook, in Redis, until they are delivered or given up.

A webhook's deliveries are queued in lanes, one for each recording, so that a state never overtakes an earlier
one of the same recording. A lane is due at once, or at the next retry of its first delivery; a webhook is due
when its first lane is. A sender claims a webhook for a limited time. If the sender dies, the claim expires,
and another sender continues with the deliveries that were not settled.

Keys
    farm:webhooks-due             sorted set: webhooks that have deliveries, by the time when they are due
    farm:webhook-lanes:{id}       sorted set: a webhook's lanes, by the next attempt of their first delivery
    farm:webhook-lane:{id}:{lane} list: deliveries in their order, each as one JSON object
    farm:webhook-tries:{id}       hash: by lane, the number of attempts of its first delivery
    farm:webhook-refused:{id}     set: lanes whose first delivery is given up once another waits behind it
    farm:webhook-gone:{id}:{lane} marks a URL named by a recording that answered 410: it gets no more of it
    farm:webhook-claim:{id}       the sender that has claimed a webhook, or `resting` in a pause

All times are in milliseconds by Redis's own clock, so the machines' clocks need not agree.
Every write is one script, so a process that dies between two commands neither loses nor repeats deliveries.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final
from uuid import UUID

import redis
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from recording_farm.farm.recording.changes import CHANGES_KEY
from recording_farm.farm.webhooks.log import KEPT_SECONDS as LOG_SECONDS
from recording_farm.farm.webhooks.log import MAX_LOG, Attempt, log_key, oldest_kept

DUE_KEY: Final = "farm:webhooks-due"

MAX_LANES: Final = 10_000
"""Recordings whose deliveries may wait for one webhook; more are dropped."""

MAX_LANE: Final = 1000
"""Deliveries of one recording that may wait for one webhook."""


_GONE_SECONDS: Final = 3 * 86_400
"""Longer than a recording waits, is made and is uploaded."""


class Delivery(BaseModel):
    """One event for one webhook."""

    model_config = ConfigDict(frozen=True)

    id: str
    """Unique for each event and webhook; the same in each attempt and replay."""
    organization_id: str
    webhook_id: UUID
    url: str | None = None
    """The sealed URL, if the recording named it itself; None for a registered webhook."""
    recording_id: UUID
    lane: str
    body: Annotated[str, Field(repr=False)]
    created_at: AwareDatetime
    replay_of: str | None = None
    """The log entry that this replays."""


@dataclass(frozen=True)
class Head:
    """The first delivery of a due lane, its number of attempts, and the number of deliveries behind it."""

    delivery: Delivery
    tries: int
    behind: int
    raw: bytes
    """The delivery as stored."""


_NOW = """
local function milliseconds()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""

# Returns whether the delivery was accepted. A claimed webhook does not become due: its sender checks again
# when it releases the claim.
_PUSH_FUNCTION = (
    _NOW
    + """
local function push(due, webhook, lane, delivery, most_lanes, longest_lane)
  local now = milliseconds()
  local lanes, list = 'farm:webhook-lanes:' .. webhook, 'farm:webhook-lane:' .. webhook .. ':' .. lane
  local length = redis.call('LLEN', list)
  if length >= tonumber(longest_lane) then return 0 end
  if length == 0 and redis.call('ZCARD', lanes) >= tonumber(most_lanes) then return 0 end
  redis.call('RPUSH', list, delivery)
  redis.call('ZADD', lanes, 'NX', now, lane)
  if redis.call('SISMEMBER', 'farm:webhook-refused:' .. webhook, lane) == 1 then
    redis.call('ZADD', lanes, now, lane)
  end
  local claimed = redis.call('PTTL', 'farm:webhook-claim:' .. webhook)
  if claimed > 0 then
    redis.call('ZADD', due, 'NX', now + claimed, webhook)
  else
    redis.call('ZADD', due, 'LT', now, webhook)
  end
  return 1
end
"""
)

_PUSH = (
    _PUSH_FUNCTION
    + """
local due = KEYS[1]
local most_lanes, longest_lane, webhook, lane, delivery = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
return push(due, webhook, lane, delivery, most_lanes, longest_lane)
"""
)

# After the three named arguments: webhook, lane and delivery of each delivery.
# Returns how many were dropped, or -1 when the entry is not the first one any more.
_DISPATCH = (
    _PUSH_FUNCTION
    + """
local changes, due = KEYS[1], KEYS[2]
local entry_id, most_lanes, longest_lane = ARGV[1], ARGV[2], ARGV[3]
local first = redis.call('XRANGE', changes, '-', '+', 'COUNT', 1)
if not first[1] or first[1][1] ~= entry_id then return -1 end
local refused = 0
for i = 4, #ARGV, 3 do
  local webhook, lane, delivery = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  refused = refused + 1 - push(due, webhook, lane, delivery, most_lanes, longest_lane)
end
redis.call('XDEL', changes, entry_id)
return refused
"""
)

# Returns milliseconds, -1 when nothing waits.
_UNTIL_DUE = (
    _NOW
    + """
local due = KEYS[1]
local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
if not first[1] then return -1 end
return math.max(0, first[2] - milliseconds())
"""
)

_CLAIM = (
    _NOW
    + """
local due = KEYS[1]
local token, claim_ms, most_webhooks = ARGV[1], ARGV[2], ARGV[3]
local now = milliseconds()
local claimed = {}
for _, webhook in ipairs(redis.call('ZRANGE', due, '-inf', now, 'BYSCORE', 'LIMIT', 0, most_webhooks)) do
  local claim = 'farm:webhook-claim:' .. webhook
  if redis.call('SET', claim, token, 'NX', 'PX', claim_ms) then
    redis.call('ZADD', due, now + claim_ms, webhook)
    table.insert(claimed, webhook)
  else
    redis.call('ZADD', due, now + math.max(1, redis.call('PTTL', claim)), webhook)
  end
end
return claimed
"""
)

# Returns {{delivery, tries, number behind it}, …}, empty when the claim was lost.
_HEADS = (
    _NOW
    + """
local due, claim, lanes, tries = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, claim_ms, webhook, most_lanes = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('GET', claim) ~= token then return {} end
local now = milliseconds()
redis.call('PEXPIRE', claim, claim_ms)
redis.call('ZADD', due, 'XX', now + claim_ms, webhook)
local heads = {}
for _, lane in ipairs(redis.call('ZRANGE', lanes, '-inf', now, 'BYSCORE', 'LIMIT', 0, most_lanes)) do
  local list = 'farm:webhook-lane:' .. webhook .. ':' .. lane
  local failed = redis.call('HGET', tries, lane) or '0'
  table.insert(heads, {redis.call('LINDEX', list, 0), failed, redis.call('LLEN', list) - 1})
end
return heads
"""
)

# `retry_ms` is '' if there is no further attempt; `gives_way` is '0' or '1'.
# Returns whether the delivery still existed: a webhook that was deleted meanwhile gets no log.
_SETTLE = (
    _NOW
    + """
local list, lanes, tries, log, refused = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local lane, delivery, retry_ms, attempt = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local max_log, oldest_id, log_seconds, gives_way = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
if redis.call('LINDEX', list, 0) ~= delivery then return 0 end
local now = milliseconds()
redis.call(gives_way == '1' and 'SADD' or 'SREM', refused, lane)
if retry_ms ~= '' then
  redis.call('HINCRBY', tries, lane, 1)
  redis.call('ZADD', lanes, now + retry_ms, lane)
else
  redis.call('LPOP', list)
  redis.call('HDEL', tries, lane)
  if redis.call('EXISTS', list) == 1 then
    redis.call('ZADD', lanes, now, lane)
  else
    redis.call('ZREM', lanes, lane)
  end
end
redis.call('XADD', log, 'MAXLEN', '=', max_log, '*', 'attempt', attempt)
redis.call('XTRIM', log, 'MINID', '=', oldest_id)
redis.call('EXPIRE', log, log_seconds)
return 1
"""
)

_RELEASE = (
    _NOW
    + """
local due, claim, lanes = KEYS[1], KEYS[2], KEYS[3]
local token, webhook, rest_ms = ARGV[1], ARGV[2], ARGV[3]
if redis.call('GET', claim) ~= token then return end
redis.call('DEL', claim)
local first = redis.call('ZRANGE', lanes, 0, 0, 'WITHSCORES')
if not first[1] then
  redis.call('ZREM', due, webhook)
elseif rest_ms == '0' then
  redis.call('ZADD', due, first[2], webhook)
else
  redis.call('SET', claim, 'resting', 'PX', rest_ms)
  redis.call('ZADD', due, math.max(first[2], milliseconds() + rest_ms), webhook)
end
"""
)

_WAKE = (
    _NOW
    + """
local due, claim, lanes = KEYS[1], KEYS[2], KEYS[3]
local webhook = ARGV[1]
local now = milliseconds()
for _, lane in ipairs(redis.call('ZRANGE', lanes, 0, -1)) do
  redis.call('ZADD', lanes, 'LT', now, lane)
end
if redis.call('GET', claim) == 'resting' then redis.call('DEL', claim) end
if redis.call('EXISTS', lanes) == 1 and redis.call('EXISTS', claim) == 0 then
  redis.call('ZADD', due, now, webhook)
end
"""
)

_DROP = """
local due, lanes, tries, refused = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local webhook = ARGV[1]
for _, lane in ipairs(redis.call('ZRANGE', lanes, 0, -1)) do
  redis.call('DEL', 'farm:webhook-lane:' .. webhook .. ':' .. lane)
end
redis.call('DEL', lanes, tries, refused)
redis.call('ZREM', due, webhook)
"""


def lanes_key(webhook_id: UUID | str) -> str:
    """The key of a webhook's lanes."""
    return f"farm:webhook-lanes:{webhook_id}"


def _lane_key(webhook_id: UUID | str, lane: str) -> str:
    return f"farm:webhook-lane:{webhook_id}:{lane}"


def _tries_key(webhook_id: UUID | str) -> str:
    return f"farm:webhook-tries:{webhook_id}"


def _refused_key(webhook_id: UUID | str) -> str:
    return f"farm:webhook-refused:{webhook_id}"


def _gone_key(delivery: Delivery) -> str:
    return f"farm:webhook-gone:{delivery.webhook_id}:{delivery.recording_id}"


def _claim_key(webhook_id: UUID | str) -> str:
    return f"farm:webhook-claim:{webhook_id}"


class Deliveries:
    """The deliveries of all webhooks. Several threads and processes may call all methods at once.

    Every method raises redis.RedisError when Redis cannot be reached.
    """

    def __init__(self, client: redis.Redis) -> None:
        """`client` must return bytes (see `farm.db.clients`)."""
        self._push = client.register_script(_PUSH)
        self._dispatch = client.register_script(_DISPATCH)
        self._until_due = client.register_script(_UNTIL_DUE)
        self._claim = client.register_script(_CLAIM)
        self._heads = client.register_script(_HEADS)
        self._settle = client.register_script(_SETTLE)
        self._release = client.register_script(_RELEASE)
        self._wake = client.register_script(_WAKE)
        self._drop = client.register_script(_DROP)
        self._redis = client

    def push(self, delivery: Delivery) -> bool:
        """Append a delivery to its lane; false when the webhook or the lane is full."""
        return bool(self._push(keys=[DUE_KEY], args=[MAX_LANES, MAX_LANE, *_entry(delivery)]))

    def dispatch(self, entry_id: bytes, deliveries: Iterable[Delivery]) -> int:
        """Remove the first entry of the stream of changes, and append its deliveries to their lanes.

        Returns how many were dropped because too many wait. If the entry is not the first one any more,
        another dispatcher has done it: nothing happens, and the result is -1.
        """
        entries = [part for delivery in deliveries for part in _entry(delivery)]
        return int(
            self._dispatch(keys=[CHANGES_KEY, DUE_KEY], args=[entry_id, MAX_LANES, MAX_LANE, *entries])
        )

    def seconds_until_due(self) -> float | None:
        """Seconds until the next webhook is due, 0 if one is due now, None when nothing waits."""
        milliseconds = int(self._until_due(keys=[DUE_KEY]))
        return None if milliseconds < 0 else milliseconds / 1000

    def claim(self, token: str, seconds: float, most: int) -> list[str]:
        """Claim up to `most` due webhooks for `seconds`; `token` identifies the sender."""
        found: Sequence[bytes] = self._claim(keys=[DUE_KEY], args=[token, _milliseconds(seconds), most])
        return [webhook_id.decode() for webhook_id in found]

    def heads(self, webhook_id: str, token: str, seconds: float, most: int) -> list[Head]:
        """The first deliveries of up to `most` due lanes; renews the claim for `seconds`.

        Empty when the claim was lost.
        """
        found: Sequence[tuple[bytes, bytes, int]] = self._heads(
            keys=[DUE_KEY, _claim_key(webhook_id), lanes_key(webhook_id), _tries_key(webhook_id)],
            args=[token, _milliseconds(seconds), webhook_id, most],
        )
        return [
            Head(Delivery.model_validate_json(raw), int(tries), behind, raw) for raw, tries, behind in found
        ]

    def settle(
        self, head: Head, attempt: Attempt, retry_seconds: float | None, *, gives_way: bool = False
    ) -> bool:
        """Log an attempt, and remove its delivery or schedule a retry in `retry_seconds`.

        A delivery that `gives_way` is retried at once when another one is queued behind it.
        Returns false, and does nothing, when the delivery was dropped meanwhile.
        """
        delivery = head.delivery
        webhook_id, lane = delivery.webhook_id, delivery.lane
        return bool(
            self._settle(
                keys=[
                    _lane_key(webhook_id, lane),
                    lanes_key(webhook_id),
                    _tries_key(webhook_id),
                    log_key(delivery.organization_id, webhook_id),
                    _refused_key(webhook_id),
                ],
                args=[
                    lane,
                    head.raw,
                    "" if retry_seconds is None else _milliseconds(retry_seconds),
                    attempt.model_dump_json(),
                    MAX_LOG,
                    oldest_kept(),
                    LOG_SECONDS,
                    int(gives_way),
                ],
            )
        )

    def release(self, webhook_id: str, token: str, rest_seconds: float = 0) -> None:
        """Release a claimed webhook; for `rest_seconds` no sender can claim it."""
        self._release(
            keys=[DUE_KEY, _claim_key(webhook_id), lanes_key(webhook_id)],
            args=[token, webhook_id, _milliseconds(rest_seconds)],
        )

    def wake(self, webhook_id: UUID | str) -> None:
        """Make all deliveries of a webhook due now, for example because its URL changed."""
        self._wake(keys=[DUE_KEY, _claim_key(webhook_id), lanes_key(webhook_id)], args=[str(webhook_id)])

    def drop(self, webhook_id: UUID | str) -> None:
        """Delete all waiting deliveries of a webhook."""
        keys = [lanes_key(webhook_id), _tries_key(webhook_id), _refused_key(webhook_id)]
        self._drop(keys=[DUE_KEY, *keys], args=[str(webhook_id)])

    def mark_gone(self, delivery: Delivery) -> None:
        """Send no more deliveries of this recording to a URL that the recording named itself."""
        self._redis.set(_gone_key(delivery), b"", ex=_GONE_SECONDS)

    def is_gone(self, delivery: Delivery) -> bool:
        """Whether the URL of a delivery was marked with `mark_gone`."""
        return bool(self._redis.exists(_gone_key(delivery)))


def _entry(delivery: Delivery) -> tuple[str, str, str]:
    return str(delivery.webhook_id), delivery.lane, delivery.model_dump_json()


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
