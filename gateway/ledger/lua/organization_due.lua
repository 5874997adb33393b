#!lua flags=no-writes
-- organization_due: name the holds of an index that are older than some time.
--
-- KEYS[1]  open holds, or holds that are over (sorted set)
-- ARGV[1]  older than this by the store's clock, ms
-- ARGV[2]  how many at most
-- Returns  {member, score, member, score ..}, oldest first

local now = redis.call('TIME')
local now_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
return redis.call('ZRANGE', KEYS[1], '-inf', string.format('%d', now_ms - tonumber(ARGV[1])),
  'BYSCORE', 'LIMIT', 0, ARGV[2], 'WITHSCORES')
