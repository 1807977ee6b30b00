-- Forgets changes that were announced, unless something newer is to be said.
--
-- KEYS (one hash slot): 1 people  2 news  3 epoch, as in settle.lua
-- ARGV: any × (user or `*`, since µs as announced)
-- Returns how many were forgotten. The index is left alone: a look too many costs nothing.

local people, news, epoch = KEYS[1], KEYS[2], KEYS[3]
local forgotten = 0

for at = 1, #ARGV, 2 do
  local user, since = ARGV[at], ARGV[at + 1]
  if user == '*' then
    if (redis.call('GET', epoch) or since) == since then
      forgotten = forgotten + redis.call('ZREM', news, user)
    end
  else
    local packed = redis.call('HGET', people, user)
    local record = packed and cmsgpack.unpack(packed)
    if not record or string.format('%.0f', record.since) == since then
      forgotten = forgotten + redis.call('ZREM', news, user)
      if record and record.said == 0 and not next(record.conns) then
        redis.call('HDEL', people, user)
      end
    end
  end
end
return forgotten
