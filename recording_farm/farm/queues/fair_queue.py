"""Takes the next recording from the organizations' queues, and tells how long they are.

Each organization has a queue of RQ for each priority (`recordings-high@acme`, `recordings@acme`,
`recordings-low@acme`). RQ takes from queues in a fixed order; here a script picks the organization whose
turn it is, see `farm.queues.fair_share`. It counts running recordings by the indexes of the records. So there
is no count that a worker that dies, or a Redis that loses its last writes, could leave wrong.

Version 0.1 had one queue for each priority, without an organization. The script moves the jobs that it finds
there into the organizations' queues.

Keys
    farm:queue:turns     hash: the virtual time of each organization; under `@` the present one, under `@late`
                         how many organizations have come since it advanced
    farm:queue:bell      list: an entry for each recording that was queued, to wake a slot that waits; only
                         the last ones are kept
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import redis
from redis.client import Pipeline

from recording_farm.farm.queues.fair_share import TURN, Backlog, position_of
from recording_farm.farm.recording.listing import RECORD_PREFIX, index_prefix
from recording_farm.farm.recording.model import ACTIVE, Priority
from recording_farm.farm.recording.quotas import QUOTAS_KEY

BASE_NAMES: Final = {
    Priority.HIGH: "recordings-high",
    Priority.NORMAL: "recordings",
    Priority.LOW: "recordings-low",
}
"""The names of version 0.1's queues; those of an organization's end in `@` and its id."""

BELL_KEY: Final = "farm:queue:bell"
_TURNS_KEY: Final = "farm:queue:turns"
_QUEUES_KEY: Final = "rq:queues"
_QUEUE_PREFIX: Final = "rq:queue:"
_JOB_PREFIX: Final = "rq:job:"

_BELLS: Final = 256
"""Entries of the bell: more would only wake slots that find nothing."""

# Those that come late stand behind each other, and before all who have had their turn.
_VIRTUAL_TIME: Final = """
local function text_of(turn) return string.format('%.0f', turn) end

local function arrive(turns, id)
  local turn = tonumber(redis.call('HGET', turns, id))
  local present = tonumber(redis.call('HGET', turns, '@') or 0)
  if turn and turn >= present then return end
  redis.call('HSET', turns, id, text_of(present + redis.call('HINCRBY', turns, '@late', 1)))
end
"""

# KEYS turns, the queues of an organization; ARGV its id
_ARRIVE: Final = (
    _VIRTUAL_TIME
    + """
local length = 0
for i = 2, #KEYS do length = length + redis.call('LLEN', KEYS[i]) end
if length == 1 then arrive(KEYS[1], ARGV[1]) end
"""
)

# ARGV base names of the queues by priority between commas, prefixes of queues, jobs and indexes, active
# states between commas, default limit of running recordings.
# `organizations` has, by the id of each organization with a recording in a queue: running, weight, limit and
# turn (virtual time); and `queues` a list for each priority of {organization, key, length}.
_BACKLOG: Final = (
    _VIRTUAL_TIME
    + """
local ranks, queues, organizations = {}, {}, {}
for name in string.gmatch(ARGV[1], '[^,]+') do
  table.insert(queues, {})
  ranks[name] = #queues
end

local function read_organization(id)
  local own = redis.call('HGET', KEYS[2], id)
  own = own and cjson.decode(own) or {}
  local active = 0
  for state in string.gmatch(ARGV[5], '[^,]+') do
    active = active + redis.call('ZCARD', ARGV[4] .. id .. ':' .. state)
  end
  return {running = active, weight = own.weight or 1, limit = own.running or tonumber(ARGV[6]),
          turn = tonumber(redis.call('HGET', KEYS[3], id) or 0)}
end

local function read_backlog()
  for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    local name, id = string.match(key, '([^:@]+)@([^:@]+)$')
    local rank = name and ranks[name]
    local length = rank and redis.call('LLEN', key) or 0
    if length > 0 then
      organizations[id] = organizations[id] or read_organization(id)
      -- Those in a queue are active, but hold no slot.
      organizations[id].running = math.max(organizations[id].running - length, 0)
      table.insert(queues[rank], {id = id, key = key, length = length})
    end
  end
end
"""
)

# KEYS the queues, quotas, turns
# Answers {priority, organization, length, running, weight, limit, turn}, …
_LOOK: Final = (
    _BACKLOG
    + """
read_backlog()
local found = {}
for rank, some in ipairs(queues) do
  for _, queue in ipairs(some) do
    local its = organizations[queue.id]
    table.insert(found, {rank, queue.id, queue.length, its.running, its.weight, its.limit, text_of(its.turn)})
  end
end
return found
"""
)

# KEYS the queues, quotas, turns, bell; ARGV also what records' keys begin with, what a turn costs
# Answers {key of the queue, id of the job}, or nothing when no recording may start.
_TAKE: Final = (
    _BACKLOG
    + """
local function adopt(base)
  -- What version 0.1 has queued, or somebody requeued there.
  for _ = 1, 1000 do
    local id = redis.call('LINDEX', ARGV[2] .. base, 0)
    if not id then return end
    local organization = redis.call('HGET', ARGV[7] .. id, 'organization_id')
    local key = organization and ARGV[2] .. base .. '@' .. cjson.decode(organization)
    if key then
      redis.call('SADD', KEYS[1], key)
      redis.call('RPUSH', key, id)
      if redis.call('LLEN', key) == 1 then arrive(KEYS[3], string.match(key, '@(.+)$')) end
      if redis.call('EXISTS', ARGV[3] .. id) == 1 then
        redis.call('HSET', ARGV[3] .. id, 'origin', string.sub(key, #ARGV[2] + 1))
      end
    end
    redis.call('LPOP', ARGV[2] .. base)
    -- The recording was deleted.
    if not key then redis.call('DEL', ARGV[3] .. id) end
  end
end

local function goes_before(one, other)
  local a, b = organizations[one.id], organizations[other.id]
  local share, others = a.running / a.weight, b.running / b.weight
  if share ~= others then return share < others end
  if a.turn ~= b.turn then return a.turn < b.turn end
  return one.id < other.id
end

for name in string.gmatch(ARGV[1], '[^,]+') do adopt(name) end
read_backlog()
for _, some in ipairs(queues) do
  local next
  for _, queue in ipairs(some) do
    local its = organizations[queue.id]
    local may_start = its.limit == 0 or its.running < its.limit
    if may_start and (not next or goes_before(queue, next)) then next = queue end
  end
  if next then
    local its = organizations[next.id]
    local present = math.max(its.turn, tonumber(redis.call('HGET', KEYS[3], '@') or 0))
    -- First what needs memory: a full Redis refuses that, and then all of it.
    redis.call('HSET', KEYS[3], next.id, text_of(its.turn + math.floor(ARGV[8] / its.weight)),
               '@', text_of(present), '@late', '0')
    return {next.key, redis.call('LPOP', next.key)}
  end
end
redis.call('DEL', KEYS[4])
return false
"""
)

_SHARED_ARGUMENTS: Final = (
    ",".join(BASE_NAMES[priority] for priority in Priority),
    _QUEUE_PREFIX,
    _JOB_PREFIX,
    index_prefix("").removesuffix(":"),
    ",".join(sorted(ACTIVE)),
)


def queue_name(organization_id: str, priority: Priority) -> str:
    """The name of an organization's queue."""
    return f"{BASE_NAMES[priority]}@{organization_id}"


def name_without_organization(name: str) -> str:
    """The name of version 0.1's queue of the same priority; another queue's name as it is."""
    base, _, _ = name.partition("@")
    return base if base in BASE_NAMES.values() else name


def give_turn(pipeline: Pipeline, organization_id: str) -> None:
    """Let an organization whose first recording was queued begin at the present virtual time."""
    keys = [f"{_QUEUE_PREFIX}{queue_name(organization_id, priority)}" for priority in Priority]
    pipeline.register_script(_ARRIVE)(keys=[_TURNS_KEY, *keys], args=[organization_id], client=pipeline)


def ring_bell(pipeline: Pipeline) -> None:
    """Wake a slot that waits."""
    pipeline.lpush(BELL_KEY, 1)
    pipeline.ltrim(BELL_KEY, 0, _BELLS - 1)


def take_next(client: redis.Redis, limit: int) -> tuple[str, str] | None:
    """Take the next recording: the key of its queue, and its job's id; None when none may start.

    `limit` is how many recordings may run of an organization without a limit of its own, 0 for any number.
    Raises redis.RedisError when Redis cannot be reached.
    """
    found = client.register_script(_TAKE)(
        keys=[_QUEUES_KEY, QUOTAS_KEY, _TURNS_KEY, BELL_KEY],
        args=[*_SHARED_ARGUMENTS, limit, RECORD_PREFIX, TURN],
    )
    if not found:
        return None
    key, job_id = cast("list[bytes]", found)
    return key.decode(), job_id.decode()


@dataclass(frozen=True)
class Backlogs:
    """All queued recordings, as numbers: the backlogs of each priority."""

    by_priority: dict[Priority, list[Backlog]]

    def position(self, organization_id: str, priority: Priority, index: int) -> int:
        """The position of the recording at `index` of an organization's queue, 1 being the next."""
        higher = _joined(self._before(priority))
        # By the time that this one's turn comes, those of higher priorities are running.
        started = {each.organization_id: each.startable for each in higher}
        present = [_after(each, started.get(each.organization_id, 0)) for each in self.by_priority[priority]]
        own = [each for each in present if each.organization_id == organization_id]
        others = [each for each in present if each.organization_id != organization_id]
        lower = [each for each in self._behind(priority) if each.organization_id != organization_id]
        return position_of(own[0], index, others, higher, lower) if own else index + 1

    def is_held_back(self, organization_id: str, priority: Priority, index: int) -> bool:
        """Whether that recording waits for another one of its organization to end."""
        own = _joined(
            each
            for each in (*self._before(priority), *self.by_priority[priority])
            if each.organization_id == organization_id
        )
        before = sum(
            each.waiting for each in self._before(priority) if each.organization_id == organization_id
        )
        return any(each.is_held_back(before + index) for each in own)

    def _before(self, priority: Priority) -> list[Backlog]:
        """The backlogs of higher priorities."""
        return self._backlogs(list(Priority)[: list(Priority).index(priority)])

    def _behind(self, priority: Priority) -> list[Backlog]:
        """The backlogs of lower priorities."""
        return self._backlogs(list(Priority)[list(Priority).index(priority) + 1 :])

    def _backlogs(self, priorities: list[Priority]) -> list[Backlog]:
        return [each for priority in priorities for each in self.by_priority[priority]]


def _joined(backlogs: Iterable[Backlog]) -> list[Backlog]:
    """One backlog for each organization, whatever the priorities."""
    joined: dict[str, Backlog] = {}
    for each in backlogs:
        before = joined.get(each.organization_id)
        waiting = each.waiting + (before.waiting if before else 0)
        joined[each.organization_id] = replace(each, waiting=waiting)
    return list(joined.values())


def _after(backlog: Backlog, started: int) -> Backlog:
    """A backlog once so many more recordings of its organization have started."""
    return replace(
        backlog,
        running=backlog.running + started,
        virtual_time=backlog.virtual_time + started * (TURN // backlog.weight),
    )


def look_at_backlogs(client: redis.Redis, limit: int) -> Backlogs:
    """The backlogs of all organizations; for `limit` see `take_next`.

    Raises redis.RedisError when Redis cannot be reached.
    """
    found = client.register_script(_LOOK)(
        keys=[_QUEUES_KEY, QUOTAS_KEY, _TURNS_KEY], args=[*_SHARED_ARGUMENTS, limit]
    )
    backlogs = Backlogs({priority: [] for priority in Priority})
    for rank, *values in cast("list[list[Any]]", found):
        backlogs.by_priority[list(Priority)[rank - 1]].append(_backlog(*values))
    return backlogs


def _backlog(
    organization_id: bytes, waiting: int, running: int, weight: int, limit: int, turn: bytes
) -> Backlog:
    return Backlog(
        organization_id=organization_id.decode(),
        waiting=waiting,
        running=running,
        weight=weight,
        limit=limit,
        virtual_time=int(turn),
    )
