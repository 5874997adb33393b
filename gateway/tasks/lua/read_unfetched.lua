#!lua flags=allow-oom
-- read_unfetched: tell what was paid for and nobody has fetched; pictures that are gone are dropped.
--
-- KEYS[1]  micro-dollars by task, and their sum (hash)
-- KEYS[2]  the same tasks by when their pictures are gone (sorted set)
-- ARGV[1]  the gateway's clock, Unix ms
-- ARGV[2]  how many tasks are dropped at the most
-- Returns  micro-dollars. Idempotent.
-- include: tasks/lua/unfetched.lua

local places = {paid = KEYS[1], ends = KEYS[2]}
local gone = redis.call('ZRANGEBYSCORE', places.ends, '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, id in ipairs(gone) do
  forget_unfetched(places, id)
end
return tonumber(redis.call('HGET', places.paid, 'total') or '0')
