-- Organizations of one hash slot that must be looked at now, longest overdue first.
--
-- KEYS: 1 index, as in settle.lua
-- ARGV: 1 most organizations

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
