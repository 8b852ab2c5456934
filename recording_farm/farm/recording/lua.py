"""The Lua scripts of `farm.recording.records`; each runs as a whole, so no reader sees half a change.

A Redis that is full refuses the commands that need memory and no others, also in the middle of a script. So
the first write of each script is one that needs some: all of it is done or nothing. To delete needs none.

A comment before each script tells its KEYS, its ARGV and what it answers.
"""

# The record as one JSON object; `change` is ours, and the timeline's entries have no brackets around them.
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

# KEYS record, active, unfinished, changes, events, index, meeting's index, idempotency, targets; ARGV id,
# order of invocation, whether several are allowed, member of the index, idempotency value or '', its seconds,
# name of the customer's target or '', the target sealed, field, value, …
# Answers {0} when it was added, {1, id} when that one blocks it, {2, value} when the idempotency key is used.
# A client that lost the answer tries again: the record is there already, and that is no refusal.
ADD = (
    COPY
    + """
if redis.call('EXISTS', KEYS[1]) == 1 then return {0} end
if ARGV[5] ~= '' then
  local taken = redis.call('GET', KEYS[8])
  if taken then return {2, taken} end
end
if ARGV[3] == '0' then
  local active = redis.call('ZREVRANGE', KEYS[2], 0, 0)
  if active[1] then return {1, active[1]} end
end
if ARGV[5] ~= '' then redis.call('SET', KEYS[8], ARGV[5], 'EX', ARGV[6]) end
redis.call('HSET', KEYS[1], unpack(ARGV, 9))
if ARGV[7] ~= '' then redis.call('HSET', KEYS[9], ARGV[7], ARGV[8]) end
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[6], ARGV[2], ARGV[4])
redis.call('ZADD', KEYS[7], ARGV[2], ARGV[4])
announce(KEYS[1], KEYS[4], KEYS[5])
return {0}
"""
)

# KEYS record, active, unfinished, events, index, meeting's index, targets, those taken over from its node;
# ARGV id, order of invocation, member of the index, whether its state is active, how many targets, name,
# target sealed, …, field, value, …
# Answers whether it was not there, or 2 when another node has taken it over: whoever deleted it meant it.
RESTORE = (
    COPY
    + """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if redis.call('SISMEMBER', KEYS[8], ARGV[1]) == 1 then return 2 end
local fields = 6 + 2 * tonumber(ARGV[5])
for i = 6, fields - 1, 2 do redis.call('HSET', KEYS[7], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], unpack(ARGV, fields))
if ARGV[4] == '1' then redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1]) end
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[5], ARGV[2], ARGV[3])
redis.call('ZADD', KEYS[6], ARGV[2], ARGV[3])
tell_followers(KEYS[4], copy_of(KEYS[1]))
return 1
"""
)

# KEYS record, active, unfinished, changes, events, kept, targets, watermark; ARGV id, token, timeline entry,
# new state, allowed present states between commas, whether the new state is active, whether it is final, what
# the indexes' keys begin with, the meeting, member of the index, order of invocation, the time (s) if files
# are kept from now on or '', the node that it must be of as JSON or '', field, value, …
# Answers {1, record}, {0, present state}, or {2} when it is another node's. The token makes a second try
# after a lost answer harmless.
CHANGE = (
    COPY
    + """
local present = redis.call('HGET', KEYS[1], 'status')
if not present then return {0, ''} end
present = cjson.decode(present)
if redis.call('HGET', KEYS[1], 'change') ~= ARGV[2] then
  if ARGV[13] ~= '' and redis.call('HGET', KEYS[1], 'node') ~= ARGV[13] then return {2} end
  if not string.find(ARGV[5], ',' .. present .. ',', 1, true) then return {0, present} end
  local timeline = redis.call('HGET', KEYS[1], 'timeline')
  timeline = (timeline and timeline ~= '') and (timeline .. ',' .. ARGV[3]) or ARGV[3]
  redis.call('HSET', KEYS[1], 'status', cjson.encode(ARGV[4]), 'timeline', timeline, 'change', ARGV[2],
             unpack(ARGV, 14))
  if ARGV[12] ~= '' then redis.call('ZADD', KEYS[6], ARGV[12], ARGV[1]) end
  if ARGV[6] == '0' then
    redis.call('ZREM', KEYS[2], ARGV[1])
    redis.call('DEL', KEYS[8])
    redis.call('HSET', KEYS[1], 'slot', 'null')
  end
  if ARGV[7] == '1' then
    redis.call('SREM', KEYS[3], ARGV[1])
    -- Without files there is nothing that the customer's keys are for.
    if ARGV[12] == '' then redis.call('DEL', KEYS[7]) end
  end
  for _, suffix in ipairs({'', ':' .. ARGV[9]}) do
    redis.call('ZREM', ARGV[8] .. present .. suffix, ARGV[10])
    redis.call('ZADD', ARGV[8] .. ARGV[4] .. suffix, ARGV[11], ARGV[10])
  end
  redis.call('PUBLISH', KEYS[1], ARGV[4])
  announce(KEYS[1], KEYS[4], KEYS[5])
end
return {1, redis.call('HGETALL', KEYS[1])}
"""
)

# KEYS record; ARGV entry, the node that it must be of as JSON or ''
# Answers whether it is not another node's.
NOTE = """
local timeline = redis.call('HGET', KEYS[1], 'timeline')
if not timeline then return 1 end
if ARGV[2] ~= '' and redis.call('HGET', KEYS[1], 'node') ~= ARGV[2] then return 0 end
-- It is there already when a client tries again because it lost the answer.
if not string.find(timeline, ARGV[1], 1, true) then
  redis.call('HSET', KEYS[1], 'timeline', timeline .. ',' .. ARGV[1])
end
return 1
"""

# KEYS record, nodes that are gone, those taken over from its node, from the new one, events, the slot; ARGV
# id, its node as JSON, the new one as JSON, its node's name, timeline entry or '', active states between
# commas, how long (s) it is remembered whose it was, the slot's number as JSON, what records' keys begin with
# Answers {1, record}, {0, present state}, or {2} when it is another node's, or its node is not gone. A client
# that lost the answer tries again: it has the recording already, and that is no refusal.
CLAIM = (
    COPY
    + """
local present = redis.call('HGET', KEYS[1], 'status')
if not present then return {0, ''} end
present = cjson.decode(present)
if not string.find(ARGV[6], ',' .. present .. ',', 1, true) then return {0, present} end
local node, slot = redis.call('HGET', KEYS[1], 'node'), redis.call('HGET', KEYS[1], 'slot') or 'null'
if node ~= ARGV[3] then
  if node ~= ARGV[2] then return {2} end
  if node ~= 'null' then
    if redis.call('HEXISTS', KEYS[2], ARGV[4]) == 0 then return {2} end
    redis.call('SADD', KEYS[3], ARGV[1])
    redis.call('EXPIRE', KEYS[3], ARGV[7])
    redis.call('SREM', KEYS[4], ARGV[1])
  end
  redis.call('HSET', KEYS[1], 'node', ARGV[3])
  if ARGV[5] ~= '' then
    redis.call('HSET', KEYS[1], 'timeline', redis.call('HGET', KEYS[1], 'timeline') .. ',' .. ARGV[5])
  end
end
if ARGV[8] ~= 'null' then
  -- The one before died in there, and nobody has gone on with it yet.
  local last = ARGV[9] .. (redis.call('GET', KEYS[6]) or '')
  local is_there = redis.call('HGET', last, 'node') == ARGV[3] and redis.call('HGET', last, 'slot') == ARGV[8]
  if last ~= KEYS[1] and is_there then redis.call('HSET', last, 'slot', 'null') end
  redis.call('SET', KEYS[6], ARGV[1], 'EX', ARGV[7])
end
if node ~= ARGV[3] or slot ~= ARGV[8] then
  redis.call('HSET', KEYS[1], 'slot', ARGV[8])
  tell_followers(KEYS[5], copy_of(KEYS[1]))
end
return {1, redis.call('HGETALL', KEYS[1])}
"""
)

# KEYS record, active, unfinished, orders, targets, kept, deleted; ARGV id, what the indexes' keys begin with,
# meeting, member of the index, final states between commas, the index of those that have expired, Unix time,
# how long (s) it is told that it was deleted
# Answers the present state if it is not final, else nothing.
DELETE = """
local present = redis.call('HGET', KEYS[1], 'status')
if not present then return false end
present = cjson.decode(present)
if not string.find(ARGV[5], ',' .. present .. ',', 1, true) then return present end
for _, index in ipairs({present, ARGV[6]}) do
  redis.call('ZREM', ARGV[2] .. index, ARGV[4])
  redis.call('ZREM', ARGV[2] .. index .. ':' .. ARGV[3], ARGV[4])
end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('DEL', KEYS[1], KEYS[4], KEYS[5])
-- It may be deleted because Redis is full; its node then keeps its evidence until that is old.
redis.pcall('ZADD', KEYS[7], ARGV[7], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[7], '-inf', ARGV[7] - ARGV[8])
return false
"""

# KEYS record, events, targets; ARGV name of the target, the transfer, allowed present states between commas
# or '' for any (NONE is that of a transfer that is not there), the target sealed or ''
# Answers {1, record} or {0, present state, or '' without a record}.
TRANSFER = (
    COPY
    + """
local record = redis.call('HGET', KEYS[1], 'transfers')
if not record then return {0, ''} end
local texts, place, present = {}, nil, 'NONE'
for i, transfer in ipairs(cjson.decode(record)) do
  texts[i] = cjson.encode(transfer)
  if transfer.target == ARGV[1] then
    place, present = i, transfer.state
  end
end
if ARGV[3] ~= '' and not string.find(ARGV[3], ',' .. present .. ',', 1, true) then return {0, present} end
texts[place or (#texts + 1)] = ARGV[2]
redis.call('HSET', KEYS[1], 'transfers', '[' .. table.concat(texts, ',') .. ']')
if ARGV[4] ~= '' then redis.call('HSET', KEYS[3], ARGV[1], ARGV[4]) end
tell_followers(KEYS[2], copy_of(KEYS[1]))
return {1, redis.call('HGETALL', KEYS[1])}
"""
)

# KEYS record, events, targets; ARGV id of the output, itself as JSON, whether it is a new one, states that
# never change between commas, how many may be going on, name of what is sealed, what is sealed or '', final
# states of recordings between commas
# Answers {1, record}; or {0, reason}: '' when there is no record, NONE when there is no such output, MANY
# when there are too many, or the state of an output or a recording that is over.
OUTPUT = (
    COPY
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return {0, ''} end
local status = cjson.decode(redis.call('HGET', KEYS[1], 'status'))
if string.find(ARGV[8], ',' .. status .. ',', 1, true) then return {0, status} end
local texts, place, present, going_on = {}, nil, 'NONE', 0
for i, output in ipairs(cjson.decode(redis.call('HGET', KEYS[1], 'outputs') or '[]')) do
  texts[i] = cjson.encode(output)
  if not string.find(ARGV[4], ',' .. output.state .. ',', 1, true) then going_on = going_on + 1 end
  if output.id == ARGV[1] then
    place, present = i, output.state
  end
end
if string.find(ARGV[4], ',' .. present .. ',', 1, true) then return {0, present} end
if ARGV[3] == '1' then
  if not place and going_on >= tonumber(ARGV[5]) then return {0, 'MANY'} end
elseif not place then
  return {0, present}
end
texts[place or (#texts + 1)] = ARGV[2]
redis.call('HSET', KEYS[1], 'outputs', '[' .. table.concat(texts, ',') .. ']')
if ARGV[7] ~= '' then redis.call('HSET', KEYS[3], ARGV[6], ARGV[7]) end
tell_followers(KEYS[2], copy_of(KEYS[1]))
return {1, redis.call('HGETALL', KEYS[1])}
"""
)

# KEYS record, events, targets, kept; ARGV id, what the indexes' keys begin with, meeting, member of the
# index, order of invocation, the index of those that have expired, of the others, time of expiry
# Answers whether it has expired just now.
EXPIRE = (
    COPY
    + """
local is_new = redis.call('HGET', KEYS[1], 'expired_time') == 'null'
if is_new then redis.call('HSET', KEYS[1], 'expired_time', ARGV[8]) end
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('DEL', KEYS[3])
if not is_new then return 0 end
for _, suffix in ipairs({'', ':' .. ARGV[3]}) do
  redis.call('ZREM', ARGV[2] .. ARGV[7] .. suffix, ARGV[4])
  redis.call('ZADD', ARGV[2] .. ARGV[6] .. suffix, ARGV[5], ARGV[4])
end
tell_followers(KEYS[2], copy_of(KEYS[1]))
return 1
"""
)

# KEYS record; ARGV field, value, …
UPDATE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV))
return redis.call('HGETALL', KEYS[1])
"""

# KEYS active; ARGV what the keys of records begin with
ACTIVE = """
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0)
if not newest[1] then return {} end
return redis.call('HGETALL', ARGV[1] .. newest[1])
"""
