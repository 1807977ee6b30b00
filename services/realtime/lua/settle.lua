-- Takes leases in, ends those that are over, and hands out what is to be announced about one
-- organization. Without leases it is the reaper. Everything happens at once, so of several
-- replicas exactly one is told of a change.
--
-- KEYS (one hash slot)
--   1 people  HASH  user → record (MessagePack)
--                     conns  connection → {rank, ms at which the lease ends}
--                     said   rank as last decided; 0 offline, 1 idle, 2 away, 3 online
--                     since  µs at which `said` began; grows with every change
--                     leave  ms at which an absence becomes leaving; 0 while anyone is there
--   2 due     ZSET  user → ms at which the record must be looked at
--   3 news    ZSET  user → ms at which the change may be handed out (again); `*` = store was empty
--   4 epoch   STRING  µs at which this organization's presence began; gone after a wipe
--   5 index   ZSET  organization → ms at which it must be looked at
-- ARGV
--   1 organization  2 lease, ms  3 leave after, ms  4 hand out again after, ms
--   5 most people looked at without a lease in this call  6 most changes handed out
--   7 n, then n × (user, connection, rank), then any × (user, connection) that closed
-- Returns {leases that ended without a goodbye, then per change: user, rank, connections, since µs}

local people, due, news, epoch, index = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local org, lease, debounce, again = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local most_due, most_news, alive = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

-- More tabs than anyone has; beyond them the leases that end first are forgotten.
local MOST_CONNECTIONS = 64
-- Outlives every lease; its absence means that the store was wiped.
local EPOCH_SECONDS = 604800

local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)

-- tostring() would write large numbers as 1.79e+15.
local function digits(number)
  return string.format('%.0f', number)
end

local touched, order = {}, {}

local function record_of(user)
  local record = touched[user]
  if not record then
    local packed = redis.call('HGET', people, user)
    record = packed and cmsgpack.unpack(packed) or { conns = {}, said = 0, since = 0, leave = 0 }
    touched[user] = record
    order[#order + 1] = user
  end
  return record
end

local function make_room(conns)
  local count, first = 0, nil
  for id, conn in pairs(conns) do
    count = count + 1
    if not first or conn[2] < conns[first][2] then first = id end
  end
  if count >= MOST_CONNECTIONS then conns[first] = nil end
end

local at = 7
for _ = 1, alive do
  local conns = record_of(ARGV[at + 1]).conns
  local id = ARGV[at + 2]
  if not conns[id] then make_room(conns) end
  conns[id] = { tonumber(ARGV[at + 3]), now + lease }
  at = at + 3
end
for closed = at + 1, #ARGV, 2 do
  record_of(ARGV[closed]).conns[ARGV[closed + 1]] = nil
end
for _, user in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, most_due)) do
  record_of(user)
end

local reaped = 0

local function settle(user, record)
  local rank, count, wake = 0, 0, nil
  for id, conn in pairs(record.conns) do
    if conn[2] <= now then
      record.conns[id] = nil
      reaped = reaped + 1
    else
      count = count + 1
      rank = math.max(rank, conn[1])
      wake = math.min(wake or conn[2], conn[2])
    end
  end
  if count > 0 or record.said == 0 then
    record.leave = 0
  else
    if record.leave == 0 then record.leave = now + debounce end
    -- A reload of a page takes a second or two; until then the person counts as they were.
    if now < record.leave then
      rank, wake = record.said, record.leave
    end
  end
  if rank ~= record.said then
    record.said = rank
    record.since = math.max(now_us, record.since + 1)
    redis.call('ZADD', news, now, user)
  end
  if wake then
    redis.call('ZADD', due, digits(wake), user)
  else
    redis.call('ZREM', due, user)
  end
  -- An offline record stays until it was announced; told.lua removes it.
  if wake or redis.call('ZSCORE', news, user) then
    redis.call('HSET', people, user, cmsgpack.pack(record))
  else
    redis.call('HDEL', people, user)
  end
end

for _, user in ipairs(order) do
  settle(user, touched[user])
end

if alive > 0 then
  if redis.call('SET', epoch, digits(now_us), 'NX', 'EX', EPOCH_SECONDS) then
    redis.call('ZADD', news, now, '*')
  else
    redis.call('EXPIRE', epoch, EPOCH_SECONDS)
  end
end

local answer = { reaped }
for _, user in ipairs(redis.call('ZRANGEBYSCORE', news, '-inf', now, 'LIMIT', 0, most_news)) do
  local change
  if user == '*' then
    change = { 0, 0, tonumber(redis.call('GET', epoch) or now_us) }
  else
    local packed = redis.call('HGET', people, user)
    if packed then
      local record, count = cmsgpack.unpack(packed), 0
      for _ in pairs(record.conns) do count = count + 1 end
      change = { record.said, count, record.since }
    end
  end
  if change then
    -- Who was handed it may die before it is announced, so it stays until told.lua.
    redis.call('ZADD', news, digits(now + again), user)
    answer[#answer + 1] = user
    for _, value in ipairs(change) do answer[#answer + 1] = value end
  else
    redis.call('ZREM', news, user)
  end
end

local next_due = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
local next_news = redis.call('ZRANGE', news, 0, 0, 'WITHSCORES')[2]
if next_due or next_news then
  local wake = math.min(tonumber(next_due or next_news), tonumber(next_news or next_due))
  redis.call('ZADD', index, digits(wake), org)
else
  redis.call('ZREM', index, org)
end
return answer
