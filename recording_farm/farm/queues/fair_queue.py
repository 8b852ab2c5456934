"""Takes the next recording from the organizations' queues, and tells how long they are.

Each organization has a queue of RQ for each priority (`recordings-high@acme`, `recordings@acme`,
`recordings-low@acme`). RQ takes from queues in a fixed order; here a script picks the organization whose
turn it is, see `farm.queues.fair_share`. For the limits it counts running recordings by the indexes of the
records. So there is no count that a dead worker, or a Redis that loses its last writes, could leave wrong.

Version 0.1 had one queue for each priority, without an organization. The script moves the jobs that it finds
there into the organizations' queues.

Keys
    farm:queue:turns     hash: by the name of a queue (`recordings@acme`) its virtual time and the number of
                         the entry; by a priority (`recordings@`) its present time; under `@` the last number
    farm:queue:bell      list: an entry for each recording that was queued, to wake a slot that waits; only
                         the last ones are kept
"""

from collections import Counter
from collections.abc import Iterable, Iterator
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

# A turn is a queue's virtual time, and a number that orders queues with the same one. Both are 0 without an
# entry, which Redis may have lost.
_TURNS: Final = """
local function read_turn(turns, name)
  local time, number = string.match(redis.call('HGET', turns, name) or '', '^(%d+) (%d+)$')
  return tonumber(time or 0), tonumber(number or 0)
end

local function text_of(time) return string.format('%.0f', time) end

local function set_turn(turns, name, time)
  local number = redis.call('HINCRBY', turns, '@', 1)
  redis.call('HSET', turns, name, text_of(time) .. ' ' .. number)
end

local function read_present(turns, base) return tonumber(redis.call('HGET', turns, base .. '@') or 0) end

-- The first recording of a queue that was empty.
local function arrive(turns, base, id)
  local name, present = base .. '@' .. id, read_present(turns, base)
  -- One that has just had its turn keeps its place among the others.
  if read_turn(turns, name) <= present then set_turn(turns, name, present) end
end
"""

# KEYS turns, the queue; ARGV the queue's base name, the organization
_ARRIVE: Final = (
    _TURNS
    + """
if redis.call('LLEN', KEYS[2]) == 1 then arrive(KEYS[1], ARGV[1], ARGV[2]) end
"""
)

# KEYS turns, quotas; ARGV the queue's name, the organization, what a turn costs
_GIVE_BACK: Final = (
    _TURNS
    + """
local own = redis.call('HGET', KEYS[2], ARGV[2])
local step = math.floor(ARGV[3] / (own and cjson.decode(own).weight or 1))
local time = read_turn(KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], text_of(math.max(time - step, 0)) .. ' 0')
"""
)

# ARGV base names of the queues by priority between commas, prefixes of queues, jobs and indexes, active
# states between commas, default limit of running recordings.
# `organizations` has, by the id of each organization with a recording in a queue: running, weight and limit;
# `queues` a list for each priority of {organization, base name, key, length, time, number}.
_BACKLOG: Final = (
    _TURNS
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
  return {running = active, weight = own.weight or 1, limit = own.running or tonumber(ARGV[6])}
end

local function read_backlog()
  for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    local base, id = string.match(key, '([^:@]+)@([^:@]+)$')
    local rank = base and ranks[base]
    local length = rank and redis.call('LLEN', key) or 0
    if length > 0 then
      organizations[id] = organizations[id] or read_organization(id)
      -- Those in a queue are active, but hold no slot.
      organizations[id].running = math.max(organizations[id].running - length, 0)
      local queue = {id = id, base = base, key = key, length = length}
      queue.time, queue.number = read_turn(KEYS[3], base .. '@' .. id)
      table.insert(queues[rank], queue)
    end
  end
end
"""
)

# KEYS the queues, quotas, turns
# Answers {rank, organization, length, running, weight, limit, time, number, present}, … from the highest
# priority on.
_LOOK: Final = (
    _BACKLOG
    + """
read_backlog()
local found = {}
for rank, some in ipairs(queues) do
  for _, queue in ipairs(some) do
    local its, present = organizations[queue.id], read_present(KEYS[3], queue.base)
    table.insert(found, {rank - 1, queue.id, queue.length, its.running, its.weight, its.limit,
                         text_of(queue.time), text_of(queue.number), text_of(present)})
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
    organization = organization and cjson.decode(organization)
    if organization then
      local name = base .. '@' .. organization
      local key = ARGV[2] .. name
      redis.call('SADD', KEYS[1], key)
      redis.call('RPUSH', key, id)
      if redis.call('LLEN', key) == 1 then arrive(KEYS[3], base, organization) end
      if redis.call('EXISTS', ARGV[3] .. id) == 1 then redis.call('HSET', ARGV[3] .. id, 'origin', name) end
    end
    redis.call('LPOP', ARGV[2] .. base)
    -- The recording was deleted.
    if not organization then redis.call('DEL', ARGV[3] .. id) end
  end
end

local function goes_before(one, other)
  if one.time ~= other.time then return one.time < other.time end
  if one.number ~= other.number then return one.number < other.number end
  return one.id < other.id
end

for base in string.gmatch(ARGV[1], '[^,]+') do adopt(base) end
read_backlog()
for _, some in ipairs(queues) do
  local next
  for _, queue in ipairs(some) do
    local its = organizations[queue.id]
    local may_start = its.limit == 0 or its.running < its.limit
    if may_start and (not next or goes_before(queue, next)) then next = queue end
  end
  if next then
    -- One that its limit has held back is behind the present time.
    local present = math.max(next.time, read_present(KEYS[3], next.base))
    -- First what needs memory: a full Redis refuses that, and then all of it.
    local step = math.floor(ARGV[8] / organizations[next.id].weight)
    set_turn(KEYS[3], next.base .. '@' .. next.id, present + step)
    redis.call('HSET', KEYS[3], next.base .. '@', text_of(present))
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


def give_turn(pipeline: Pipeline, organization_id: str, priority: Priority) -> None:
    """Let a queue whose first recording was queued begin at the present time."""
    name = queue_name(organization_id, priority)
    pipeline.register_script(_ARRIVE)(
        keys=[_TURNS_KEY, f"{_QUEUE_PREFIX}{name}"],
        args=[BASE_NAMES[priority], organization_id],
        client=pipeline,
    )


def give_turn_back(pipeline: Pipeline, name: str) -> None:
    """Let a queue be the next again, by its name, because what was taken from it could not start."""
    base, _, organization_id = name.partition("@")
    if base in BASE_NAMES.values() and organization_id:
        pipeline.register_script(_GIVE_BACK)(
            keys=[_TURNS_KEY, QUOTAS_KEY], args=[name, organization_id, TURN], client=pipeline
        )


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


class Backlogs:
    """All queued recordings, as numbers."""

    def __init__(self, backlogs: Iterable[Backlog]) -> None:
        """Of each organization and priority, in any order."""
        self._all = tuple(backlogs)

    def position(self, organization_id: str, priority: Priority, index: int) -> int:
        """The position of the recording at `index` of an organization's queue, 1 being the next."""
        own = self._find(organization_id, priority)
        return position_of(own, index, (each for each in self._all if each is not own)) if own else index + 1

    def is_held_back(self, organization_id: str, priority: Priority, index: int) -> bool:
        """Whether that recording waits for another one of its organization to end."""
        own = self._find(organization_id, priority)
        return own is not None and own.is_held_back(index)

    def _find(self, organization_id: str, priority: Priority) -> Backlog | None:
        rank = list(Priority).index(priority)
        found = (each for each in self._all if (each.organization_id, each.rank) == (organization_id, rank))
        return next(found, None)


def look_at_backlogs(client: redis.Redis, limit: int) -> Backlogs:
    """The backlogs of all organizations; for `limit` see `take_next`.

    Raises redis.RedisError when Redis cannot be reached.
    """
    found = client.register_script(_LOOK)(
        keys=[_QUEUES_KEY, QUOTAS_KEY, _TURNS_KEY], args=[*_SHARED_ARGUMENTS, limit]
    )
    return Backlogs(_read_backlogs(cast("list[list[Any]]", found)))


def _read_backlogs(found: Iterable[list[Any]]) -> Iterator[Backlog]:
    """`found` is from the highest priority to the lowest."""
    in_higher: Counter[str] = Counter()
    for rank, name, waiting, running, weight, limit, *turn in found:
        organization_id = name.decode()
        virtual_time, reached, present = map(int, turn)
        yield Backlog(
            organization_id=organization_id,
            waiting=waiting,
            running=running + in_higher[organization_id],
            weight=weight,
            limit=limit,
            virtual_time=virtual_time,
            reached=reached,
            present=present,
            rank=rank,
        )
        in_higher[organization_id] += waiting
