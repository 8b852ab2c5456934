"""The Lua scripts of `farm.recording.records`; each runs as a whole, so no reader sees half a change.

A full Redis rejects the commands that need memory and no others, also in the middle of a script. So the first
write of each script is one that needs memory: the script does everything or nothing. Deleting needs none.

Each script begins with names for its KEYS and ARGV.
"""

# The record as one JSON object. `change` is internal; the timeline is stored without brackets.
COPY = """
local function copy_of(record)
  local flat = redis.call('HGETALL', record)
  local members = {}
  for i = 1, #flat, 2 do
    local value = flat[i + 1]
    if flat[i] == 'timeline' then value = '[' .. value .. ']' end
    if flat[i] ~= 'change' then table.insert(members, cjson.encode(flat[i]) .. ':' .. value) end
  end
  return '{' .. table.concat(members, ',') .. '}'
end

local function tell_followers(events, copy)
  redis.call('XADD', events, 'MAXLEN', '~', 2000, '*', 'recording', copy)
end

local function announce(record, changes, events)
  local copy = copy_of(record)
  redis.call('XADD', changes, 'MAXLEN', '~', 1000000, '*', 'recording', copy)
  tell_followers(events, copy)
end
"""

# Returns {0} when it was added, {1, id} when that recording blocks it, {2, value} when the idempotency key is
# used, {3} when `most` of the organization are in the index; 0 allows any number. A client that lost the
# answer retries: the record exists already, and that is no refusal.
ADD = (
    COPY
    + """
local record, active, unfinished, changes, events, index, meeting_index, idempotency, targets = unpack(KEYS)
local id, invoked_order, allow_multiple, member = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local idempotency_value, idempotency_seconds, target, sealed = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local most = tonumber(ARGV[9])
local FIELDS = 10  -- from here on: field, value, …

if redis.call('EXISTS', record) == 1 then return {0} end
if idempotency_value ~= '' then
  local taken = redis.call('GET', idempotency)
  if taken then return {2, taken} end
end
if allow_multiple == '0' then
  local newest = redis.call('ZREVRANGE', active, 0, 0)
  if newest[1] then return {1, newest[1]} end
end
if most > 0 and redis.call('ZCARD', index) >= most then return {3} end
if idempotency_value ~= '' then
  redis.call('SET', idempotency, idempotency_value, 'EX', idempotency_seconds)
end
redis.call('HSET', record, unpack(ARGV, FIELDS))
if target ~= '' then redis.call('HSET', targets, target, sealed) end
redis.call('ZADD', active, invoked_order, id)
redis.call('SADD', unfinished, id)
redis.call('ZADD', index, invoked_order, member)
redis.call('ZADD', meeting_index, invoked_order, member)
announce(record, changes, events)
return {0}
"""
)

# Returns whether it did not exist, or 2 when another node has taken it over: a client has deleted it since.
RESTORE = (
    COPY
    + """
local record, active, unfinished, events, index, meeting_index, targets, taken_over = unpack(KEYS)
local id, invoked_order, member, is_active, target_count = unpack(ARGV, 1, 5)
local TARGETS = 6  -- from here on: name, sealed target, …; then field, value, …

if redis.call('EXISTS', record) == 1 then return 0 end
if redis.call('SISMEMBER', taken_over, id) == 1 then return 2 end
local fields = TARGETS + 2 * tonumber(target_count)
for i = TARGETS, fields - 1, 2 do redis.call('HSET', targets, ARGV[i], ARGV[i + 1]) end
redis.call('HSET', record, unpack(ARGV, fields))
if is_active == '1' then redis.call('ZADD', active, invoked_order, id) end
redis.call('SADD', unfinished, id)
redis.call('ZADD', index, invoked_order, member)
redis.call('ZADD', meeting_index, invoked_order, member)
tell_followers(events, copy_of(record))
return 1
"""
)

# `from_states` has the allowed present states between commas; `kept_since` the time (s) from which files are
# kept, or ''; `owner` the node that must have it, as JSON, or ''. The token makes a second try after a lost
# answer harmless. Returns {1, record}, {0, present state}, or {2} when another node has it.
CHANGE = (
    COPY
    + """
local record, active, unfinished, changes, events, kept, targets, watermark = unpack(KEYS)
local id, token, entry, state, from_states, is_active, is_final = unpack(ARGV, 1, 7)
local index_prefix, meeting, member, invoked_order, kept_since, owner = unpack(ARGV, 8, 13)
local FIELDS = 14  -- from here on: field, value, …

local present = redis.call('HGET', record, 'status')
if not present then return {0, ''} end
present = cjson.decode(present)
if redis.call('HGET', record, 'change') ~= token then
  if owner ~= '' and redis.call('HGET', record, 'node') ~= owner then return {2} end
  if not string.find(from_states, ',' .. present .. ',', 1, true) then return {0, present} end
  local timeline = redis.call('HGET', record, 'timeline')
  timeline = (timeline and timeline ~= '') and (timeline .. ',' .. entry) or entry
  redis.call('HSET', record, 'status', cjson.encode(state), 'timeline', timeline, 'change', token,
             unpack(ARGV, FIELDS))
  if kept_since ~= '' then redis.call('ZADD', kept, kept_since, id) end
  if is_active == '0' then
    redis.call('ZREM', active, id)
    redis.call('DEL', watermark)
    redis.call('HSET', record, 'slot', 'null')
  end
  if is_final == '1' then
    redis.call('SREM', unfinished, id)
    -- Without files nothing needs the customer's keys.
    if kept_since == '' then redis.call('DEL', targets) end
  end
  for _, suffix in ipairs({'', ':' .. meeting}) do
    redis.call('ZREM', index_prefix .. present .. suffix, member)
    redis.call('ZADD', index_prefix .. state .. suffix, invoked_order, member)
  end
  redis.call('PUBLISH', record, state)
  announce(record, changes, events)
end
return {1, redis.call('HGETALL', record)}
"""
)

# `owner` is the node that must have it, as JSON, or ''. Returns whether no other node has it.
NOTE = """
local record = KEYS[1]
local entry, owner = unpack(ARGV)

local timeline = redis.call('HGET', record, 'timeline')
if not timeline then return 1 end
if owner ~= '' and redis.call('HGET', record, 'node') ~= owner then return 0 end
-- The entry exists already when a client retries because it lost the answer.
if not string.find(timeline, entry, 1, true) then
  redis.call('HSET', record, 'timeline', timeline .. ',' .. entry)
end
return 1
"""

# `old_node`, `new_node` and `new_slot` are JSON; `entry` is a timeline entry or ''; `active_states` stand
# between commas; for `memory_seconds` it is known which node had it. Returns {1, record}, {0, present state},
# or {2} when another node has it, or its node is not gone. A client that lost the answer retries: it has the
# recording already, and that is no refusal.
CLAIM = (
    COPY
    + """
local record, gone_nodes, taken_from_old, taken_from_new, events, slot_key = unpack(KEYS)
local id, old_node, new_node, old_node_name, entry, active_states = unpack(ARGV, 1, 6)
local memory_seconds, new_slot, record_prefix = unpack(ARGV, 7, 9)

local present = redis.call('HGET', record, 'status')
if not present then return {0, ''} end
present = cjson.decode(present)
if not string.find(active_states, ',' .. present .. ',', 1, true) then return {0, present} end
local node, slot = redis.call('HGET', record, 'node'), redis.call('HGET', record, 'slot') or 'null'
if node ~= new_node then
  if node ~= old_node then return {2} end
  if node ~= 'null' then
    if redis.call('HEXISTS', gone_nodes, old_node_name) == 0 then return {2} end
    redis.call('SADD', taken_from_old, id)
    redis.call('EXPIRE', taken_from_old, memory_seconds)
    redis.call('SREM', taken_from_new, id)
  end
  redis.call('HSET', record, 'node', new_node)
  if entry ~= '' then
    redis.call('HSET', record, 'timeline', redis.call('HGET', record, 'timeline') .. ',' .. entry)
  end
end
if new_slot ~= 'null' then
  -- The recorder that had the slot before died in it, and its recording is not resumed yet.
  local last = record_prefix .. (redis.call('GET', slot_key) or '')
  local last_node, last_slot = redis.call('HGET', last, 'node'), redis.call('HGET', last, 'slot')
  if last ~= record and last_node == new_node and last_slot == new_slot then
    redis.call('HSET', last, 'slot', 'null')
  end
  redis.call('SET', slot_key, id, 'EX', memory_seconds)
end
if node ~= new_node or slot ~= new_slot then
  redis.call('HSET', record, 'slot', new_slot)
  tell_followers(events, copy_of(record))
end
return {1, redis.call('HGETALL', record)}
"""
)

# `final_states` stand between commas; for `deleted_seconds` it is known that the recording was deleted.
# Returns the present state if it is not final, else nothing.
DELETE = """
local record, active, unfinished, commands, targets, kept, deleted = unpack(KEYS)
local id, index_prefix, meeting, member = unpack(ARGV, 1, 4)
local final_states, expired_index, present_time, deleted_seconds = unpack(ARGV, 5, 8)

local present = redis.call('HGET', record, 'status')
if not present then return false end
present = cjson.decode(present)
if not string.find(final_states, ',' .. present .. ',', 1, true) then return present end
for _, index in ipairs({present, expired_index}) do
  redis.call('ZREM', index_prefix .. index, member)
  redis.call('ZREM', index_prefix .. index .. ':' .. meeting, member)
end
redis.call('ZREM', active, id)
redis.call('SREM', unfinished, id)
redis.call('ZREM', kept, id)
redis.call('DEL', record, commands, targets)
-- It may be deleted because Redis is full; its node then keeps its evidence until that is old.
redis.pcall('ZADD', deleted, present_time, id)
redis.call('ZREMRANGEBYSCORE', deleted, '-inf', present_time - deleted_seconds)
return false
"""

# `from_states` has the allowed present states between commas, or '' for any; the state of a new transfer is
# NONE. `sealed` is the sealed target or ''. An event that is not the transfer's last one goes to
# the webhooks. Returns {1, record} or {0, present state, or '' without a record}.
TRANSFER = (
    COPY
    + """
local record, events, targets, changes = unpack(KEYS)
local target, transfer, from_states, sealed = unpack(ARGV)

local transfers = redis.call('HGET', record, 'transfers')
if not transfers then return {0, ''} end
local texts, index, present, last_event = {}, nil, 'NONE', cjson.null
for i, other in ipairs(cjson.decode(transfers)) do
  texts[i] = cjson.encode(other)
  if other.target == target then
    index, present, last_event = i, other.state, other.event
  end
end
if from_states ~= '' and not string.find(from_states, ',' .. present .. ',', 1, true) then
  return {0, present}
end
texts[index or (#texts + 1)] = transfer
redis.call('HSET', record, 'transfers', '[' .. table.concat(texts, ',') .. ']')
if sealed ~= '' then redis.call('HSET', targets, target, sealed) end
local copy, event = copy_of(record), cjson.decode(transfer).event
tell_followers(events, copy)
if event ~= cjson.null and event ~= last_event then
  redis.call('XADD', changes, 'MAXLEN', '~', 1000000, '*', 'record', copy, 'transfer', target)
end
return {1, redis.call('HGETALL', record)}
"""
)

# `over_states` and `final_states` (of recordings) stand between commas; a recording has at most `max_running`
# outputs that are not over; `sealed` is what is kept under `sealed_name`, or ''. Returns {1, record}; or
# {0, reason}: '' without a record, NONE without such an output, MANY when there are too many, or the state of
# an output or a recording that is over.
OUTPUT = (
    COPY
    + """
local record, events, targets = unpack(KEYS)
local id, output, is_new, over_states, max_running, sealed_name, sealed, final_states = unpack(ARGV)

if redis.call('EXISTS', record) == 0 then return {0, ''} end
local status = cjson.decode(redis.call('HGET', record, 'status'))
if string.find(final_states, ',' .. status .. ',', 1, true) then return {0, status} end
local texts, index, present, running = {}, nil, 'NONE', 0
for i, other in ipairs(cjson.decode(redis.call('HGET', record, 'outputs') or '[]')) do
  texts[i] = cjson.encode(other)
  if not string.find(over_states, ',' .. other.state .. ',', 1, true) then running = running + 1 end
  if other.id == id then
    index, present = i, other.state
  end
end
if string.find(over_states, ',' .. present .. ',', 1, true) then return {0, present} end
if is_new == '1' then
  if not index and running >= tonumber(max_running) then return {0, 'MANY'} end
elseif not index then
  return {0, present}
end
texts[index or (#texts + 1)] = output
redis.call('HSET', record, 'outputs', '[' .. table.concat(texts, ',') .. ']')
if sealed ~= '' then redis.call('HSET', targets, sealed_name, sealed) end
tell_followers(events, copy_of(record))
return {1, redis.call('HGETALL', record)}
"""
)

# Returns whether it has expired just now.
EXPIRE = (
    COPY
    + """
local record, events, targets, kept = unpack(KEYS)
local id, index_prefix, meeting, member, invoked_order = unpack(ARGV, 1, 5)
local expired_index, other_index, expired_time = unpack(ARGV, 6, 8)

local is_new = redis.call('HGET', record, 'expired_time') == 'null'
if is_new then redis.call('HSET', record, 'expired_time', expired_time) end
redis.call('ZREM', kept, id)
redis.call('DEL', targets)
if not is_new then return 0 end
for _, suffix in ipairs({'', ':' .. meeting}) do
  redis.call('ZREM', index_prefix .. other_index .. suffix, member)
  redis.call('ZADD', index_prefix .. expired_index .. suffix, invoked_order, member)
end
tell_followers(events, copy_of(record))
return 1
"""
)

# ARGV is field, value, …
UPDATE = """
local record = KEYS[1]

if redis.call('EXISTS', record) == 0 then return 0 end
redis.call('HSET', record, unpack(ARGV))
return redis.call('HGETALL', record)
"""

ACTIVE = """
local active, record_prefix = KEYS[1], ARGV[1]

local newest = redis.call('ZREVRANGE', active, 0, 0)
if not newest[1] then return {} end
return redis.call('HGETALL', record_prefix .. newest[1])
"""
