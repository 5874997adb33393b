#!lua flags=no-writes
-- living: hear which replicas live, without being one.
--
-- KEYS[1]  replicas (sorted set, by last renewal)
-- ARGV[1]  how long a renewal holds, ms
-- Returns  the replicas that live

local now = redis.call('TIME')
local now_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local oldest = string.format('%d', now_ms - tonumber(ARGV[1]))
return redis.call('ZRANGEBYSCORE', KEYS[1], oldest, '+inf')
