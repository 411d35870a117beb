"""The Lua scripts of the buffer: each is one atomic step. Only commands that Redis 7.0 has.

KEYS of every script: buffer, meta, lost, and where it is used a fourth. Numbers leave Lua as text through
`int`, because Lua would print 1700000000000 as 1.7e+12.
"""

from __future__ import annotations

_PRELUDE = r"""
local buffer, meta, lost = KEYS[1], KEYS[2], KEYS[3]
local function int(n) return string.format('%.0f', n) end
local function split(member) return string.match(member, '^{"epoch":(%d+),"seq":(%d+)(.*)$') end

-- The numbering: epoch, next, start; nil when there is none. Meta gone but members there: rebuilt from them.
local function numbering()
  local m = redis.call('HMGET', meta, 'epoch', 'next', 'start')
  if m[1] and m[2] and m[3] then return tonumber(m[1]), tonumber(m[2]), tonumber(m[3]) end
  local last = redis.call('ZRANGE', buffer, -1, -1)[1]
  if not last then return nil end
  local epoch, seq = split(last)
  local _, first = split(redis.call('ZRANGE', buffer, 0, 0)[1])
  redis.call('HSET', meta, 'epoch', epoch, 'next', int(tonumber(seq) + 1), 'start', first)
  return tonumber(epoch), tonumber(seq) + 1, tonumber(first)
end

-- A new epoch: what is above `above` is numbered anew from 1, the rest is forgotten.
local function renumber(epoch, above, floor, now)
  local fresh = math.max(now, floor, epoch + 1)
  local members = redis.call('ZRANGE', buffer, 0, -1)
  redis.call('DEL', buffer)
  local n = 0
  for _, member in ipairs(members) do
    local _, seq, rest = split(member)
    if tonumber(seq) > above then
      n = n + 1
      redis.call('ZADD', buffer, n, '{"epoch":' .. int(fresh) .. ',"seq":' .. int(n) .. rest)
    end
  end
  redis.call('HSET', meta, 'epoch', int(fresh), 'next', int(n + 1), 'start', '1', 'previous', int(epoch))
  return fresh, n + 1, 1
end
"""

# Number and buffer entries. Answer: status, epoch, next, start, first, broke (-1: unbroken), previous epoch.
APPEND = (
    _PRELUDE
    + r"""
local token, now = ARGV[1], tonumber(ARGV[2])
local seen_epoch, seen_next, seen_start = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local room, drop_oldest = tonumber(ARGV[6]), ARGV[7] == '1'
local skip, skip_reason = tonumber(ARGV[8]), ARGV[9]
local expect_epoch, expect_next = tonumber(ARGV[10]), tonumber(ARGV[11])
local fields = tonumber(ARGV[12])
local tails_from = 13 + 2 * fields
local count = #ARGV - tails_from + 1

local epoch, next, start = numbering()
local said = redis.call('GET', KEYS[4])
if said then
  local old_token, old_epoch, first = string.match(said, '^([^|]*)|(%d+)|(%d+)$')
  -- Carried out already. Where the entries were numbered anew since, their numbers are unknown: 0.
  if old_token == token and epoch then
    return {'ok', epoch, next, start, epoch == tonumber(old_epoch) and tonumber(first) or 0, -1, -1}
  end
end

local broke = -1
if expect_epoch >= 0 then
  if epoch ~= expect_epoch or next ~= expect_next then
    return {'unexpected', epoch or -1, next or 0, start or 0, 0, -1, -1}
  end
elseif not epoch then
  epoch, next, start = math.max(now, seen_epoch + 1), 1, 1
  redis.call('HSET', meta, 'epoch', int(epoch), 'next', '1', 'start', '1')
  if seen_epoch >= 0 then broke = 1 end
elseif epoch < seen_epoch then
  broke = 1
  epoch, next, start = renumber(epoch, 0, seen_epoch + 1, now)
elseif epoch == seen_epoch and next < seen_next then
  broke = next
  epoch, next, start = renumber(epoch, seen_start - 1, 0, now)
end

local over = redis.call('ZCARD', buffer) + count - room
if over > 0 then
  if not drop_oldest then return {'full', epoch, next, start, 0, broke, -1} end
  redis.call('ZPOPMIN', buffer, over)
  local lowest = redis.call('ZRANGE', buffer, 0, 0)[1]
  local _, seq = split(lowest or '')
  start = tonumber(seq or next)
  redis.call('HSET', meta, 'start', int(start))
  redis.call('HINCRBY', meta, 'dropped', int(over))
end

local first = next
local prefix = '{"epoch":' .. int(epoch) .. ',"seq":'
local pairs_of = {}
for i = tails_from, #ARGV do
  pairs_of[#pairs_of + 1] = int(next)
  pairs_of[#pairs_of + 1] = prefix .. int(next) .. ',' .. ARGV[i]
  next = next + 1
  if #pairs_of == 1000 or i == #ARGV then
    redis.call('ZADD', buffer, unpack(pairs_of))
    pairs_of = {}
  end
end
if skip > 0 then
  redis.call('HSET', lost, int(epoch) .. ':' .. int(next) .. ':' .. int(next + skip - 1), skip_reason)
  next = next + skip
end
redis.call('HSET', meta, 'next', int(next))
for i = 0, fields - 1 do redis.call('HSET', meta, ARGV[13 + 2 * i], ARGV[14 + 2 * i]) end
redis.call('SET', KEYS[4], token .. '|' .. int(epoch) .. '|' .. int(first), 'EX', 600)
return {'ok', epoch, next, start, first, broke, tonumber(redis.call('HGET', meta, 'previous') or -1)}
"""
)

# Read up to a number of members and bytes, lowest first, with the numbering and what is to be told as lost.
LOAD = (
    _PRELUDE
    + r"""
local epoch, next, start = numbering()
if not epoch then return {-1, 0, 0, {}, {}} end
local first, last, limit, bytes = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local members, offset = {}, 0
while #members < limit and bytes > 0 do
  local size = math.min(32, limit - offset)
  local slice = redis.call('ZRANGEBYSCORE', buffer, first, last, 'LIMIT', offset, size)
  if #slice == 0 then break end
  for _, member in ipairs(slice) do
    bytes = bytes - #member - 1
    if bytes < 0 and #members > 0 then break end
    members[#members + 1] = member
  end
  offset = offset + #slice
end
local notes = {}
if redis.call('HLEN', lost) > 0 then notes = redis.call('HGETALL', lost) end
return {epoch, next, start, members, notes}
"""
)

# Forget what is acknowledged. Refused (0) when the lease or the numbering is another one by now.
TRIM = (
    _PRELUDE
    + r"""
local epoch, next, start = numbering()
local till = tonumber(ARGV[2])
if not epoch or epoch ~= tonumber(ARGV[1]) or next <= till then return 0 end
if redis.call('GET', KEYS[4]) ~= ARGV[3] then return 0 end
redis.call('ZREMRANGEBYSCORE', buffer, '-inf', int(till))
if start <= till then redis.call('HSET', meta, 'start', int(till + 1)) end
return 1
"""
)

# Move a refused entry out of the way: from the buffer to `:rejected`, its number to `:lost`.
REJECT = (
    _PRELUDE
    + r"""
local epoch = numbering()
if epoch ~= tonumber(ARGV[1]) then return 0 end
local member = redis.call('ZRANGEBYSCORE', buffer, ARGV[2], ARGV[2])[1]
if not member then return 0 end
redis.call('LPUSH', KEYS[4], '{"reason":' .. cjson.encode(ARGV[3]) .. ',"entry":' .. member .. '}')
redis.call('LTRIM', KEYS[4], 0, tonumber(ARGV[4]) - 1)
redis.call('ZREMRANGEBYSCORE', buffer, ARGV[2], ARGV[2])
redis.call('HSET', lost, ARGV[1] .. ':' .. ARGV[2] .. ':' .. ARGV[2], 'rejected')
return 1
"""
)

# An older buffer came back, or the server knows a newer epoch: number anew. Only out of the epoch given.
RENUMBER = (
    _PRELUDE
    + r"""
local epoch, next, start = numbering()
if not epoch then return {-1, 0, 0} end
if epoch == tonumber(ARGV[1]) and redis.call('GET', KEYS[4]) == ARGV[5] then
  epoch, next, start = renumber(epoch, tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
end
return {epoch, next, start}
"""
)

# Go on in a numbering that the caller names (`tracehub ship`: a file). 0 while the buffer holds anything.
OPEN = (
    _PRELUDE
    + r"""
if redis.call('ZCARD', buffer) > 0 then return 0 end
redis.call('HSET', meta, 'epoch', ARGV[1], 'next', ARGV[2], 'start', ARGV[2])
return 1
"""
)

# Give numbers up: remembered until the server has been told.
NOTE_LOST = r"""
for i = 1, #ARGV, 2 do redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1]) end
return 1
"""

FORGET_LOST = r"""
for i = 1, #ARGV do redis.call('HDEL', KEYS[3], ARGV[i]) end
return 1
"""

# Take or keep the right to send: 1, or 0 when another instance has it.
LEASE = r"""
local holder = redis.call('GET', KEYS[4])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[4], ARGV[1], 'PX', ARGV[2])
return 1
"""

RELEASE = r"""
if redis.call('GET', KEYS[4]) == ARGV[1] then return redis.call('DEL', KEYS[4]) end
return 0
"""
