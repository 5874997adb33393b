#!lua flags=no-writes
-- snapshot: read counters together with the last entry that is in them.
--
-- KEYS[1]    ledger of the team (stream)
-- KEYS[2]    checkpoint of the ledger (hash)
-- KEYS[3..]  hashes to read: budget windows, rollups
-- Returns    {now (Unix ms), id of the last entry or '', last entry of the checkpoint or '',
--            {fields and values in turn} of each hash, empty when there is none}

local now = redis.call('TIME')
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local hashes = {}
for index = 3, #KEYS do
  hashes[#hashes + 1] = redis.call('HGETALL', KEYS[index])
end
return {
  tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000),
  newest[1] and newest[1][1] or '',
  redis.call('HGET', KEYS[2], 'last') or '',
  hashes,
}
