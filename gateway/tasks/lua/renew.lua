#!lua flags=allow-oom
-- renew: say that a replica lives, and hear who else does.
--
-- KEYS[1]  replicas (sorted set, by last renewal)
-- ARGV[1]  this replica
-- ARGV[2]  how long a renewal holds, ms
-- ARGV[3]  '1' to renew, '0' to say goodbye
-- Returns  the replicas that live

local now = redis.call('TIME')
local now_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
if ARGV[3] == '1' then
  redis.call('ZADD', KEYS[1], string.format('%d', now_ms), ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
local oldest = string.format('%d', now_ms - tonumber(ARGV[2]))
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. oldest)
return redis.call('ZRANGE', KEYS[1], 0, -1)
