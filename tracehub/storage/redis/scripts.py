"""The scripts of the queue's Redis. Each changes a job and its in-flight mark together, or neither.

Invariant: `inflight-totals` is the sum over `inflight-index`, and the index names exactly the marks that
exist; nothing else writes these keys. Only commands that Redis 7.0 has.
"""

from __future__ import annotations

from typing import Final

# One worker is woken for a job: the one that fell idle last, whose caches are warm, and not the crowd. A name
# nobody listens to any more is forgotten. When nobody is idle, or the job is so small that whoever runs the
# others shall take it along, it is only said aloud: who is busy looks soon, who is idle looks later.
_WAKE: Final = """
local function wake(idle, channel, small)
  while not small do
    local last = redis.call('ZPOPMAX', idle)[1]
    if not last then break end
    if redis.call('PUBLISH', channel .. ':' .. last, '1') > 0 then return end
  end
  redis.call('PUBLISH', channel, '1')
end
"""

# KEYS body, queue, mark, index, totals, idle. ARGV id, body, mark, entries, bytes, score, ttl, entries_max,
# bytes_max, wake, small. Returns 1, or 0 when too much is waiting.
# A client may send it twice over a broken connection, so a job that is marked already is left alone.
ENQUEUE: Final = (
    _WAKE
    + """
if redis.call('HEXISTS', KEYS[4], ARGV[1]) == 1 then return 1 end
local entries = tonumber(redis.call('HGET', KEYS[5], 'entries') or '0')
local bytes = tonumber(redis.call('HGET', KEYS[5], 'bytes') or '0')
if entries > 0 and (entries + ARGV[4] > tonumber(ARGV[8]) or bytes + ARGV[5] > tonumber(ARGV[9])) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[7])
redis.call('ZADD', KEYS[2], ARGV[6], ARGV[1])
redis.call('SET', KEYS[3], ARGV[3])
redis.call('HSET', KEYS[4], ARGV[1], ARGV[4] .. ':' .. ARGV[5])
redis.call('HINCRBY', KEYS[5], 'entries', ARGV[4])
redis.call('HINCRBY', KEYS[5], 'bytes', ARGV[5])
wake(KEYS[6], ARGV[10], entries > 0 and entries + ARGV[4] <= tonumber(ARGV[11]))
return 1
"""
)

_UNMARK = """
local function unmark(index, totals, prefix, id)
  local size = redis.call('HGET', index, id)
  redis.call('DEL', prefix .. id)
  if size then
    local at = string.find(size, ':')
    redis.call('HINCRBY', totals, 'entries', -tonumber(string.sub(size, 1, at - 1)))
    redis.call('HINCRBY', totals, 'bytes', -tonumber(string.sub(size, at + 1)))
    redis.call('HDEL', index, id)
  end
end
"""

# What a tenant's answers are compared with: n commits and d deletions so far, c commits in this second s, p in the
# one before.
_COMMITTED: Final = """
local function committed(key)
  local second = redis.call('TIME')[1]
  local was = redis.call('HMGET', key, 's', 'c')
  if was[1] ~= second then
    local before = 0
    if was[1] and tonumber(was[1]) == tonumber(second) - 1 then before = was[2] end
    redis.call('HSET', key, 's', second, 'c', 0, 'p', before)
  end
  redis.call('HINCRBY', key, 'c', 1)
  redis.call('HINCRBY', key, 'n', 1)
end
"""

# The commits of the last minutes, by reference. Trimmed by number each time, which costs nothing, and by age.
_FOLLOW: Final = """
local function follow(key, record)
  if record ~= '' then
    local id = redis.call('XADD', key, 'MAXLEN', '~', 100000, '*', 'c', record)
    local ms = tonumber(string.match(id, '%d+'))
    if ms % 64 == 0 then redis.call('XTRIM', key, 'MINID', '~', string.format('%.0f', ms - 600000)) end
  end
end
"""

# KEYS commits, generations of tenants. ARGV record, channel, payload. Something was committed without a receipt.
COMMITTED: Final = (
    _COMMITTED
    + _FOLLOW
    + """
for i = 2, #KEYS do committed(KEYS[i]) end
follow(KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
"""
)

# KEYS generation, answer. ARGV for how long (ms) a busy tenant's answer may be behind, or 0. Returns n, d and, when
# it is still true enough, the answer.
CACHED: Final = """
local now = redis.call('TIME')
local g = redis.call('HMGET', KEYS[1], 'n', 'd', 's', 'c', 'p')
local n, d = g[1] or '0', g[2] or '0'
local a = redis.call('HMGET', KEYS[2], 'n', 'd', 't', 'body')
if not a[4] or a[2] ~= d then return {n, d} end
if a[1] ~= n then
  local second = tonumber(now[1]) - tonumber(g[3] or '0')
  local busy = second == 0 and (tonumber(g[4]) > 10 or tonumber(g[5]) > 10) or second == 1 and tonumber(g[4]) > 10
  local age = tonumber(now[1]) * 1000 + tonumber(now[2]) / 1000 - tonumber(a[3])
  if not busy or age > tonumber(ARGV[1]) then return {n, d} end
end
return {n, d, a[4]}
"""

# KEYS answer. ARGV n, d, body, time to live (ms).
REMEMBER: Final = """
local now = redis.call('TIME')
local ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
redis.call('HSET', KEYS[1], 'n', ARGV[1], 'd', ARGV[2], 't', ms, 'body', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
"""

# KEYS index, totals, queue, queue, commits, generations of tenants. ARGV mark prefix, body prefix, in-progress prefix,
# record of the commit or '', n, n ids, then pairs of channel and payload. The jobs end: their marks, bodies, leases and
# queue entries go, and it is said.
SETTLE: Final = (
    _UNMARK
    + _COMMITTED
    + _FOLLOW
    + """
for i = 6, #KEYS do committed(KEYS[i]) end
follow(KEYS[5], ARGV[4])
local n = tonumber(ARGV[5])
for i = 6, n + 5 do
  unmark(KEYS[1], KEYS[2], ARGV[1], ARGV[i])
  redis.call('DEL', ARGV[2] .. ARGV[i], ARGV[3] .. ARGV[i])
  if redis.call('ZREM', KEYS[3], ARGV[i]) == 0 then redis.call('ZREM', KEYS[4], ARGV[i]) end
end
for i = n + 6, #ARGV, 2 do redis.call('PUBLISH', ARGV[i], ARGV[i + 1]) end
return n
"""
)

# KEYS index. ARGV prefix. Returns id, mark, id, mark, …
MARKS: Final = """
local found = {}
for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
  local mark = redis.call('GET', ARGV[1] .. id)
  if mark then
    found[#found + 1] = id
    found[#found + 1] = mark
  end
end
return found
"""

# KEYS queue, idle. ARGV in-progress prefix, body prefix, now, lease, how many at most, how many to look at, the
# worker's name when it runs nothing. Leases due jobs that nobody runs; returns id, score, body (or ''), id,
# score, body, … In the same step a worker that finds nothing is idle, so no job can come in between.
CLAIM: Final = """
local claimed = {}
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[3], 'WITHSCORES', 'LIMIT', 0, ARGV[6])
for i = 1, #due, 2 do
  if #claimed >= 3 * tonumber(ARGV[5]) then break end
  if redis.call('SET', ARGV[1] .. due[i], '1', 'NX', 'PX', ARGV[4]) then
    claimed[#claimed + 1] = due[i]
    claimed[#claimed + 1] = due[i + 1]
    claimed[#claimed + 1] = redis.call('GET', ARGV[2] .. due[i]) or ''
  end
end
if ARGV[7] ~= '' then
  if #claimed == 0 then redis.call('ZADD', KEYS[2], ARGV[3], ARGV[7]) else redis.call('ZREM', KEYS[2], ARGV[7]) end
end
return claimed
"""

# KEYS from, to, idle. ARGV id, score, wake. The mark and the body stay: they follow the job.
MOVE: Final = (
    _WAKE
    + """
if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 then
  redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
  wake(KEYS[3], ARGV[3])
end
return 1
"""
)

# KEYS queue, body, idle. ARGV id, body, score, ttl, wake. Returns 1 when the job is new.
ENQUEUE_ONCE: Final = (
    _WAKE
    + """
if redis.call('ZADD', KEYS[1], 'NX', ARGV[3], ARGV[1]) == 0 then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[4])
wake(KEYS[3], ARGV[5])
return 1
"""
)

# KEYS index, totals, queue, queue. ARGV mark prefix, body prefix, in-progress prefix. Takes away marks whose
# job neither waits nor runs; returns how many.
SWEEP: Final = (
    _UNMARK
    + """
local swept = 0
for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
  local waits = redis.call('ZSCORE', KEYS[3], id) or redis.call('ZSCORE', KEYS[4], id)
  local runs = redis.call('EXISTS', ARGV[3] .. id) == 1
  if not runs and not (waits and redis.call('EXISTS', ARGV[2] .. id) == 1) then
    unmark(KEYS[1], KEYS[2], ARGV[1], id)
    redis.call('DEL', ARGV[2] .. id)
    swept = swept + 1
  end
end
return swept
"""
)

# KEYS index, totals, queue, queue. ARGV mark prefix, body prefix, in-progress prefix, cron prefix, channel.
# Everything that waits goes; what runs goes on. Returns the ids.
FLUSH: Final = (
    _UNMARK
    + """
local gone = {}
for q = 3, 4 do
  for _, id in ipairs(redis.call('ZRANGE', KEYS[q], 0, -1)) do
    if string.sub(id, 1, #ARGV[4]) ~= ARGV[4] and redis.call('EXISTS', ARGV[3] .. id) == 0 then
      redis.call('ZREM', KEYS[q], id)
      redis.call('DEL', ARGV[2] .. id)
      unmark(KEYS[1], KEYS[2], ARGV[1], id)
      gone[#gone + 1] = id
    end
  end
end
if #gone > 0 then redis.call('PUBLISH', ARGV[5], table.concat(gone, '\\n')) end
return gone
"""
)
