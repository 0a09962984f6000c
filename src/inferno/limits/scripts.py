"""What the limiter in Redis runs there: one script for each call, each of them atomic.

A subject has seven keys in one cluster slot. For each window a sorted set holds the entries
(member: the microsecond at which the entry began; score: the time that it bears) and a hash their
weights, with their sum in the field `total`. The leases of those that run are a sorted set of ids
by the time at which they end. All keys expire by themselves.

Time is that of Redis, in whole microseconds; Lua's numbers hold them exactly until the year 2255.
When that clock goes back, entries from the future are taken to be of now: they count for one window
more at most, and nothing is forgotten early.
"""

from __future__ import annotations

KEYS = ("minute", "minute-weights", "hour", "hour-weights", "tokens", "token-weights", "leases")
"""The last parts of a subject's keys, in the order in which all scripts take them."""

_SHARED = """
local function text(number) return string.format('%.0f', number) end

local function window(first, length, exact)
  return {log = KEYS[first], weights = KEYS[first + 1], length = length, exact = exact}
end

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local minute = window(1, tonumber(ARGV[1]), tonumber(ARGV[3]))
local hour = window(3, tonumber(ARGV[2]), tonumber(ARGV[3]))
local tokens = window(5, tonumber(ARGV[1]), tonumber(ARGV[4]))
local leases = KEYS[7]

-- Forget what has left the window; the arguments of HMGET and HDEL go through Lua's small stack.
local function expire(w, members)
  local gone = 0
  for first = 1, #members, 1000 do
    local last = math.min(first + 999, #members)
    for _, weight in ipairs(redis.call('HMGET', w.weights, unpack(members, first, last))) do
      gone = gone + (tonumber(weight) or 0)
    end
    redis.call('HDEL', w.weights, unpack(members, first, last))
  end
  redis.call('ZREMRANGEBYSCORE', w.log, '-inf', text(now - w.length))
  redis.call('HINCRBY', w.weights, 'total', text(-gone))
end

-- Bring a window up to now; sets its total and its newest entry.
local function advance(w)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', w.log, '(' .. text(now), '+inf')) do
    redis.call('ZADD', w.log, text(now), member)
  end
  local old = redis.call('ZRANGEBYSCORE', w.log, '-inf', text(now - w.length))
  if #old > 0 then expire(w, old) end
  w.count = redis.call('ZCARD', w.log)
  if w.count == 0 then redis.call('DEL', w.weights) end
  w.total = tonumber(redis.call('HGET', w.weights, 'total')) or 0
end

local function add(w, weight)
  local entry = text(now)
  if w.count >= w.exact then
    local newest = redis.call('ZRANGE', w.log, -1, -1)[1]
    if math.abs(now - tonumber(newest)) < math.floor(w.length / w.exact) then entry = newest end
  end
  redis.call('ZADD', w.log, text(now), entry)
  redis.call('HINCRBY', w.weights, entry, text(weight))
  redis.call('HINCRBY', w.weights, 'total', text(weight))
  local lifetime = text(math.ceil(w.length / 1000) + 1000)
  redis.call('PEXPIRE', w.log, lifetime)
  redis.call('PEXPIRE', w.weights, lifetime)
  w.total = w.total + weight
  return entry
end

local function take(w, entry, weight)
  local held = entry ~= '' and tonumber(redis.call('HGET', w.weights, entry))
  if not held then return end
  if held > weight then
    redis.call('HINCRBY', w.weights, entry, text(-weight))
  else
    weight = held
    redis.call('HDEL', w.weights, entry)
    redis.call('ZREM', w.log, entry)
  end
  redis.call('HINCRBY', w.weights, 'total', text(-weight))
end

-- The time of the entry with which so much has left the window.
local function leaving(w, excess)
  if w.count == w.total then  -- each weighs 1
    local rank = text(excess - 1)
    return tonumber(redis.call('ZRANGE', w.log, rank, rank, 'WITHSCORES')[2])
  end
  for first = 0, w.count - 1, 100 do
    local entries = redis.call('ZRANGE', w.log, first, first + 99)
    for index, weight in ipairs(redis.call('HMGET', w.weights, unpack(entries))) do
      excess = excess - (tonumber(weight) or 0)
      if excess <= 0 then return tonumber(redis.call('ZSCORE', w.log, entries[index])) end
    end
  end
  return now
end

-- Microseconds until so much more fits; the window's length where it never does.
local function wait(w, weight, limit)
  local excess = w.total + weight - limit
  if limit < 0 or excess <= 0 then return 0 end
  if excess > w.total then return w.length end
  return leaving(w, excess) + w.length - now
end

local function reset_after(w)
  local oldest = redis.call('ZRANGE', w.log, 0, 0, 'WITHSCORES')[2]
  return oldest and tonumber(oldest) + w.length - now or 0
end

-- Of the window that the headers speak of.
local function standing(which)
  return reset_after(which == 'hour' and hour or minute)
end

local function count_leases()
  redis.call('ZREMRANGEBYSCORE', leases, '-inf', text(now))
  return redis.call('ZCARD', leases)
end
"""

ADMIT = (
    _SHARED
    + """
local id, lifetime = ARGV[6], tonumber(ARGV[7])
local per_minute, per_hour, places = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
advance(minute)
advance(hour)
local running = count_leases()
local full = places >= 0 and running >= places
local waits = {wait(minute, 1, per_minute), wait(hour, 1, per_hour)}
if full or waits[1] > 0 or waits[2] > 0 then
  return {0, full and 1 or 0, waits[1], waits[2], minute.total, hour.total, standing(ARGV[5])}
end
local in_minute = per_minute >= 0 and add(minute, 1) or ''
local in_hour = per_hour >= 0 and add(hour, 1) or ''
for _, ahead in ipairs(redis.call('ZRANGEBYSCORE', leases, '(' .. text(now + lifetime), '+inf')) do
  redis.call('ZADD', leases, text(now + lifetime), ahead)  -- the clock went back
end
redis.call('ZADD', leases, text(now + lifetime), id)
redis.call('PEXPIRE', leases, text(math.ceil(lifetime / 1000) + 1000))
return {1, in_minute, in_hour, minute.total, hour.total, standing(ARGV[5])}
"""
)
"""Takes id, microseconds of its lease, limits (-1: none) of minute, hour and places."""

RESERVE = (
    _SHARED
    + """
local id, weight, limit = ARGV[6], tonumber(ARGV[9]), tonumber(ARGV[10])
advance(tokens)
local needed = wait(tokens, weight, limit)
if needed == 0 then
  return {1, weight > 0 and add(tokens, weight) or ''}
end
take(minute, ARGV[7], 1)
take(hour, ARGV[8], 1)
redis.call('ZREM', leases, id)
advance(minute)
advance(hour)
return {0, needed, minute.total, hour.total, standing(ARGV[5])}
"""
)
"""Takes id, entries in minute and hour, tokens, their limit."""

SETTLE = (
    _SHARED
    + """
local id, entry, reserved, used = ARGV[6], ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
if redis.call('ZREM', leases, id) == 0 then return 0 end
if used >= 0 and used < reserved then
  take(tokens, entry, reserved - used)
elseif used > reserved then
  advance(tokens)
  add(tokens, used - reserved)
end
return 1
"""
)
"""Takes id, entry in tokens, what it weighs, what was used (-1: as reserved)."""

STANDING = (
    _SHARED
    + """
advance(minute)
advance(hour)
advance(tokens)
return {minute.total, hour.total, tokens.total, count_leases()}
"""
)

RESET = """
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6])
return 1
"""
